"""What confd runs when it has written BIRD's configuration: the real script, and a `birdc` that notes its questions."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kubernetes_formula.salt_loader import FORMULA

SCRIPT = FORMULA / "calico/files/bird-reload.sh"
#: Answers with a session's routes from a file; if they are `late`, the reflector brings the others' after some time.
BIRDC = """#!/bin/sh
shift 2
echo "$@" >> asked
test -e up || exit 1
case "$*" in
*"protocol Mesh_"*)
    for session; do :; done
    [ -e late ] && [ "$(grep -c 'show route' asked)" -gt 3 ] && cp other reflector
    case $session in Mesh_reflector) cat reflector;; *) cat other;; esac;;
esac
"""
ROUTE = "10.244.{}.0/26     via 10.0.0.{} on eth0 [Mesh_x 12:00] * (100/0) [i]\n"


class Bird:
    """A directory as BIRD's /run/calico, with a process in BIRD's place."""

    def __init__(self, run: Path, process: subprocess.Popen[bytes]) -> None:
        self.run, self.process = run, process

    def configured(self, name: str, sessions: Mapping[str, bool]) -> None:
        """A configuration: session → whether its peer is a reflector's client."""
        text = "template bgp session {\n}\n"
        for session, client in sessions.items():
            text += f"protocol bgp Mesh_{session} from session {{\n{'  rr client;' if client else ''}\n}}\n"
        (self.run / name).write_text(text)

    def reload(self, patience: int = 20) -> list[str]:
        """What BIRD was asked, but for its state."""
        environment = {"RUN": str(self.run), "PATH": f"{self.run}:/usr/bin:/bin", "MESH": "0"}
        (self.run / "asked").unlink(missing_ok=True)
        subprocess.run(["sh", SCRIPT], env=environment | {"PATIENCE": str(patience)}, check=True, timeout=60)
        return [line for line in (self.run / "asked").read_text().splitlines() if line != "show status"]

    @property
    def taken(self) -> bool:
        return (self.run / "taken.cfg").read_text() == (self.run / "bird.cfg").read_text()


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    (tmp_path / "birdc").write_text(BIRDC)
    (tmp_path / "birdc").chmod(0o755)
    for name, networks in (("up", ""), ("other", "12"), ("reflector", "")):
        (tmp_path / name).write_text("".join(ROUTE.format(number, number) for number in networks))
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "bird.pid").write_text(f"{process.pid}\n")
        made = Bird(tmp_path, process)
        made.configured("taken.cfg", {"reflector": False, "other": False})
        yield made
        process.kill()


def test_another_session_is_taken_at_once(bird: Bird) -> None:
    bird.configured("bird.cfg", {"reflector": False, "other": False, "third": False})
    assert bird.reload() == ["configure"]
    assert bird.taken and bird.process.poll() is None


def test_a_session_ends_when_others_brought_its_routes(bird: Bird) -> None:
    bird.configured("bird.cfg", {"reflector": False})
    (bird.run / "late").touch()
    start = time.monotonic()
    asked = bird.reload()
    assert asked[-1] == "configure" and asked.count("configure") == 1
    assert asked.count("show route protocol Mesh_other") >= 2, "at first they were not there"
    assert time.monotonic() - start < 15 and bird.taken


def test_a_session_whose_routes_nobody_else_has_ends_after_all(bird: Bird) -> None:
    bird.configured("bird.cfg", {"reflector": False})
    assert bird.reload(patience=2)[-1] == "configure"
    assert bird.taken


@pytest.mark.parametrize("begins", [True, False])
def test_who_begins_or_ends_to_reflect_restarts_without_a_word(bird: Bird, begins: bool) -> None:
    bird.configured("taken.cfg", {"reflector": not begins, "other": not begins})
    bird.configured("bird.cfg", {"reflector": begins, "other": begins})
    assert "configure" not in bird.reload(), "its peers would drop its routes"
    assert bird.process.wait(5) == -9


def test_a_bird_that_is_not_up_reads_it_by_itself(bird: Bird) -> None:
    (bird.run / "up").unlink()
    bird.configured("bird.cfg", {"third": True})
    assert bird.reload() == []
    assert bird.process.poll() is None and not bird.taken
