"""Which machines a deploy has to wait for: those where pods may run and other states are applied than the model has."""

from __future__ import annotations

import pytest

from cli.workflows.machines import APPLIED, require_applied, unapplied
from cli.workflows.overlay import overlay_of
from kubernetes_formula.manifests import Overlay
from reclass_model import generate
from reclass_model.difference import underlay_digest
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    top = tmp_path_factory.mktemp("machines")
    answers = generate.Answers.of({"cluster_name": "demo", "services": "identity"})
    generate.create(answers, top / "demo", top / "identity", lambda line: None)
    return Inventory(Repository(top / "demo"))


@pytest.fixture(scope="module")
def overlay(inventory: Inventory) -> Overlay:
    return overlay_of(inventory, None)


def test_the_first_deployment_waits_for_machines_with_pods_only(
    inventory: Inventory, overlay: Overlay
) -> None:
    problems = unapplied(inventory, overlay, {})
    assert {problem.node for problem in problems} == {f"ctl0{number}.demo.local" for number in (1, 2, 3)}
    assert all("were never applied; haproxy-edge, keystone-server, " in each.message for each in problems)
    assert "on ctl01.demo.local: `salt-call state.apply`" in str(problems[0].hint)


def test_a_machine_with_other_states_is_named(inventory: Inventory, overlay: Overlay) -> None:
    applied = {node.name: underlay_digest(node.parameters) for node in inventory.nodes()}
    assert unapplied(inventory, overlay, applied) == []
    applied["cmp01.demo.local"] = "other"  # no workload runs there
    assert unapplied(inventory, overlay, applied) == []
    applied["ctl02.demo.local"] = "other"
    (problem,) = unapplied(inventory, overlay, applied)
    assert problem.node == "ctl02.demo.local" and "are not applied as the model says" in problem.message


def test_what_the_nodes_say_is_read(inventory: Inventory, overlay: Overlay) -> None:
    class Nodes:
        def list(self, kind: str, _namespace: str, _labels: dict[str, str]) -> list[object]:
            assert kind == "Node"
            return [{"metadata": {"name": "ctl01.demo.local", "annotations": {APPLIED: digest}}}]

    digest = underlay_digest(inventory.node("ctl01.demo.local").parameters)
    with pytest.raises(OperatorError) as refused:
        require_applied(Nodes(), inventory, overlay)  # type: ignore[arg-type]
    assert [problem.node for problem in refused.value.problems] == ["ctl02.demo.local", "ctl03.demo.local"]
