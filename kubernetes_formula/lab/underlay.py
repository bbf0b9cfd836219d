"""The lab's underlay: machines become minions as bare metal does, then the Salt master brings them all to the model.

What a run must be is held here: nothing fails, test mode announces what the first run changes, a second run changes
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from kubernetes_formula.lab.provisioning import VENV
from kubernetes_formula.outcome import Outcome, causes, read
from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from docker.models.containers import Container

SALT = f"{VENV}/bin/"
_SHOWN = 20  #: problems listed before "and N more"


def enlist(container: Container, machine: str, states: str) -> bool:
    """Make a machine a minion (`states`) without a master, from its own checkout; False when it is one already.

    Raises OperatorError E810 when Salt cannot run, E811 when a state fails.
    """
    services = [name.replace(".", "-") for name in states.split(",")]
    if container.exec_run(["systemctl", "is-active", "--quiet", *services]).exit_code == 0:
        return False
    command = [f"{SALT}salt-call", "--local", "--out", "json", "--log-level", "warning"]
    command += ["state.apply", states, "sync_mods=all"]
    done = container.exec_run(command, demux=True)
    output, errors = (stream.decode(errors="replace") if stream else "" for stream in done.output)
    try:
        returned = json.loads(output)["local"]
    except (ValueError, KeyError):
        text = errors.strip() or output.strip() or f"salt-call ended with {done.exit_code} and said nothing"
        raise OperatorError.of(_cannot_run(text, machine, f"{container.name} salt-call --local")) from None
    demand_success(read(returned), machine)
    return True


def apply(
    master: Container,
    machines: Collection[str],
    absent: Collection[str] = (),
    *,
    test: bool = False,
    progress: Callable[[str], None],
) -> dict[str, Outcome]:
    """`salt-run ostack.underlay` for these machines, without the model's others: what was done on each.

    Raises OperatorError E810 when the orchestration cannot run, E811 with machine, state and reason where one fails.
    """
    command = [f"{SALT}salt-run", "--out", "json", "--log-level", "error", "ostack.underlay"]
    command += [f"only={','.join(sorted(machines))}", f"absent={','.join(sorted(absent))}", f"test={test}"]
    api = master.client.api
    run = api.exec_create(master.id, command)["Id"]
    output, pending, said = b"", b"", ""
    for out, told in api.exec_start(run, stream=True, demux=True):
        output += out or b""
        *lines, pending = (pending + (told or b"")).split(b"\n")
        for line in (line.decode(errors="replace") for line in lines):
            if line.startswith(tuple(f"{machine}: " for machine in machines)):
                progress(line)
            else:
                said += f"{line}\n"  # Salt's own words; of use only when it fails
    try:
        done = json.loads(output)
        outcomes = {machine: Outcome.of(data) for machine, data in done["machines"].items()}
    except (ValueError, KeyError, TypeError):
        text = output.decode(errors="replace").strip() or said.strip() or "salt-run said nothing"
        raise OperatorError.of(_cannot_run(text, str(master.name), f"{master.name} salt-run")) from None
    _demand_order(outcomes, done["failed"])
    return outcomes


def demand_success(outcome: Outcome, machine: str) -> None:
    """Raises OperatorError E811 with every failed state; those that failed only because another did come last."""
    _demand_order({machine: outcome}, {})


def demand_truth(announced: Outcome, first: Outcome, second: Outcome, machine: str) -> None:
    """Raises OperatorError E812 where test mode lied, or where a second run still changed something."""
    problems = [
        Problem(
            "E812", f"{what}: {state}", node=machine, hint="the state's test mode or its idempotence is wrong"
        )
        for what, states in (
            ("changed but not announced by test=True", first.changed - announced.changed),
            ("announced by test=True but not changed", announced.changed - first.changed),
            ("changed again by a second run", second.changed),
        )
        for state in sorted(states)
    ]
    if problems:
        raise OperatorError(f"the states of {machine} are not true", problems=problems[:_SHOWN])


def _demand_order(outcomes: Mapping[str, Outcome], phases: Mapping[str, str]) -> None:
    """Raises OperatorError E811: failed states by machine, then the phases that failed for another reason."""
    problems = [
        Problem("E811", f"{state}: {comment}", node=machine, hint="`ostack-k8s lab exec` reaches the machine")
        for machine, outcome in outcomes.items()
        for state, comment in causes(outcome.failed)
    ]
    if not problems:
        problems = [
            Problem("E811", f"{phase}: {reason}", hint="salt-run state.orch ostack.underlay")
            for phase, reason in phases.items()
        ]
    if problems:
        where = ", ".join(machine for machine, outcome in outcomes.items() if outcome.failed) or "the master"
        raise OperatorError(f"{len(problems)} states failed on {where}", problems=problems[:_SHOWN])


def _cannot_run(text: str, machine: str, command: str) -> Problem:
    return Problem("E810", f"the states cannot run: {text}", node=machine, hint=f"docker exec {command}")
