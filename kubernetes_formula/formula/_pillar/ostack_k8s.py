"""The external pillar: one machine's parameters from the deployment repo, secrets revealed with that machine's key.

Salt calls it once per run with the minion id, which is the machine's name in the model. The same renderer serves
the command line, so the two cannot disagree. One key is added to what `ostack-k8s inventory --reveal` shows:
`ostack_k8s`, which commit and which underlay this pillar is; the last state writes it to /etc/ostack-k8s/applied.
"""

from __future__ import annotations

from typing import Any


def ext_pillar(minion_id: str, _pillar: dict[str, Any], repository: str) -> dict[str, Any]:
    """Parameters of `minion_id` from the checkout at `repository`; OperatorError (file:line) when it has errors.

    Imports here, not above: what fails in here Salt reports, and runs no state; what cannot be imported it skips.
    """
    from importlib.metadata import version
    from pathlib import Path

    from reclass_model.difference import underlay_digest
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

    model = Repository(Path(repository))
    parameters = Inventory(model).node(minion_id).parameters
    delivery = {
        "revision": model.head() if model.is_git() else "",
        "underlay": underlay_digest(parameters),
        "version": version("ostack-k8s"),
    }
    revealed: dict[str, Any] = Keyring.find(model).reveal(parameters)
    return {**revealed, "ostack_k8s": delivery}
