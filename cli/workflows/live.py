"""The machines as they are, asked through the Salt master: is the model that was applied the model that we have?"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory

APPLIED = "/etc/ostack-k8s/applied"  # written by the last state of a successful state.apply
TIMEOUT_SECONDS = 20


def disagreements(inventory: Inventory) -> list[Problem]:
    """Machines that do not answer, or whose applied underlay is not the model's; E033 where no Salt master is."""
    from reclass_model.difference import underlay_digest

    applied = _ask_all()
    found = []
    for node in inventory.nodes():
        hint = "run `salt-call state.apply` on it"
        if node.name not in applied:
            found.append(
                Problem(
                    "E230", "does not answer the Salt master", node=node.name, hint="is its minion running?"
                )
            )
        elif not applied[node.name]:
            found.append(Problem("E231", "nothing was applied there yet", node=node.name, hint=hint))
        elif applied[node.name] != underlay_digest(node.parameters):
            found.append(
                Problem("E232", "what was applied is not what the model says", node=node.name, hint=hint)
            )
    return found


def _ask_all() -> dict[str, str]:
    """Machine → digest of the underlay that was applied there, "" for none."""
    if shutil.which("salt") is None:
        raise OperatorError(
            "the Salt master is not on this machine",
            code="E033",
            hint="run this on the config machine, as root",
        )
    call = ["salt", "--static", "--out", "json", "--timeout", str(TIMEOUT_SECONDS), "*", "file.read", APPLIED]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    try:
        answers = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise OperatorError(
            f"the Salt master does not answer: {said[-1]}",
            code="E033",
            hint="run this on the config machine; `systemctl status salt-master` there tells more",
        ) from None
    return {name: _underlay(text) for name, text in answers.items() if isinstance(text, str)}


def _underlay(text: str) -> str:
    try:
        return str(json.loads(text)["underlay"])
    except (ValueError, KeyError, TypeError):
        return ""
