"""GlusterFS on three machines of the lab: what one writes another reads, also without a brick, a machine, a quorum."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubernetes_formula import lab
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository

from .conftest import say

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(3600)]

ANSWERS = {"cluster_name": "gluster", "computes": 0, "underlay_network": "10.79.0.0/24"}
VOLUME = "/srv/ostack-k8s/shared/keystone-keys"
BRICK = "/srv/ostack-k8s/brick/keystone-keys"
HEAL = "gluster volume heal keystone-keys info | awk '/entries:/ {if ($4 == \"-\") s += 99; s += $4} END {print s}'"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The machines with storage (and with them config and master, who command), applied."""
    folder = tmp_path_factory.mktemp("gluster")
    source = Repository(folder / "model")
    create(Answers.of(ANSWERS), source.root, folder / "identity", say)
    bundle = Path(os.environ["OSTACK_K8S_BUNDLE"]) if "OSTACK_K8S_BUNDLE" in os.environ else None
    try:
        lab.up(source, only=["storage"], bundle=bundle, progress=say)
        yield source
    finally:
        lab.down(source)


def on(machine: str, command: str) -> str:
    """Output of a command that has to succeed."""
    words = ["docker", "exec", f"gluster-{machine}", "sh", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def fails(machine: str, command: str) -> bool:
    try:
        on(machine, command)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return True
    return False


def within(seconds: float, what: str, true: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds} s"
        time.sleep(1)
    say(f"{what}: {time.monotonic() - started:.0f} s")


def healed() -> bool:
    return not fails("ctl01", f'test "$({HEAL})" = 0')


def test_what_one_writes_another_reads(pool: Repository) -> None:
    on("ctl01", f"echo hello > {VOLUME}/hello")
    assert on("ctl03", f"cat {VOLUME}/hello") == "hello"
    assert on("ctl02", f"stat -c '%u %a' {VOLUME}/data") == "42421 700"
    assert {"glance-images", "keystone-keys"} == set(on("ctl02", "gluster volume list").split())


def test_a_dead_brick_stops_no_writer_and_heals(pool: Repository) -> None:
    on("ctl02", "pkill -9 -x glusterfsd; pkill -9 -x glusterd")
    on("ctl01", f"for i in $(seq 50); do echo $i > {VOLUME}/data/$i || exit 1; done")
    within(
        60, "healed after a dead brick", lambda: healed() and not fails("ctl02", f"test -s {BRICK}/data/50")
    )


def test_a_power_cut_stops_no_writer_and_heals(pool: Repository) -> None:
    lab.fault("kill", pool, "ctl03")
    on("ctl01", f"timeout 30 sh -c 'echo word > {VOLUME}/cut'")
    lab.fault("restart", pool, "ctl03")
    within(90, "mounted again", lambda: not fails("ctl03", f"grep word {VOLUME}/cut"))
    within(90, "healed after a power cut", lambda: healed() and not fails("ctl03", f"grep word {BRICK}/cut"))


def test_a_minority_does_not_write(pool: Repository) -> None:
    for machine in ("ctl02", "ctl03"):
        lab.fault("kill", pool, machine)
    assert fails("ctl01", f"timeout 40 sh -c 'echo word > {VOLUME}/split'")
    for machine in ("ctl02", "ctl03"):
        lab.fault("restart", pool, machine)
    within(120, "writable again", lambda: not fails("ctl01", f"timeout 10 sh -c 'echo word > {VOLUME}/back'"))


def test_without_the_mount_nobody_writes_beneath_it(pool: Repository) -> None:
    on("ctl02", "systemctl stop glusterfs-keystone-keys")
    assert fails("ctl02", f"touch {VOLUME}/stray") and fails("ctl02", f"test -e {VOLUME}/data")
    on("ctl02", "systemctl start glusterfs-keystone-keys")
    within(30, "mounted", lambda: not fails("ctl02", f"test -d {VOLUME}/data"))
