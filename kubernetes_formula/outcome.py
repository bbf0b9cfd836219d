"""What one run of a machine's states did, read from what Salt returns. Pure.

Used on both ends: the runner that applies the underlay reads the machines' answers with it, and whoever started
that runner (the lab) reads what the runner says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One run of the states; a state is named `module.function: id`."""

    states: int
    changed: frozenset[str]  #: in test mode: would be changed
    failed: Mapping[str, str]  #: state → its comment
    seconds: float  #: the sum of the states' own durations

    def as_dict(self) -> dict[str, Any]:
        return {
            "states": self.states,
            "changed": sorted(self.changed),
            "failed": dict(self.failed),
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(data["states"], frozenset(data["changed"]), data["failed"], data["seconds"])


def read(returned: Any) -> Outcome:
    """What Salt returned, `{"<module>_|-<id>_|-<name>_|-<function>": {result, changes, comment, duration}}`.

    Anything else (a list of errors, a text) is a run that could not begin.
    """
    if not isinstance(returned, Mapping):
        reasons = returned if isinstance(returned, list) else [returned]
        return Outcome(0, frozenset(), {"the states cannot run": "\n".join(map(str, reasons))}, 0.0)
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


def joined(outcomes: Iterable[Outcome]) -> Outcome:
    """Several runs on one machine, one after another, as one."""
    runs = tuple(outcomes)
    return Outcome(
        max((run.states for run in runs), default=0),
        frozenset().union(*(run.changed for run in runs)),
        {state: comment for run in runs for state, comment in run.failed.items()},
        round(sum(run.seconds for run in runs), 1),
    )


def causes(failed: Mapping[str, str]) -> list[tuple[str, str]]:
    """The failed states with their comments; those that failed only because another did come last."""
    return sorted(failed.items(), key=lambda item: "requisite failed" in item[1])
