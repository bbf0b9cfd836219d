"""GlusterFS on three machines of the lab: what one writes another reads, also without a brick, a machine, a quorum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubernetes_formula import lab

from .conftest import Machines, model, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(3600)]

ANSWERS = {
    "cluster_name": "gluster",
    "computes": 0,
    "services": "identity",
    "underlay_network": "10.79.0.0/24",
}
VOLUME = "/srv/ostack-k8s/shared/keystone-keys"
BRICK = "/srv/ostack-k8s/brick/keystone-keys"
HEAL = "gluster volume heal keystone-keys info | awk '/entries:/ {if ($4 == \"-\") s += 99; s += $4} END {print s}'"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """The machines with storage (and with them the one that commands), applied."""
    with model(ANSWERS, tmp_path_factory) as source:
        made = Machines(source, ("storage",))
        made.start()
        yield made


def healed(pool: Machines) -> bool:
    return not pool.fails("ctl01", f'test "$({HEAL})" = 0')


def test_what_one_writes_another_reads(pool: Machines) -> None:
    pool.on("ctl01", f"echo hello > {VOLUME}/hello")
    assert pool.on("ctl03", f"cat {VOLUME}/hello") == "hello"
    assert pool.on("ctl02", f"stat -c '%u %a' {VOLUME}/data") == "42421 700"
    assert {"glance-images", "keystone-keys"} <= set(pool.on("ctl02", "gluster volume list").split())


def test_a_dead_brick_stops_no_writer_and_heals(pool: Machines) -> None:
    pool.on("ctl02", "pkill -9 -x glusterfsd; pkill -9 -x glusterd")
    pool.on("ctl01", f"for i in $(seq 50); do echo $i > {VOLUME}/data/$i || exit 1; done")
    within(
        60,
        lambda: healed(pool) and not pool.fails("ctl02", f"test -s {BRICK}/data/50"),
        "healed after a dead brick",
    )


def test_a_power_cut_stops_no_writer_and_heals(pool: Machines) -> None:
    lab.fault("kill", pool.source, "ctl03")
    pool.on("ctl01", f"timeout 30 sh -c 'echo word > {VOLUME}/cut'")
    lab.fault("restart", pool.source, "ctl03")
    within(90, lambda: not pool.fails("ctl03", f"grep word {VOLUME}/cut"), "mounted again")
    within(
        90,
        lambda: healed(pool) and not pool.fails("ctl03", f"grep word {BRICK}/cut"),
        "healed after a power cut",
    )


def test_a_minority_does_not_write(pool: Machines) -> None:
    for machine in ("ctl02", "ctl03"):
        lab.fault("kill", pool.source, machine)
    assert pool.fails("ctl01", f"timeout 40 sh -c 'echo word > {VOLUME}/split'")
    for machine in ("ctl02", "ctl03"):
        lab.fault("restart", pool.source, machine)
    within(
        120,
        lambda: not pool.fails("ctl01", f"timeout 10 sh -c 'echo word > {VOLUME}/back'"),
        "writable again",
    )


def test_without_the_mount_nobody_writes_beneath_it(pool: Machines) -> None:
    pool.on("ctl02", "systemctl stop glusterfs-keystone-keys")
    assert pool.fails("ctl02", f"touch {VOLUME}/stray") and pool.fails("ctl02", f"test -e {VOLUME}/data")
    pool.on("ctl02", "systemctl start glusterfs-keystone-keys")
    within(30, lambda: not pool.fails("ctl02", f"test -d {VOLUME}/data"), "mounted")
