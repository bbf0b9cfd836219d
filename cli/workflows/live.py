"""The machines as they are, asked through the Salt master: are they fit for the model, and is it the one they run?"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory

MASTER = Path("/etc/salt/master")
APPLIED = "/etc/ostack-k8s/applied"  # written by the last state of a successful state.apply
COMPILING_SECONDS = 60  # a machine compiles its states to know where its certificates lie
ANSWER_SECONDS = 20  # over the time that a question itself takes


def live_problems(inventory: Inventory, progress: Callable[[str], None]) -> list[Problem]:
    """What is wrong with the machines, by code: E230 no answer, E24x unfit, W23x not (yet) what the model says.

    Raises OperatorError E033 where no Salt master is.
    """
    from reclass_model.difference import underlay_digest
    from reclass_model.inventory import get
    from reclass_model.validation import preflight

    nodes = {node.name: node for node in inventory.nodes()}
    there = _ask(nodes, "saltutil.sync_modules", {"refresh": True})
    progress(f"{len(there)} of {len(nodes)} machine(s) answer; they try each other's ports now")
    asked = preflight.questions(nodes[name] for name in nodes if name in there)
    facts = _ask(there, "preflight.facts", {"questions": asked}, preflight.LISTENING_SECONDS)
    applied = _ask(there, "file.read", {"path": APPLIED})
    names = {str(get(node.parameters, "_param:address", "")): name for name, node in nodes.items()}
    found = []
    for name, node in nodes.items():
        answer = facts.get(name)
        if not isinstance(answer, dict):
            said = f": {answer}" if answer else ""
            hint = "on it: systemctl status salt-minion; on the master: salt-key --list all"
            found.append(Problem("E230", f"does not answer the Salt master{said}", node=name, hint=hint))
            continue
        found += preflight.judge(node, answer, names)
        digest = _underlay(applied.get(name))
        if digest != underlay_digest(node.parameters):
            code, what = ("W232", "what was applied is not what the model says")
            if not digest:
                code, what = "W231", "nothing was applied yet"
            found.append(Problem(code, what, node=name, hint="salt-run state.orch ostack.underlay"))
    return found


def live_certificates(inventory: Inventory) -> dict[str, dict[str, str]]:
    """Machine -> certificate -> its PEM text there, "" where it is missing; who does not answer is not in it.

    Raises OperatorError E033 where no Salt master is.
    """
    names = [node.name for node in inventory.nodes()]
    there = _ask(names, "saltutil.sync_modules", {"refresh": True})
    answers = _ask(there, "certificates.installed", {}, COMPILING_SECONDS)
    return {name: answer for name, answer in answers.items() if isinstance(answer, dict)}


def _ask(
    machines: Collection[str], function: str, arguments: dict[str, Any], seconds: int = 0
) -> dict[str, Any]:
    """What each machine returns; who does not answer is not in it."""
    if not MASTER.is_file():
        raise OperatorError(
            "the Salt master is not on this machine",
            code="E033",
            hint="run this on the config machine, as root",
        )
    try:
        import salt.client
        import salt.exceptions
    except ImportError:
        raise OperatorError("Salt is not installed beside ostack-k8s", code="E031") from None
    try:
        with salt.client.LocalClient(str(MASTER)) as client:
            answers = client.cmd_iter(
                sorted(machines), function, tgt_type="list", kwarg=arguments, timeout=seconds + ANSWER_SECONDS
            )
            return {name: said["ret"] for answer in answers for name, said in answer.items() if "ret" in said}
    except (salt.exceptions.SaltException, OSError) as error:
        raise OperatorError(
            f"the Salt master does not answer: {error}", code="E033", hint="systemctl status salt-master"
        ) from error


def _underlay(text: Any) -> str:
    try:
        return str(json.loads(text)["underlay"])
    except (ValueError, KeyError, TypeError):
        return ""
