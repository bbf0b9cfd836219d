"""What Salt sees is what the command line shows, and no machine sees another's keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import root
from cli.workflows.states import salt_call
from reclass_model import library
from reclass_model.repository import Repository

MODELS = Callable[[str], Repository]


def inventory(model: Repository, node: str) -> dict[str, Any]:
    shown = CliRunner().invoke(root, ["-C", str(model.root), "inventory", node, "--reveal", "-o", "json"])
    assert shown.exit_code == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)[node]["parameters"]
    return found


def test_pillar_equals_inventory(models: MODELS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real `salt-call --local pillar.items` and `inventory --reveal`, each with that machine's own key alone."""
    model = models("article")
    identities = model.root.parent / "identity"
    names = model.node_names()
    pillars = {}
    for node in (next(name for name in names if name.startswith(short)) for short in ("cfg01", "kmst01")):
        monkeypatch.setenv("OSTACK_K8S_IDENTITY", str(identities / "machines" / f"{node}.age"))
        pillars[node] = salt_call(model, node, "pillar.items", "unmask=True")
        assert pillars[node] == inventory(model, node)
        assert pillars[node]["ostack_k8s"]["revision"] == model.head()
    monkeypatch.delenv("OSTACK_K8S_IDENTITY")
    monkeypatch.setenv("OSTACK_K8S_IDENTITY_DIR", str(identities))
    for node, pillar in pillars.items():
        for other in set(names) - {node}:
            keys = inventory(model, other)["pki"]["certificate"]
            for certificate in keys.values():
                assert certificate["private_key"].startswith("-----BEGIN")
                assert certificate["private_key"] not in str(pillar)


def test_a_class_library_of_another_version_stops_salt(
    caller: Callable[..., Any], models: MODELS, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salt.exceptions import CommandExecutionError

    model = models("aio")
    library.library_version.cache_clear()
    monkeypatch.setattr(library, "version", lambda _: "9.9")
    try:
        with pytest.raises(CommandExecutionError, match=r"this ostack-k8s has 9\.9.*ostack-k8s update"):
            caller(model, model.node_names()[0]).cmd("state.show_lowstate")
    finally:
        library.library_version.cache_clear()


def test_a_broken_model_stops_salt(caller: Callable[..., Any], models: MODELS) -> None:
    from salt.exceptions import CommandExecutionError

    with pytest.raises(CommandExecutionError, match=r"the model has no machine 'nobody\.example\.org'"):
        caller(models("aio"), "nobody.example.org").cmd("state.show_lowstate")
