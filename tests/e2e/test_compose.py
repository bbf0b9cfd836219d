"""The lab's services once more, by Docker Compose on this host: its pinned images, checked, interrupted, removed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.workflows.compose import compose_program
from reclass_model.errors import OperatorError

from .conftest import Cloud, say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

OSTACK = Path(sys.executable).with_name("ostack-k8s")
UP_SECONDS = 120  #: with images present


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    try:
        say(f"Compose is {' '.join(compose_program())}")
    except OperatorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(cloud: Cloud) -> Iterator[Path]:
    """The lab's repo with its images pinned, as they are after `lab up`; the package images are on this host then."""
    bundle = ["--bundle", str(cloud.bundle)] if cloud.bundle else []
    run(cloud.source.root, "lab", "up", *bundle)
    yield cloud.state.model
    run(cloud.state.model, "compose", "down", "--volumes")


def run(model: Path, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [OSTACK, "-C", model, *arguments, "-o", "json"], capture_output=True, text=True, check=False
    )
    say(f"$ ostack-k8s {' '.join(arguments)}\n{done.stderr}")
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def left() -> str:
    """Containers, networks and volumes of the project."""
    label = "label=com.docker.compose.project=ostack-k8s-e2e"
    return "".join(
        subprocess.run(
            ["docker", *what, "--quiet", "--filter", label], capture_output=True, text=True, check=True
        ).stdout
        for what in (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
    )


def test_interrupted_and_run_again_it_serves(model: Path) -> None:
    first = subprocess.Popen([OSTACK, "-C", model, "compose", "up"], start_new_session=True)
    time.sleep(12)  # somewhere among images, database and Jobs
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait() == 130
    began = time.monotonic()
    found = run(model, "compose", "up")
    seconds = time.monotonic() - began
    say(f"compose up took {seconds:.1f} s")
    assert seconds < UP_SECONDS
    assert {check["result"] for check in found["checks"]} == {"ok"} and len(found["checks"]) > 1
    assert {service["state"] for service in found["services"]} <= {"healthy", "running", "done"}
    assert run(model, "compose", "status")["services"] == found["services"]


def test_its_secrets_are_closed_to_others(model: Path) -> None:
    directory = Path(run(model, "compose", "up")["directory"])  # once more: nothing minds
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert "127.0.0.1" in (directory / "clouds.yaml").read_text()


def test_a_service_that_cannot_start_is_named_with_its_words(model: Path) -> None:
    directory = Path(run(model, "compose", "up")["directory"])
    container = next(
        service["container"]
        for service in run(model, "compose", "status")["services"]
        if service["state"] == "healthy"
    )
    subprocess.run(["docker", "stop", "--time", "1", container], check=True, capture_output=True)
    found = run(model, "compose", "status", code=1)["services"]
    assert [service["state"] for service in found].count("stopped") == 1
    run(model, "compose", "up")
    assert (directory / "compose.yml").exists()


def test_down_leaves_nothing(model: Path) -> None:
    directory = Path(run(model, "compose", "up")["directory"])
    run(model, "compose", "down")
    assert not directory.exists() and "ostack-k8s-e2e_" in left(), "the data stay"
    run(model, "compose", "down", "--volumes")
    assert left() == ""
    assert run(model, "compose", "status")["services"] == []
