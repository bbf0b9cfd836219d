"""Whether the machines are ready for the pods: their states are applied as the commit to deploy says.

A successful `state.apply` notes the digest of the machine's underlay on its Node; `deploy` reads it before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from kubernetes_formula.manifests import Overlay
    from kubernetes_formula.rollout import Cluster
    from reclass_model.inventory import Inventory

APPLIED = "ostack-k8s.io/applied"  # an annotation of the Node, written by the formula's last state


def require_applied(cluster: Cluster, inventory: Inventory, overlay: Overlay) -> None:
    """OperatorError E046 that names every machine where pods may run and where other states are applied, or none."""
    applied = {
        node["metadata"]["name"]: str(node["metadata"].get("annotations", {}).get(APPLIED, ""))
        for node in cluster.list("Node", "", {})
    }
    if problems := unapplied(inventory, overlay, applied):
        raise OperatorError.of(*problems)


def unapplied(inventory: Inventory, overlay: Overlay, applied: Mapping[str, str]) -> list[Problem]:
    """A problem for each machine that a workload depends on and whose `applied` digest is not the model's."""
    from reclass_model.difference import underlay_digest

    selectors = _selectors(overlay)
    found = []
    for node in inventory.nodes():
        if not node.runs_pods or applied.get(node.name) == underlay_digest(node.parameters):
            continue
        labels = node.labels or {}
        waiting = sorted(name for name, wanted in selectors.items() if wanted.items() <= labels.items())
        if waiting:
            what = "are not applied as the model says" if applied.get(node.name) else "were never applied"
            found.append(
                Problem(
                    "E046",
                    f"the states of {node.name} {what}; {', '.join(waiting)} may run there",
                    node=node.name,
                    hint=f"on {node.name}: `salt-call state.apply`, then deploy again",
                )
            )
    return found


def _selectors(overlay: Overlay) -> dict[str, Mapping[str, Any]]:
    """Workload → labels of the machines its pods may run on."""
    from kubernetes_formula.manifests.overlay import owner

    return {
        owner(item): item["spec"]["template"]["spec"].get("nodeSelector", {})
        for item in overlay.objects
        if "template" in item.get("spec", {})
    }
