"""What a rollout took its time for. Pure: from the steps of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes_formula.rollout.record import DONE, StepResult

#: Seconds between the end of what a step waits for and its begin that are no waiting: the record is written meanwhile.
_AT_ONCE = 1.0


@dataclass(frozen=True)
class Link:
    """A step of the critical path."""

    name: str
    seconds: float
    place: bool  #: it did not wait for the link before it, but for one step less to run at the same time


def duration(steps: Sequence[StepResult]) -> float:
    """Seconds from the first begin to the last end, without those between two goes."""
    return round(max((_end(each) for each in steps), default=0.0), 3)


def critical_path(steps: Sequence[StepResult]) -> tuple[Link, ...]:
    """The steps, one after the other, that determined how long it took: a quicker one of them, a quicker rollout."""
    done = [each for each in steps if each.result == DONE]
    found: list[Link] = []
    current = max(done, key=_end, default=None)
    while current is not None:
        earlier = [each for each in done if _end(each) <= current.begun and each.begun < current.begun]
        waited = [each for each in earlier if each.step.name in current.step.after]
        before = max(waited, key=_end, default=None)
        place = False
        if earlier and (before is None or current.begun - _end(before) > _AT_ONCE):
            before = max(earlier, key=_end)
            place = before not in waited
        found.append(Link(current.step.name, current.seconds, place))
        current = before
    return tuple(reversed(found))


def _end(each: StepResult) -> float:
    return each.begun + each.seconds
