"""Every state of every role renders, for every topology and supported system, with undefined names as errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kubernetes_formula.salt_loader import FORMULA
from reclass_model.repository import Repository

MODELS = Callable[[str], Repository]
CASES = [
    ("article", "cfg01", {"linux", "salt.master", "docker.registry", "kubernetes.client", "config"}),
    ("article", "kmst01", {"linux", "etcd.server", "kubernetes.master", "kubernetes.master.access"}),
    ("article", "ctl01", {"linux", "containerd", "kubernetes.pool", "glusterfs.server.pool", "glusterfs.client.mount"}),
    ("article", "cmp01", {"linux", "containerd", "kubernetes.pool"}),
    ("ha", "kmst03", {"linux", "etcd.server", "kubernetes.master"}),
    ("aio", "aio01", {"linux", "config", "etcd.server", "kubernetes.master", "kubernetes.pool", "applied"}),
    ("lab", "aio01", {"linux", "config", "etcd.server", "kubernetes.master", "kubernetes.pool", "applied"}),
]


def node_of(model: Repository, short: str) -> str:
    return next(name for name in model.node_names() if name.startswith(f"{short}."))


def low(caller: Any, *command: str) -> list[dict[str, Any]]:
    chunks = caller.cmd(*(command or ("state.show_lowstate",)))
    assert chunks and all(isinstance(chunk, dict) for chunk in chunks), chunks
    return sorted(chunks, key=lambda chunk: float(chunk["order"]))


@pytest.mark.parametrize(("topology", "short", "states"), CASES)
def test_role_renders(
    topology: str, short: str, states: set[str], models: MODELS, caller: Callable[..., Any]
) -> None:
    model = models(topology)
    chunks = low(caller(model, node_of(model, short)))
    seen = {name for chunk in chunks for name in (chunk["__sls__"], *chunk.get("__sls_included_from__", []))}
    assert states <= seen
    assert chunks[-1]["name"] == "/etc/ostack-k8s/applied", "the record of success comes last"


def test_no_state_file_is_forgotten(models: MODELS, caller: Callable[..., Any]) -> None:
    seen: set[str] = set()
    for topology, short in (("aio", "aio01"), ("article", "ctl01")):
        model = models(topology)
        chunks = low(caller(model, node_of(model, short)))
        seen |= {name for chunk in chunks for name in (chunk["__sls__"], *chunk.get("__sls_included_from__", []))}
    files = {
        ".".join(file.relative_to(FORMULA).with_suffix("").parts).removesuffix(".init")
        for file in FORMULA.rglob("*.sls")
        if file.name not in ("top.sls", "clean.sls") and "orch" not in file.parts
    }
    assert files == seen


@pytest.mark.parametrize(
    "state",
    sorted(".".join(file.relative_to(FORMULA).with_suffix("").parts) for file in FORMULA.rglob("clean.sls")),
)
def test_clean_renders(state: str, models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("aio")
    salt = caller(model, node_of(model, "aio01"))
    assert "file" in {chunk["state"] for chunk in low(salt, "state.show_low_sls", state)}


def test_every_application_can_be_cleaned() -> None:
    for state in (
        "linux",
        "etcd/server",
        "containerd",
        "kubernetes/client",
        "kubernetes/master",
        "kubernetes/pool",
        "docker/registry",
        "glusterfs/server",
        "glusterfs/client",
        "config",
        "salt/master",
        "salt/minion",
    ):
        assert (FORMULA / state / "clean.sls").exists()


@pytest.mark.parametrize("system", yaml.safe_load((FORMULA / "linux/parameters/systems.yaml").read_text()))
def test_supported_systems(system: str, models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    salt = caller(model, node_of(model, "ctl01"), grains={"osfinger": system})
    assert any(chunk["state"] == "pkg" for chunk in low(salt, "state.show_low_sls", "linux"))


def test_another_system_is_refused_by_name(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    salt = caller(model, node_of(model, "ctl01"), grains={"osfinger": "Plan9-4"})
    assert "Plan9-4 is not supported; known: Debian-12" in str(salt.cmd("state.show_low_sls", "linux"))


def test_only_the_first_master_writes_into_the_cluster(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("ha")
    writers = {"kubernetes_object", "kubernetes_node"}
    first, second = (low(caller(model, node_of(model, short))) for short in ("kmst01", "kmst02"))
    assert writers <= {chunk["state"] for chunk in first}
    assert not writers & {chunk["state"] for chunk in second}


def test_etcd_members_come_from_the_model(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("ha")
    chunks = low(caller(model, node_of(model, "kmst02")), "state.show_low_sls", "etcd.server.service")
    unit = next(chunk for chunk in chunks if chunk["name"] == "/etc/systemd/system/etcd.service")["context"][
        "unit"
    ]
    assert unit["flags"]["initial-cluster"].count("=https://") == 3
    assert unit["flags"]["client-cert-auth"] is True


def test_production_gets_nothing_of_the_lab(models: MODELS, caller: Callable[..., Any]) -> None:
    def kubelet(topology: str) -> dict[str, Any]:
        model = models(topology)
        chunks = low(caller(model, node_of(model, "aio01")), "state.show_low_sls", "kubernetes.pool.kubelet")
        return dict(
            next(chunk for chunk in chunks if chunk["name"] == "/etc/kubernetes/kubelet.yaml")["dataset"]
        )

    assert kubelet("aio")["cgroupDriver"] == "systemd"
    assert kubelet("lab")["cgroupDriver"] == "cgroupfs"
    assert not {"failCgroupV1", "failSwapOn", "oomScoreAdj"} & set(kubelet("aio"))
