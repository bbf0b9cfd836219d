"""The external pillar: one machine's pillar from the deployment repo, secrets revealed with that machine's key.

Salt calls it once per run with the minion id, which is the machine's name in the model. The same function serves
`ostack-k8s inventory --reveal`, so the two cannot disagree.
"""

from __future__ import annotations

from typing import Any


def ext_pillar(minion_id: str, _pillar: dict[str, Any], repository: str) -> dict[str, Any]:
    """The pillar of `minion_id` from the checkout at `repository`; OperatorError (file:line) when it has errors,
    or when its class library is not of this formula's version.

    Imports here, not above: what fails in here Salt reports, and runs no state; what cannot be imported it skips.
    """
    from pathlib import Path

    from reclass_model.inventory import Inventory
    from reclass_model.library import require_match
    from reclass_model.pillar import delivered, orchestration, revision_of
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

    model = Repository(Path(repository))
    require_match(model)
    if minion_id == __opts__["id"] and __opts__["id"].endswith("_master"):
        return orchestration(Inventory(model))  # the master itself: an orchestration
    pillar = delivered(Inventory(model).node(minion_id), revision_of(model))
    revealed: dict[str, Any] = Keyring.find(model).reveal(pillar)
    return revealed
