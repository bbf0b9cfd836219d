"""The record of a rollout, kept in the cluster: what was there, what is wanted, how far it came.

Written before and after each step, so a rollout killed at any moment goes on from any machine. The record holds the
whole object sets (with Secret values: it is a Secret itself), so going back needs neither the model nor its keys.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from kubernetes_formula.manifests import Overlay, key
from kubernetes_formula.manifests.program import DEFAULT_NAMESPACE
from kubernetes_formula.rollout.cluster import Cluster
from kubernetes_formula.rollout.plan import Step

NAMESPACE = DEFAULT_NAMESPACE
_PREFIX = "ostack-k8s-rollout-"
_LABELS = {"ostack-k8s.io/record": "rollout"}
#: Records that are kept; each is a way back.
_KEPT = 10

PENDING, RUNNING, DONE, FAILED = "pending", "running", "done", "failed"


@dataclass(frozen=True)
class StepResult:
    """A step and how it went."""

    step: Step
    result: str = PENDING  #: pending | running | done | failed
    #: When it began: seconds that the rollout had run by then, not counting those between two goes.
    begun: float = 0.0
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class RolloutRecord:
    """One deploy, rollback or finalize."""

    id: str  #: begins with the time
    action: str  #: deploy | rollback | finalize
    revision: str  #: of the model, that `desired` was rendered from
    desired: Overlay
    base: Overlay | None  #: what was deployed before; None: nothing
    steps: tuple[StepResult, ...] = ()
    state: str = RUNNING  #: running | done | failed
    started: str = ""  #: ISO 8601, UTC
    finished: str = ""
    previous: str | None = None  #: the record that a rollback returns to
    pending: Mapping[str, str] = field(
        default_factory=dict
    )  #: workload → release it came from, until finalize
    blocked: Mapping[str, str] = field(default_factory=dict)  #: workload → release that was rolled back from
    downtime: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict
    )  #: endpoint → {requests, failed, longest_gap_s}

    @property
    def done(self) -> bool:
        """Whether every step succeeded and the rollout was closed."""
        return self.state == DONE

    def effective(self) -> Overlay | None:
        """What is in the cluster: `desired` once done, else `base` with what the started steps have touched."""
        if self.done:
            return self.desired
        begun = [each for each in self.steps if each.result != PENDING]
        return _overlaid(self.base, self.desired, begun) if begun else self.base

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without the object sets: for reports and `-o json`."""
        data = asdict(replace(self, desired=Overlay(), base=None, steps=()))  # those are large
        del data["desired"], data["base"]
        steps = [
            {
                **asdict(each.step),
                "result": each.result,
                "begun": each.begun,
                "seconds": each.seconds,
                "message": each.message,
            }
            for each in self.steps
        ]
        return {**data, "steps": steps}


def begin(
    action: str, revision: str, desired: Overlay, base: Overlay | None, steps: tuple[Step, ...]
) -> RolloutRecord:
    """A new record; nothing is written."""
    now = datetime.now(UTC)
    identity = f"{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(2)}"
    return RolloutRecord(
        identity, action, revision, desired, base, tuple(StepResult(step) for step in steps), started=_now()
    )


def close(record: RolloutRecord, state: str) -> RolloutRecord:
    """The record at its end."""
    return replace(record, state=state, finished=_now())


def overlay_digest(overlay: Overlay) -> str:
    """Whether two overlays want the same; Secret values do not matter, their names follow them."""
    data = overlay.as_dict()
    data["objects"] = [{**item, "stringData": None} for item in data["objects"]]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class Records:
    """The records in a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def latest(self) -> RolloutRecord | None:
        """The newest record, finished or not; None when nothing was ever deployed."""
        names = self._names()
        return self._read(names[-1]) if names else None

    def finished(self) -> RolloutRecord | None:
        """The newest record of a rollout that came to its end; None when none did."""
        found = (self._read(name) for name in reversed(self._names()))
        return next((record for record in found if record and record.done), None)

    def before(self, record: RolloutRecord) -> RolloutRecord | None:
        """The newest that had come to its end when this one began; None when nothing was deployed then."""
        names = self._names()
        older = names[: names.index(_PREFIX + record.id)]
        found = (self._read(name) for name in reversed(older))
        return next((each for each in found if each and each.done), None)

    def find(self, identity: str) -> RolloutRecord | None:
        """A record by its id."""
        return self._read(_PREFIX + identity)

    def identities(self) -> list[str]:
        """The ids of all records, oldest first."""
        return [name.removeprefix(_PREFIX) for name in self._names()]

    def save(self, record: RolloutRecord) -> None:
        """Write a record: one object, so either the old or the new one is there."""
        data = {
            **record.as_dict(),
            "steps": [asdict(each) for each in record.steps],
            "desired": record.desired.as_dict(),
            "base": record.base.as_dict() if record.base else None,
        }
        packed = gzip.compress(json.dumps(data, sort_keys=True).encode(), mtime=0)
        self._cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": _PREFIX + record.id, "namespace": NAMESPACE, "labels": _LABELS},
                "type": "ostack-k8s.io/rollout",
                "data": {"record": base64.b64encode(packed).decode()},
            }
        )

    def forget_old(self, way_back: str | None) -> None:
        """Delete all but the last records, and the one that a rollback would return to: many may have failed since."""
        for name in self._names()[:-_KEPT]:
            if name != f"{_PREFIX}{way_back}":
                self._cluster.delete("Secret", NAMESPACE, name)

    def _names(self) -> list[str]:
        """Oldest first, by the server's clock: that of who deploys may be behind."""
        found = [item["metadata"] for item in self._cluster.list("Secret", NAMESPACE, _LABELS)]
        return [
            each["name"] for each in sorted(found, key=lambda each: (each["creationTimestamp"], each["name"]))
        ]

    def _read(self, name: str) -> RolloutRecord | None:
        item = self._cluster.get("Secret", NAMESPACE, name)
        if item is None:
            return None
        data = json.loads(gzip.decompress(base64.b64decode(item["data"]["record"])))
        data["desired"] = Overlay.from_dict(data["desired"])
        data["base"] = Overlay.from_dict(data["base"]) if data["base"] else None
        data["steps"] = tuple(_step_result(each) for each in data["steps"])
        return RolloutRecord(**data)


def _step_result(data: Mapping[str, Any]) -> StepResult:
    lists = {name: tuple(data["step"][name]) for name in ("objects", "after")}
    step = Step(**{**data["step"], **lists})
    return StepResult(**{**data, "step": step})


def _overlaid(base: Overlay | None, desired: Overlay, begun: list[StepResult]) -> Overlay:
    """`base` with what steps have done, or may have done, of `desired`. A Job counts only once it has succeeded."""
    base = base or Overlay()
    wanted = desired.by_key()
    objects = base.by_key()
    for each in begun:
        for name in each.step.objects:
            if each.step.action == "delete":
                objects.pop(name, None)
            elif name in wanted and each.result == DONE:
                objects[name] = wanted[name]
            elif name in wanted and each.step.workload:
                objects[name] = {
                    **wanted[name],
                    "spec": None,
                }  # nobody knows which: it differs from any other
            elif name in wanted:
                objects.pop(name, None)  # applying what may be there does no harm, not applying it does
    touched = {name for each in begun for name in each.step.objects}
    rolled = {each.step.workload for each in begun if each.step.phase == "roll"}
    succeeded = {name for each in begun if each.result == DONE for name in each.step.objects}
    workloads = {
        **base.workloads,
        **{name: each for name, each in desired.workloads.items() if name in rolled},
    }
    # what a Job has begun to set up no longer is as the former one of its name left it
    superseded = {
        (job.workload, job.name)
        for found in desired.jobs.values()
        for job in found
        if key(job.object) in touched
    }
    jobs = {
        phase: [
            job for job in found if (job.workload, job.name) not in superseded or key(job.object) in touched
        ]
        for phase, found in base.jobs.items()
    }
    for phase, found in desired.jobs.items():
        known = {key(job.object) for job in jobs.get(phase, [])}
        jobs.setdefault(phase, []).extend(job for job in found if key(job.object) in succeeded - known)
    return Overlay(tuple(objects.values()), workloads, {phase: tuple(found) for phase, found in jobs.items()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
