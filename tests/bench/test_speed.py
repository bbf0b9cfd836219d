"""How fast it has to be (the issue's limits), each against its peer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from tests.bench.conftest import BIN, MACHINES, compare, process, seconds

pytestmark = pytest.mark.timeout(900)
Measured = Callable[..., None]

OURS = BIN / "ostack-k8s"
REFERENCE = BIN / "reclass"  # kapicorp-reclass

WHOLE = """
import sys
from pathlib import Path
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
for node in Inventory(Repository(Path(sys.argv[1]))).nodes():
    pass
"""
WHOLE_PEER = """
import sys
import reclass_rs
root = sys.argv[1]
engine = reclass_rs.Reclass(inventory_path=root, nodes_path=f"{root}/nodes", classes_path=f"{root}/classes")
for node in engine.inventory().as_dict()["nodes"].values():
    pass
"""


def test_start(measure: Measured) -> None:
    times = compare(process(OURS, "--help"), process(sys.executable, "-c", "import click"), repeat=9)
    measure("`--help` / `python -c 'import click'`", limit=2.5, times=times)


def test_one_node(cloud: Repository, measure: Measured) -> None:
    node = cloud.node_names()[0]
    times = compare(
        process(OURS, "-C", cloud.root, "inventory", node, "-o", "json"),
        process(REFERENCE, "-b", cloud.root, "--nodeinfo", node, "-o", "json", cwd=cloud.root),
        repeat=9,
    )
    measure("`inventory NODE` / kapicorp `--nodeinfo`", limit=1.5, times=times)


def test_whole_inventory(large: Repository, measure: Measured) -> None:
    programs = [process(sys.executable, "-c", program, large.root) for program in (WHOLE, WHOLE_PEER)]
    measure(f"inventory of {MACHINES} / reclass-rs alone", limit=1.3, times=compare(*programs, repeat=1))


def test_memory_of_the_whole_inventory(large: Repository, measure: Measured) -> None:
    megabytes = _peak_megabytes(OURS, "-C", large.root, "inventory", "-o", "json")
    measure(f"memory of `inventory` of {MACHINES}", limit=400, value=megabytes, unit="MB")


def test_a_changed_node(large: Repository, measure: Measured) -> None:
    inventory = Inventory(large)
    name = large.node_names()[-1]
    inventory.node(name)
    file = large.node_file(name)

    def change() -> None:
        file.write_text(file.read_text() + "# changed\n")
        inventory.node(name)

    measure("one machine again after its file changed", limit=50, value=seconds(change, 5) * 1000, unit="ms")


def test_validate(large: Repository, measure: Measured) -> None:
    from reclass_model.validation import validate

    times = compare(
        lambda: validate(large), lambda: [node.name for node in Inventory(large).nodes()], repeat=2
    )
    measure(f"`validate` of {MACHINES} / its rendering", limit=2.0, times=times)


def test_manifests(cloud: Repository, measure: Measured) -> None:
    spent = seconds(process(OURS, "-C", cloud.root, "manifests"), 3)
    measure("`manifests`", limit=1.0, value=spent, unit="s")


def test_bake(cloud: Repository, measure: Measured) -> None:
    """What of a bake is ours: the layer. The registry's part is measured where a registry runs (tests/e2e)."""
    from cli.workflows.overlay import images_of
    from openstack_images.bake import layer

    images = images_of(Inventory(cloud)).values()
    slowest = max(
        seconds(lambda image=image: layer(image.files, image.user.gid if image.user else 0), 3)  # type: ignore[misc]
        for image in images
    )
    measure("bake: the layer of an image", limit=0.5, value=slowest, unit="s")


def _peak_megabytes(*call: str | Path) -> float:
    with subprocess.Popen([*map(str, call)], stdout=subprocess.DEVNULL) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    return usage.ru_maxrss / 1024
