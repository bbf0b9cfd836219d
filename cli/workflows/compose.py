"""The model's services by Docker Compose here: their images, the file, its secrets, the program that runs it.

In the order of `up`: the images are made on this Docker host, the file and the secrets are written, Compose starts the
services while their states are watched, and the checks that end a deployment are asked. Each of these may be done
already; killed at any moment and run again, it goes on. Only `down` removes what is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cli.workflows.overlay import control_of, images_of, pod_images_of
from cli.workflows.places import placed
from reclass_model.cache import cache_directory
from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from cli.workflows.smoke import Check
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

PLUGIN = "docker-compose (Debian), docker-compose-v2 (Ubuntu) or docker-compose-plugin (Docker's packages)"
CLASS = "system.compose"  #: what differs on one machine, over the model's own
FILE = "compose.yml"
PAUSE_SECONDS = 0.5
READY_SECONDS = 300.0  #: after Compose has started the last service
CRASHES = 5  #: a service that ended as often, and does not serve, will not
SETTLED = ("running", "healthy", "done")
TAIL_LINES = 10  #: of a failed service's log

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """A container and how it is: created, starting, running, healthy, unhealthy, restarting, stopped; a Job's: working,
    done; failed.
    """

    name: str
    state: str
    detail: str
    container: str

    @property
    def settled(self) -> bool:
        """Whether nothing is waited for any more."""
        return self.state in SETTLED

    @property
    def broken(self) -> bool:
        """Whether waiting is of no use."""
        return self.state in ("failed", "unhealthy")


def here(inventory: Inventory) -> Inventory:
    """The model as it runs on one machine."""
    return inventory.with_class(CLASS)


def directory_of(repository: Repository) -> Path:
    """Where the file and its secrets lie: outside of the repository."""
    return cache_directory() / "compose" / repository.settings.cluster_name


@placed
def rendered(inventory: Inventory, keyring: Keyring | None = None) -> dict[str, Any]:
    """The Compose file; without a keyring its secret variables are masked."""
    from kubernetes_formula.manifests import compose
    from reclass_model.inventory import get

    address = str(get(inventory.config_node().parameters, "_param:public_address"))
    reveal = keyring.reveal if keyring else None
    return compose(control_of(inventory), pod_images_of(inventory), reveal, address)


@placed
def make_images(inventory: Inventory, progress: Progress) -> None:
    """Have the images of the services on this Docker host, the one where they run; no registry is asked."""
    from openstack_images.load import load
    from openstack_images.package import Builder
    from reclass_model.inventory import get

    used = {service["image"] for service in rendered(inventory)["services"].values()}
    wanted = {role: image for role, image in images_of(inventory).items() if image.reference in used}
    mirror = get(inventory.config_node().parameters, "openstack:package_mirror", None)
    load(wanted, Builder(mirror=mirror), progress)


@placed
def write(inventory: Inventory, keyring: Keyring) -> Path:
    """Write the file, its secrets and the clients' files into a directory closed to others.

    Compose keeps the owners of secret files, so they are open to all inside of it.
    """
    from cli.output.structured import dump
    from cli.workflows.credentials import write_credentials
    from kubernetes_formula.manifests import secret_files
    from reclass_model.repository import write_atomically

    directory = directory_of(inventory.repository)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in secret_files(control_of(inventory), pod_images_of(inventory), keyring.reveal).items():
        write_atomically(directory / path, text, 0o444)
    write_credentials(inventory, keyring, directory)
    write_atomically(directory / FILE, dump(rendered(inventory, keyring), "yaml"), 0o600)
    return directory


def up(inventory: Inventory, keyring: Keyring, progress: Progress) -> list[Check]:
    """Everything from images to checks; the checks. OperatorError E045 names the services that failed, and why."""
    from cli.workflows.smoke import run_checks
    from kubernetes_formula.manifests import left_out

    compose_program()
    make_images(inventory, progress)
    file = directory_of(inventory.repository) / FILE
    before = file.read_text() if file.exists() else None
    directory = write(inventory, keyring)
    if file.read_text() == before and _all_settled(inventory, directory):
        progress("the services are as the model says")  # Compose would run every Job once more
    else:
        start(directory, progress)
    return run_checks(inventory, keyring, progress, without=left_out(control_of(inventory)))


def _all_settled(inventory: Inventory, directory: Path) -> bool:
    """Whether every service is there, as it should be."""
    found = services(directory)
    names = {service.name for service in found}
    return names == rendered(inventory)["services"].keys() and all(service.settled for service in found)


def start(directory: Path, progress: Progress) -> None:
    """Start the services, telling what becomes of them, until all serve. OperatorError E045 as soon as one cannot."""
    told: dict[str, str] = {}
    before = {service for service in services(directory) if service.broken}  # of an earlier run: tried again

    def look() -> bool:
        """Whether all are there, as they should be."""
        found = services(directory)
        for service in found:
            if told.get(service.name) != service.state:
                told[service.name] = service.state
                progress(f"{service.name}: {service.state}")
        if failed := [service for service in found if service.broken and service not in before]:
            raise _failed(failed)
        return all(service.settled for service in found)

    with _compose(directory, "up", "--detach", "--remove-orphans") as (process, output):
        while process.poll() is None:
            look()
            time.sleep(PAUSE_SECONDS)
        look()
        if process.returncode:
            if failed := [service for service in services(directory) if service.state == "restarting"]:
                raise _failed(failed)
            raise OperatorError(f"Docker Compose failed:\n{_text(output)}", code="E045")
    end = time.monotonic() + READY_SECONDS
    while not look():
        if time.monotonic() > end:
            waiting = ", ".join(name for name, state in sorted(told.items()) if state not in SETTLED)
            raise OperatorError(f"not ready after {READY_SECONDS:.0f} s: {waiting}", code="E045")
        time.sleep(PAUSE_SECONDS)


def down(inventory: Inventory, volumes: bool) -> None:
    """Remove the containers, the network, the secrets; with `volumes` also the data."""
    from cli.output.structured import dump
    from reclass_model.repository import write_atomically

    directory = directory_of(inventory.repository)
    if not (directory / FILE).exists():  # Compose removes what a file names
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(directory / FILE, dump(rendered(inventory), "yaml"), 0o600)
    flags = ["--volumes"] if volumes else []
    with _compose(directory, "down", "--remove-orphans", *flags) as (process, output):
        if process.wait():
            raise OperatorError(f"Docker Compose failed:\n{_text(output)}", code="E045")
    shutil.rmtree(directory)


def services(directory: Path) -> list[Service]:
    """Every service that was started and how it is, by name; none where nothing was."""
    label = f"label=com.docker.compose.project={_project(directory)}"
    containers = _docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
    if not containers:
        return []
    # One that is just being replaced is left out: the others are printed all the same.
    found = json.loads(_docker("inspect", *containers, check=False) or "[]")
    return sorted((_service(each) for each in found), key=lambda service: service.name)


def _service(inspected: Mapping[str, Any]) -> Service:
    state, settings = inspected["State"], inspected["HostConfig"]
    ends = settings["RestartPolicy"]["Name"] != "unless-stopped"
    crashes = inspected["RestartCount"]
    if state["Status"] == "running":
        word = "working" if ends else state.get("Health", {}).get("Status", "running")
        detail = f"since {state['StartedAt'][:19]}"
    elif state["Status"] == "exited":
        # Docker starts again what ended by itself: what did not end by itself was stopped, by Compose that replaces it
        word = ("failed" if state["ExitCode"] else "done") if ends else "stopped"
        detail = f"ended with {state['ExitCode']} at {state['FinishedAt'][:19]}"
    else:
        word, detail = state["Status"], f"ended {crashes} times" if crashes else ""
    if crashes >= CRASHES and word != "healthy":
        word, detail = "failed", f"ended {crashes} times, the last time with {state['ExitCode']}"
    return Service(inspected["Config"]["Labels"]["com.docker.compose.service"], word, detail, inspected["Id"])


def _failed(failed: list[Service]) -> OperatorError:
    """The services that cannot come up, with their last words."""
    hint = "run `ostack-k8s compose up` again when it is mended: it goes on"
    return OperatorError.of(
        *(
            Problem("E045", f"{service.name} {service.state}: {service.detail}\n{_tail(service)}", hint=hint)
            for service in failed
        )
    )


def _tail(service: Service) -> str:
    words = _docker("logs", "--tail", str(TAIL_LINES), service.container, check=False, both=True)
    return "\n".join(f"    {line}" for line in words.splitlines())


# --- the programs ---


@cache
def compose_program() -> tuple[str, ...]:
    """Docker's Compose plugin, else a program of its own. OperatorError E045 says what to install."""
    if shutil.which("docker") is None:
        raise OperatorError(
            "docker is not installed", code="E045", hint=f"apt-get install docker.io, and Compose: {PLUGIN}"
        )
    if subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0:
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise OperatorError("Docker Compose is not installed", code="E045", hint=f"apt-get install {PLUGIN}")


def _project(directory: Path) -> str:
    return f"ostack-k8s-{directory.name}"


@contextmanager
def _compose(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Docker Compose at work on the file, and what it prints; it ends with this block."""
    _docker("version")  # its words where none answers; Compose's own may be a traceback
    call = [*compose_program(), "--project-name", _project(directory), "--file", str(directory / FILE)]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*call, *arguments], stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            yield process, output
        finally:
            process.terminate()
            process.wait()


def _text(output: IO[str]) -> str:
    """The last lines that a program printed."""
    output.seek(0)
    return "\n".join(f"    {line.rstrip()}" for line in output.readlines()[-TAIL_LINES:])


def _docker(*arguments: str, check: bool = True, both: bool = False) -> str:
    """What the docker client prints; OperatorError E045 when it fails, unless that does not matter."""
    done = subprocess.run(
        ["docker", *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
    )
    if check and "Cannot connect to the Docker daemon" in (done.stderr or ""):
        raise OperatorError(
            "no Docker answers", code="E511", hint="start it, or set DOCKER_HOST to another one"
        )
    if check and done.returncode:
        raise OperatorError(f"docker {arguments[0]}: {done.stderr.strip()}", code="E045")
    return done.stdout
