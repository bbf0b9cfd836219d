"""How fast it has to be (the issue's limits), each against its peer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import reclass_rs
import yaml

from cli.workflows.overlay import images_of
from openstack_images.bake import bake
from openstack_images.definition import ConfigFile
from openstack_images.registry import Registry
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.validation import validate
from tests.bench.conftest import (
    BIN,
    MACHINES,
    compare,
    made_up_lock,
    process,
    processor_seconds,
    push_package,
    seconds,
)

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
    measure(f"inventory of {MACHINES} / reclass-rs alone", limit=1.3, times=compare(*programs, repeat=5))


def test_memory_of_the_whole_inventory(large: Repository, measure: Measured) -> None:
    megabytes = _peak_megabytes(OURS, "-C", large.root, "inventory", "-o", "json")
    measure(f"memory of `inventory` of {MACHINES}", limit=400, value=megabytes, unit="MB")


def test_a_changed_node(large: Repository, measure: Measured) -> None:
    """The same Inventory serves again."""
    inventory, name = Inventory(large), f"cmp{MACHINES // 2:04}.bench.local"
    file = large.node_file(name)
    before = file.read_text()

    def change(number: int) -> float:
        file.write_text(f"{before}    bench: {number}\n")
        started = time.process_time()
        node = inventory.node(name)
        spent = time.process_time() - started
        assert node.parameters["_param"]["bench"] == number
        return spent

    inventory.node(name)
    spent = median(change(number) for number in range(25))
    measure("a machine again after its file changed", limit=50, value=spent * 1000, unit="ms")


def test_a_master(large: Repository, measure: Measured) -> None:
    """A master carries what grows with the cloud, the list of all machines: only as much as the engine must."""
    name = next(name for name in large.node_names() if name.startswith("kmst"))
    inventory = Inventory(large)

    def peer() -> object:
        nodes_path, classes_path = str(large.nodes_dir), str(large.classes_dir)
        engine = reclass_rs.Reclass(
            inventory_path=str(large.root), nodes_path=nodes_path, classes_path=classes_path
        )
        return engine.nodeinfo(name).as_dict()

    times = compare(lambda: inventory.node(name), peer, repeat=15)
    measure(f"a master of {MACHINES} again / reclass-rs alone", limit=1.3, times=times)


def test_validate(large: Repository, measure: Measured) -> None:
    times = compare(
        lambda: validate(large), lambda: [node.name for node in Inventory(large).nodes()], repeat=3
    )
    measure(f"`validate` of {MACHINES} / its rendering", limit=2.0, times=times)


def test_manifests(cloud: Repository, measure: Measured) -> None:
    work = process(OURS, "-C", cloud.root, "manifests")
    measure("`manifests`", limit=1.0, value=median(processor_seconds(work) for _ in range(7)), unit="s")


def test_plan(cloud: Repository, measure: Measured) -> None:
    """One option more, from one commit to the next."""
    before = cloud.head()
    file = cloud.cluster_dir / "overlay" / "init.yml"
    option = {"keystone": {"server": {"token": {"expiration": 7200}}}}
    document = yaml.safe_load(file.read_text())
    document["parameters"] = {**document.get("parameters", {}), **option}
    file.write_text(yaml.safe_dump(document))
    after = cloud.commit("A longer token", [file])
    work = process(OURS, "-C", cloud.root, "plan", "--from", before, "--to", after)
    measure(
        "`plan` of one option", limit=1.5, value=median(processor_seconds(work) for _ in range(5)), unit="s"
    )


def test_bake(cloud: Repository, registry: Registry, measure: Measured) -> None:
    """Every image with a configuration that the registry has not seen, on a package image that it has."""
    spent = []
    for role, image in images_of(Inventory(cloud)).items():
        push_package(registry, image)
        for number in range(5):
            new = replace(image, files=(*image.files, ConfigFile("/etc/bench", 0o644, f"{role} {number}")))
            spent.append(seconds(lambda new=new: bake(new, registry)))  # type: ignore[misc]
    measure("bake of an image", limit=0.5, value=median(spent), unit="s")


def test_images_build_after_no_change(
    cloud: Repository, registry: Registry, measure: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image is in the registry: the command asks for each and is done, without a builder."""
    parameters = Inventory(cloud).config_node().parameters
    host, _, port = registry.address.partition(":")
    file = cloud.node_file(Inventory(cloud).config_node().name)
    document = yaml.safe_load(file.read_text())
    document["parameters"] = {
        **document["parameters"],
        "docker": {"registry": {"host": host, "port": int(port)}},
        "pki": {
            "authority": {parameters["docker"]["registry"]["authority"]: {"certificate": registry.authority}}
        },
    }
    before = file.read_text()
    file.write_text(yaml.safe_dump(document))
    made_up_lock(images_of(Inventory(cloud)).values()).write(cloud.lock_file)
    monkeypatch.setenv("OSTACK_K8S_BUILDER", "unix:///nowhere.sock")
    try:
        for image in images_of(Inventory(cloud)).values():
            push_package(registry, image)
        build = process(OURS, "-C", cloud.root, "images", "build", "--push")
        build()
        measure("`images build --push`, nothing changed", limit=3, value=seconds(build), unit="s")
    finally:
        file.write_text(before)
        cloud.lock_file.unlink()


def _peak_megabytes(*call: str | Path) -> float:
    with subprocess.Popen([*map(str, call)], stdout=subprocess.DEVNULL) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    return usage.ru_maxrss / 1024
