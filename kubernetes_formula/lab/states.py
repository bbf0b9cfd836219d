"""`salt-call state.apply` in a machine, and what it says it changed (or, in test mode, would change).

The parsing is pure; the same `Outcome` serves `lab up` (nothing may fail) and its rehearsal: what test mode
announces must be what the first run changes, and a second run must change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from docker.models.containers import Container

SALT_CALL = "/opt/ostack-k8s/bin/salt-call"
_SHOWN = 20  #: problems listed before "and N more"


@dataclass(frozen=True)
class Outcome:
    """One run of the states; a state is named `module.function: id`."""

    states: int
    changed: frozenset[str]  #: in test mode: would be changed
    failed: Mapping[str, str]  #: state → its comment
    seconds: float  #: the sum of the states' own durations


def apply(container: Container, machine: str, *, test: bool = False) -> Outcome:
    """Apply all of the machine's states. Raises OperatorError E810 when Salt cannot run them; failures are returned."""
    command = [SALT_CALL, "--local", "--out", "json", "--log-level", "warning", "state.apply"]
    done = container.exec_run([*command, "test=True"] if test else command, demux=True)
    output, errors = (stream.decode(errors="replace") if stream else "" for stream in done.output)
    try:
        returned = json.loads(output)["local"]
    except (ValueError, KeyError):
        returned = [
            errors.strip() or output.strip() or f"salt-call ended with {done.exit_code} and said nothing"
        ]
    if not isinstance(returned, dict):
        reasons = returned if isinstance(returned, list) else [returned]
        text = "\n".join(str(reason) for reason in reasons)
        hint = f"docker exec {container.name} salt-call --local state.apply"
        raise OperatorError.of(Problem("E810", f"the states cannot run: {text}", node=machine, hint=hint))
    return read(returned)


def read(returned: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """What Salt returned, `{"<module>_|-<id>_|-<name>_|-<function>": {result, changes, comment, duration}}`."""
    changed, failed, seconds = set(), {}, 0.0
    for key, state in returned.items():
        module, identifier, _, function = key.split("_|-")
        name = f"{module}.{function}: {identifier}"
        seconds += float(state.get("duration") or 0) / 1000
        if state["result"] is False:
            failed[name] = str(state["comment"]).strip()
        elif state["result"] is None or state["changes"]:
            changed.add(name)
    return Outcome(len(returned), frozenset(changed), failed, round(seconds, 1))


def demand_success(outcome: Outcome, machine: str) -> None:
    """Raises OperatorError E811 with every failed state; those that failed only because another did come last."""
    problems = [
        Problem(
            "E811",
            f"{state}: {comment}",
            node=machine,
            hint="see the comment; `ostack-k8s lab exec` reaches it",
        )
        for state, comment in sorted(outcome.failed.items(), key=lambda item: "requisite failed" in item[1])
    ]
    if problems:
        raise OperatorError(f"{len(problems)} states failed on {machine}", problems=problems[:_SHOWN])


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
