"""The machines as they are, asked through the Salt master: are they fit for the model, and is it the one they run?"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory, Node

MASTER = Path("/etc/salt/master")
APPLIED = "/etc/ostack-k8s/applied"  # written by the last state of a successful state.apply
COMPILING_SECONDS = 60  # a machine compiles its states to know where its certificates lie
ANSWER_SECONDS = 20  # over the time that a question itself takes


def live_problems(inventory: Inventory, progress: Callable[[str], None]) -> list[Problem]:
    """What is wrong with the machines, by code: E230 no answer, E24x unfit, W240 not checked, E250 a BGP session down,
    E413 and W130 a certificate at its end, W23x not (yet) what the model says.

    Raises OperatorError E033 where no Salt master is.
    """
    from reclass_model.difference import underlay_digest
    from reclass_model.validation import preflight

    nodes = {node.name: node for node in inventory.nodes()}
    there = _ask(nodes, "saltutil.sync_modules", {"refresh": True})
    progress(f"{len(there)} of {len(nodes)} machine(s) answer; they try each other's ports now")
    asked = preflight.questions(nodes[name] for name in nodes if name in there)
    facts = _ask(there, "preflight.facts", {"questions": asked}, preflight.LISTENING_SECONDS)
    applied = _ask(there, "file.read", {"path": APPLIED})
    sessions = _ask(there, "calico.sessions", {})
    certificates = _ask(there, "certificates.installed", {}, COMPILING_SECONDS)
    now = datetime.now(UTC)
    names = _by_address(nodes)
    silent = {address for address, name in names.items() if not isinstance(facts.get(name), dict)}
    found = []
    for name, node in nodes.items():
        answer = facts.get(name)
        if not isinstance(answer, dict):
            found.append(_no_answer(name, answer))
            continue
        found += preflight.judge(node, asked[name], answer, names)
        found += judge_sessions(name, sessions.get(name), names, silent)
        found += _ending(node, certificates.get(name), now)
        digest = _underlay(applied.get(name))
        if digest != underlay_digest(node.parameters):
            code, what = ("W232", "what was applied is not what the model says")
            if not digest:
                code, what = "W231", "nothing was applied yet"
            found.append(Problem(code, what, node=name, hint="salt-run state.orch ostack.underlay"))
    answered = {name: answer for name, answer in facts.items() if isinstance(answer, dict)}
    found += preflight.judge_clocks((nodes[name] for name in answered), answered)
    return found


def _by_address(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Address → machine, to speak of machines by name."""
    from reclass_model.inventory import get

    return {str(get(node.parameters, "_param:address", "")): name for name, node in nodes.items()}


def _no_answer(node: str, said: Any = None) -> Problem:
    words = f": {said}" if said else ""
    hint = "on it: systemctl status salt-minion; on the master: salt-key --list all"
    return Problem("E230", f"does not answer the Salt master{words}", node=node, hint=hint)


def network_problems(inventory: Inventory) -> list[Problem] | None:
    """BGP sessions that are not up (E250), and machines that do not answer (E230); None where no Salt master is.

    Raises OperatorError E031, E033 when the Salt master of this machine cannot be asked, or is not this cloud's.
    """
    if not MASTER.is_file():
        return None
    nodes = {node.name: node for node in inventory.nodes()}
    sessions = _ask(nodes, "calico.sessions", {})
    if not sessions:
        raise OperatorError("no machine answers the Salt master", code="E033", hint="salt-key --list all")
    names = _by_address(nodes)
    silent = {address for address, name in names.items() if name not in sessions}
    found: list[Problem] = []
    for name in nodes:
        if name in sessions:
            found += judge_sessions(name, sessions[name], names, silent)
        else:
            found.append(_no_answer(name))
    return found


def judge_sessions(
    node: str, sessions: Any, names: Mapping[str, str], silent: Collection[str]
) -> Iterator[Problem]:
    """A problem for each BGP session of a machine that is not up (`names`: address → machine).

    A session with a machine that does not answer at all, its address in `silent`, says nothing new.
    """
    if not isinstance(sessions, list):
        hint = "on it: systemctl status calico-bird calico-confd"
        yield Problem("E250", f"cannot tell its BGP sessions: {sessions}", node=node, hint=hint)
        return
    for session in sessions:
        peer, why = session["peer"], f", {session['why']}" if session["why"] else ""
        if session["state"] == "Established" or peer in silent:
            continue
        yield Problem(
            "E250",
            f"no BGP session with {names.get(peer, peer)} ({session['state']}{why})",
            node=node,
            hint="is the password or the AS number another one there? `ostack-k8s why` shows calico:bgp:peer; "
            "on it: birdc -s /run/calico/bird.ctl show protocols all",
        )


def _ending(node: Node, answer: Any, now: datetime) -> Iterator[Problem]:
    """Certificates at their end: those on the machine, else (nothing is applied yet) those of the model."""
    from reclass_model import pki
    from reclass_model.certificates import end_of
    from reclass_model.inventory import get

    there = answer if isinstance(answer, dict) else {}
    for name, declared in (get(node.parameters, "pki:certificate", None) or {}).items():
        if declared is not None:
            text = there.get(name) or str(declared.get("certificate", ""))
            yield from pki.ending(node.name, name, end_of(text), now)


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
