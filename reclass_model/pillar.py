"""A machine's pillar: its rendered parameters, and which delivery they are.

Salt's ext_pillar and the `inventory` command both take it from here, so the two cannot disagree. The added key
`ostack_k8s` is no part of the model: plans and digests compare the parameters without it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from reclass_model.difference import underlay_digest
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, Node, get
from reclass_model.repository import Repository

ROLE = "system.role."
KUBERNETES = "bundle:artifact:kubelet:version"


def delivered(node: Node, revision: str) -> dict[str, Any]:
    """The pillar of a machine at a commit, secrets still tokens; `/etc/ostack-k8s/applied` repeats `ostack_k8s`."""
    delivery = {"revision": revision, "underlay": underlay_digest(node.parameters), "version": _version()}
    return {**node.parameters, "ostack_k8s": delivery}


def orchestration(inventory: Inventory) -> dict[str, Any]:
    """What the Salt master's orchestrations know: every machine with its roles, address and rack, and the version of
    Kubernetes, fresh from the model (a minion's own pillar may be old). No secrets.
    """
    machines, kubernetes = {}, ""
    for node in inventory.nodes():
        kubernetes = kubernetes or get(node.parameters, KUBERNETES, "")
        machines[node.name] = {
            "address": get(node.parameters, "_param:address", ""),
            "rack": get(node.parameters, "_param:rack", ""),
            "role": {name.removeprefix(ROLE): {} for name in node.classes if name.startswith(ROLE)},
        }
    return {"kubernetes": kubernetes, "machine": machines}


def revision_of(repository: Repository) -> str:
    """The full sha of the checkout, "" outside git: read once for many machines."""
    try:
        return repository.head()
    except OperatorError:
        return ""


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("ostack-k8s")
