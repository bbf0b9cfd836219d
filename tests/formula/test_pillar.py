"""What Salt sees is what the command line shows, and no machine sees another's keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring


def test_pillar_equals_inventory(
    models: Callable[[str], Repository], caller: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("article")
    master = next(name for name in model.node_names() if name.startswith("kmst01."))
    other = next(name for name in model.node_names() if name.startswith("ctl01."))
    monkeypatch.setenv(
        "OSTACK_K8S_IDENTITY", str(model.root.parent / "identity" / "machines" / f"{master}.age")
    )
    pillar = caller(model, master).cmd("pillar.items", unmask=True)
    delivery = pillar.pop("ostack_k8s")
    assert pillar == Keyring.find(model).reveal(Inventory(model).node(master).parameters)
    assert delivery["revision"] == model.head()
    assert set(delivery) == {"revision", "underlay", "version"}
    monkeypatch.setenv("OSTACK_K8S_IDENTITY_DIR", str(model.root.parent / "identity"))
    monkeypatch.delenv("OSTACK_K8S_IDENTITY")
    others = Keyring.find(model).reveal(Inventory(model).node(other).parameters)
    key = others["pki"]["certificate"]["kubelet-server"]["private_key"]
    assert key.startswith("-----BEGIN")
    assert key not in str(pillar)


def test_a_broken_model_stops_salt(caller: Callable[..., Any], models: Callable[[str], Repository]) -> None:
    from salt.exceptions import CommandExecutionError

    with pytest.raises(CommandExecutionError, match=r"the model has no machine 'nobody\.example\.org'"):
        caller(models("aio"), "nobody.example.org").cmd("state.show_lowstate")
