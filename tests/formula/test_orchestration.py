"""The orchestrations of Kubernetes as lists of steps: rendered as the Salt master does, the cluster's word given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from kubernetes_formula.salt_loader import FORMULA

MACHINES = {
    "cfg01": {"role": {"config": {}}, "rack": "r1"},
    "kmst01": {"role": {"kube_master": {}}, "rack": "r1"},
    "kmst02": {"role": {"kube_master": {}}, "rack": "r2"},
    "ctl01": {"role": {"kube_control": {}, "storage": {}}, "rack": "r1"},
    "sto01": {"role": {"storage": {}}, "rack": "r1"},
    "cmp01": {"role": {"kube_compute": {}}, "rack": "r1"},
    "cmp02": {"role": {"kube_compute": {}}, "rack": "r2"},
}
NODES = ["cmp01", "cmp02", "ctl01"]


@pytest.fixture
def steps(tmp_path: Any) -> Callable[..., list[tuple[str, str]]]:
    """(step, function) of an orchestration, in order: steps(name, pillar, what kubernetes_node.upgrade says)."""
    import salt.config
    import salt.loader
    import yaml

    options = salt.config.minion_config(None, minion_id="master")
    options.update(
        file_client="local",
        file_roots={"base": [str(FORMULA), str(FORMULA / "orch")]},
        **{key: str(tmp_path / key) for key in ("cachedir", "pki_dir", "sock_dir", "extension_modules")},
    )

    def render(name: str, pillar: Mapping[str, Any], says: Any = None) -> list[tuple[str, str]]:
        from salt.utils.templates import JINJA

        functions = {"saltutil.cmd": lambda machine, _, arg: {machine: {"ret": says}}}
        context = {
            "pillar": {"machine": MACHINES, "kubernetes": "1.37.2", **pillar},
            "salt": functions,
            "opts": options,
            "grains": {},
        }
        context |= {"saltenv": "base", "sls": f"ostack.{name}"}
        done = JINJA(str(FORMULA / f"orch/ostack/{name}.sls"), to_str=True, **context)
        assert done["result"], done["data"]
        document = yaml.safe_load(done["data"])
        listed = [(step, next(iter(body))) for step, body in document.items()]
        for (before, _), (after, function) in pairwise(listed):
            assert {"require": [{"salt": before}]} in document[after][function], "one after another"
        assert all({"failhard": True} in body[next(iter(body))] for body in document.values())
        return listed

    return render


def test_upgrade_takes_masters_then_nodes_one_by_one(steps: Callable[..., Any]) -> None:
    listed = [step for step, _ in steps("upgrade", {}, {"running": "1.36.3", "refused": "", "nodes": NODES})]
    assert listed == [
        "states of kmst01",
        "states of kmst02",
        *(
            step
            for name in NODES
            for step in (f"drain {name}", f"states of {name}", f"{name} in service again")
        ),
    ]


def test_upgrade_by_rack_goes_on_where_it_stopped(steps: Callable[..., Any]) -> None:
    listed = [
        step
        for step, _ in steps(
            "upgrade", {"by": "rack"}, {"running": "1.36.3", "refused": "", "nodes": ["cmp02", "ctl01"]}
        )
    ]
    assert [step for step in listed if step.startswith("drain")] == ["drain ctl01", "drain cmp02"]
    assert not any("cmp01" in step for step in listed)


def test_upgrade_is_refused(steps: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match="would skip a minor version"):
        steps(
            "upgrade",
            {},
            {"running": "1.35.4", "refused": "from 1.35.4 to 1.37.2 would skip a minor version", "nodes": []},
        )
    with pytest.raises(Exception, match="no API answers"):
        steps("upgrade", {}, {"running": "", "refused": "", "nodes": []})


def test_machines_without_a_rack_are_upgraded_one_by_one(
    steps: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MACHINES, "cmp02", {"role": {"kube_compute": {}}})
    monkeypatch.setitem(MACHINES, "ctl01", {"role": {"kube_control": {}}})
    says = {"running": "1.36.3", "refused": "", "nodes": NODES}
    listed = [step for step, _ in steps("upgrade", {"by": "rack"}, says)]
    assert [step for step in listed if step.startswith("drain")] == [
        "drain cmp02",
        "drain ctl01",
        "drain cmp01",
    ]


def test_removal(steps: Callable[..., Any]) -> None:
    assert [step for step, _ in steps("remove", {"name": "cmp02"})] == [
        "Kubernetes forgets cmp02",
        "cmp02 is bare",
    ]
    assert [step for step, _ in steps("remove", {"name": "kmst01"})][1] == "etcd forgets kmst01"
    assert [step for step, _ in steps("remove", {"name": "ctl01"})][1] == "Gluster forgets ctl01"
    with pytest.raises(Exception, match="no machine 'cmp09'"):
        steps("remove", {"name": "cmp09"})


def test_restore(steps: Callable[..., Any]) -> None:
    listed = steps("restore", {"name": "kmst02", "snapshot": "/var/backups/etcd/x.db"})
    assert [step for step, _ in listed] == [
        "the other members stop",
        "the snapshot is restored",
        "states of kmst02",
        "the other members join",
    ]
    assert json.dumps(listed)


def test_the_underlay_goes_from_etcd_to_masters_to_nodes_and_labels_them_last(
    steps: Callable[..., list[tuple[str, str]]],
) -> None:
    names = [name for name, _ in steps("underlay", {})]
    assert names[0] == "every machine answers"
    assert names[2] == "Kubernetes is of the model's version"
    assert names[3:] == [
        "config",
        "etcd of kmst01",
        "etcd of kmst02",
        "masters",
        "master kmst02",
        "nodes",
        "storage",
        "labels",
    ]


def test_one_machine_of_the_underlay_still_gets_its_labels(
    steps: Callable[..., list[tuple[str, str]]],
) -> None:
    assert [name for name, _ in steps("underlay", {"only": ["cmp02"]})][3:] == ["nodes", "labels"]
    without = {"only": ["cfg01", "ctl01"], "absent": ["kmst01", "kmst02", "cmp01", "cmp02"]}
    assert [name for name, _ in steps("underlay", without)][3:] == ["config", "masters", "nodes"]
