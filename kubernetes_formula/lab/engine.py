"""The Docker engine the lab runs on: the one that answers, or (on request) a daemon of our own.

The first step of `lab up`. A second daemon beside a running one would take its bridge away, so ours is started
only when none answers and only with `--start-docker`; `lab down` stops it again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes_formula.lab.place import Place
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    import docker

START_SECONDS = 30
ANSWER_SECONDS = 3600  #: the longest silence of one request: applying states says nothing until its end


def connect(place: Place, docker_host: str | None = None) -> docker.DockerClient:
    """A client of `docker_host`, else of our own daemon if it runs, else of DOCKER_HOST or the default socket.

    Raises OperatorError E801 when none answers.
    """
    import docker

    if docker_host is None and _own_pid(place.docker) is not None:
        docker_host = _socket(place.docker)
    try:
        client = (
            docker.DockerClient(base_url=docker_host, timeout=ANSWER_SECONDS)
            if docker_host
            else docker.from_env(timeout=ANSWER_SECONDS)
        )
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        tried = docker_host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        reason, hint = _reason(error), "start it, or let the lab run one of its own: --start-docker"
        if "Permission denied" in reason:
            hint = "run it as root"
        elif shutil.which("dockerd") is None:
            hint = "apt-get install docker.io, then start it or use --start-docker"
        raise OperatorError(f"no Docker answers on {tried} ({reason})", code="E801", hint=hint) from error
    return client


def start(place: Place, progress: Callable[[str], None]) -> None:
    """Start a Docker daemon of our own (root), unless one answers already.

    Raises OperatorError E802 when it cannot be started; its log stays in the lab's folder.
    """
    try:
        connect(place)
    except OperatorError:
        if shutil.which("dockerd") is None:
            raise
    else:
        return
    folder = place.docker
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"starting a Docker daemon of our own in {folder}")
    log = folder / "dockerd.log"
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            [
                "dockerd",
                "--data-root",
                str(folder / "data"),
                "--exec-root",
                str(folder / "exec"),
                "--host",
                _socket(folder),
                "--pidfile",
                str(folder / "pid"),
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and daemon.poll() is None:
        time.sleep(0.5)
        try:
            connect(place, _socket(folder))
            return
        except OperatorError:
            continue
    raise OperatorError(
        "dockerd ended" if daemon.poll() is not None else f"dockerd did not answer within {START_SECONDS} s",
        code="E802",
        file=str(log),
        hint="its log says why",
    )


def stop(place: Place) -> bool:
    """Stop the daemon that `start` started and delete its data; False when there is none."""
    pid = _own_pid(place.docker)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        while _own_pid(place.docker) == pid:
            time.sleep(0.2)
    if place.docker.exists():
        shutil.rmtree(place.docker, ignore_errors=True)
    return pid is not None


def socket_path(client: docker.DockerClient) -> Path | None:
    """The engine's Unix socket on this machine, or None when the engine is reached otherwise."""
    address = url(client)
    return Path(address.removeprefix("unix://")) if address.startswith("unix://") else None


def url(client: docker.DockerClient) -> str:
    """The engine's address, as `docker --host` takes it."""
    socket = getattr(client.api._custom_adapter, "socket_path", None)
    return f"unix://{socket}" if socket else str(client.api.base_url)


def _socket(folder: Path) -> str:
    return f"unix://{folder / 'docker.sock'}"


def _own_pid(folder: Path) -> int | None:
    try:
        pid = int((folder / "pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _reason(error: Exception) -> str:
    """The innermost reason of a wrapped connection error, in its own words."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return str(inner).split("\n")[0]
