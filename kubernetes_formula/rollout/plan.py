"""(deployed, desired) → the steps of a rollout and what each waits for. Pure: `plan` shows what `deploy` will run.

The order: what pods need (namespaces, volumes, Secrets) → checks → snapshots → for each workload, after those it
follows: bootstrap (first deployment) → expand → migrate → its objects, healthy → configure → what is gone.
`contract` and `online` wait for `finalize`, `manual` for a person.

What starts anew waits for what the model says, and nothing else: a first deployment runs side by side. A step that
touches what runs already is alone: nothing runs beside it, so that a fault has one cause, and the impact is no more
than the plan says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubernetes_formula.manifests import Job, Overlay, Workload, key
from kubernetes_formula.manifests.overlay import CONTROLLERS, owner
from kubernetes_formula.rollout.changes import CREATE, DELETE, ObjectChange, object_changes
from reclass_model.errors import OperatorError, Problem

_FOUNDATION_KINDS = ("Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret", "ConfigMap")
#: How a strategy replaces the pods; the others roll.
_REPLACING = {"switch": "switch", "recreate": "recreate"}

Releases = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """One thing a rollout does, then sees that it worked."""

    name: str  #: unique in its plan: "<workload> expand"
    workload: str  #: empty for what belongs to none
    phase: str  #: prepare, roll, remove, or a Job's
    action: str  #: apply | job | roll | switch | recreate | delete
    detail: str  #: for people
    impact: str = "none"  #: none | api | data_plane
    objects: tuple[str, ...] = ()  #: keys of the objects it applies, deletes or runs
    #: Names of the steps that are done before it begins, all of them earlier in the plan; without those that these wait
    #: for in turn.
    after: tuple[str, ...] = ()


class _Order:
    """The steps of a plan as they are added, each told what it waits for."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._before: dict[str, frozenset[str]] = {}  #: step → all that are done before it
        self._alone: tuple[str, ...] = ()  #: the last that ran alone

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps.values())

    def alone(self, steps: Iterable[Step]) -> None:
        """Each begins when all before it are done, and all that are added later wait for it."""
        for step in steps:
            self._add(step, frozenset(self._steps))
            self._alone = (step.name,)

    def beside(self, steps: Iterable[Step], after: Iterable[str] = ()) -> None:
        """Each waits for the steps `after` alone."""
        for step in steps:
            self._add(step, frozenset((*after, *self._alone)))

    def _add(self, step: Step, wanted: frozenset[str]) -> None:
        implied = frozenset().union(*(self._before[name] for name in wanted))
        self._before[step.name] = wanted | implied
        after = tuple(name for name in self._steps if name in wanted - implied)
        self._steps[step.name] = replace(step, after=after)


class _Started:
    """Adds the steps of workloads that are not there yet, in order; each waits for what the model says."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._set_up: dict[str, tuple[str, ...]] = {}  #: workload → the last of its bootstrap Jobs
        self._whole: dict[str, tuple[str, ...]] = {}  #: workload → its last step

    def start(
        self, workload: Workload, bootstrap: Iterable[Job], objects: Iterable[Step], configure: Iterable[Job]
    ) -> None:
        last: tuple[str, ...] = ()
        for job in bootstrap:
            last = self._add(_jobs([job]), last, workload.after if job.after is None else job.after)
        self._set_up[workload.name] = last
        last = self._add(objects, last, workload.after)
        for job in configure:
            last = self._add(_jobs([job]), last, job.after or {})
        self._whole[workload.name] = last

    def _add(
        self, steps: Iterable[Step], last: tuple[str, ...], follows: Mapping[str, str]
    ) -> tuple[str, ...]:
        """Add them; the last of them. What is followed and has no step here runs already."""
        places = {"all": self._whole, "bootstrap": self._set_up, "nothing": {}}
        before = [step for name, what in follows.items() for step in places[what].get(name, ())]
        for step in steps:
            self._order.beside([step], (*last, *before))
            last = (step.name,)
        return last


def plan(deployed: Overlay | None, desired: Overlay, releases: Releases | None = None) -> tuple[Step, ...]:
    """The steps from `deployed` (None: nothing) to `desired`; none when nothing changed.

    `releases` (`openstack:release`) says which release may follow which. OperatorError E62x for a downgrade, a skipped
    release or workloads that follow one another in a circle.
    """
    upgraded = released(deployed, desired)
    if releases is not None:
        _check_releases(deployed, desired, upgraded, releases)
    changes = {change.key: change for change in object_changes(deployed, desired)}
    names = in_order(desired.workloads)
    done = _jobs_done(deployed)
    order = _Order()
    order.alone(_foundation(changes.values()))
    migrated = [name for name in names if name in upgraded]
    for name in migrated:
        order.beside(_jobs(desired.jobs_of(name, "check")))  # they only read
    for name in migrated:
        order.alone(_jobs(desired.jobs_of(name, "snapshot")))
    started = _Started(order)
    for name in names:
        workload = desired.workloads[name]
        bootstrap = [job for job in desired.jobs_of(name, "bootstrap") if key(job.object) not in done]
        configure = [job for job in desired.jobs_of(name, "configure") if key(job.object) not in done]
        own = [changes[each] for each in _own_objects(desired, name) if each in changes]
        objects = _workload(workload, own, upgraded=name in upgraded)
        if deployed is None or name not in deployed.workloads:
            started.start(workload, bootstrap, objects, configure)
            continue
        order.alone(_jobs(bootstrap))
        if name in upgraded:
            order.alone(_jobs(desired.jobs_of(name, "expand", "migrate")))
        order.alone(objects)
        order.alone(_jobs(configure))
    order.alone(_removal(changes.values()))
    return order.steps


def finalization(pending: Iterable[str], desired: Overlay) -> tuple[Step, ...]:
    """The steps that end an upgrade of the workloads `pending`: contract, then online."""
    wanted = set(pending)
    order = [name for name in in_order(desired.workloads) if name in wanted]
    steps = _Order()
    for phase in ("contract", "online"):
        for name in order:
            steps.alone(_jobs(desired.jobs_of(name, phase)))
    return steps.steps


def return_to(previous: Overlay, current: Overlay) -> tuple[Step, ...]:
    """The steps back to `previous`: its objects in reverse order; of the Jobs those that configure what changed.

    OperatorError E623 where only the database's snapshot could bring the old release back.
    """
    upgraded = released(previous, current)
    lost = [name for name in sorted(upgraded) if current.workloads[name].rollback == "snapshot"]
    if lost:
        raise OperatorError.of(
            *(
                Problem(
                    "E623",
                    f"{name} cannot go back to {previous.workloads[name].release}: its migration needs the snapshot",
                    path=f"kubernetes:control:workload:{name}:upgrade:rollback",
                    hint="restore the snapshot that the upgrade made (`ostack-k8s run`), or go forward",
                )
                for name in lost
            )
        )
    changes = {change.key: change for change in object_changes(current, previous)}
    done = _jobs_done(current)
    order = _Order()
    order.alone(_foundation(changes.values()))
    for name in reversed(in_order(previous.workloads)):
        own = [changes[each] for each in _own_objects(previous, name) if each in changes]
        order.alone(_workload(previous.workloads[name], own, upgraded=name in upgraded))
        order.alone(_jobs(job for job in previous.jobs_of(name, "configure") if key(job.object) not in done))
    order.alone(_removal(changes.values()))
    return order.steps


def released(deployed: Overlay | None, desired: Overlay) -> frozenset[str]:
    """The workloads that are deployed with one release and wanted with another."""
    before = deployed.workloads if deployed else {}
    return frozenset(
        name
        for name, workload in desired.workloads.items()
        if name in before
        and before[name].release
        and workload.release
        and before[name].release != workload.release
    )


def in_order(workloads: Mapping[str, Workload]) -> list[str]:
    """Workload names so that each comes after those it follows, otherwise by name; OperatorError E620 for a circle."""
    ordered: list[str] = []
    left = sorted(workloads)
    while left:
        free = next(
            (name for name in left if not any(after in left for after in workloads[name].after)), None
        )
        if free is None:
            raise OperatorError.of(
                Problem(
                    "E620",
                    f"workloads follow one another in a circle: {', '.join(left)}",
                    path=f"kubernetes:control:workload:{left[0]}:upgrade:after",
                    hint="mend `after` in their upgrade or job",
                )
            )
        ordered.append(free)
        left.remove(free)
    return ordered


def _check_releases(
    deployed: Overlay | None, desired: Overlay, upgraded: Iterable[str], releases: Releases
) -> None:
    problems = []
    for name in sorted(upgraded):
        wanted = desired.workloads[name]
        before, after = (deployed or desired).workloads[name].release, wanted.release
        allowed = releases.get(str(after), {}).get("upgrade_from") or {}
        if before in allowed:
            continue
        order = [int(releases.get(str(each), {}).get("order", 0)) for each in (before, after)]
        path = f"{wanted.service}:{wanted.role}:image:release"
        if order[1] < order[0]:
            hint = "`ostack-k8s rollback` goes back, until `finalize`"
            problems.append(
                Problem("E621", f"{name}: {after} is older than the deployed {before}", path=path, hint=hint)
            )
        else:
            hint = f"{after} may follow: {', '.join(sorted(allowed)) or 'none'}; upgrade to one of them first"
            problems.append(
                Problem("E622", f"{name}: {before} → {after} skips a release", path=path, hint=hint)
            )
    if problems:
        raise OperatorError.of(*problems)


def _jobs_done(overlay: Overlay | None) -> set[str]:
    return {key(job.object) for found in (overlay.jobs if overlay else {}).values() for job in found}


def _jobs(jobs: Iterable[Job]) -> list[Step]:
    return [
        Step(
            f"{job.workload} {job.name}",
            job.workload,
            job.phase,
            "job",
            f"run {job.object['metadata']['name']}",
            objects=(key(job.object),),
        )
        for job in jobs
    ]


def _foundation(changes: Iterable[ObjectChange]) -> list[Step]:
    found = [change for change in changes if change.kind in _FOUNDATION_KINDS and change.action != DELETE]
    if not found:
        return []
    detail = ", ".join(_counted(change.kind for change in found))
    return [Step("prepare", "", "prepare", "apply", detail, objects=tuple(change.key for change in found))]


def _own_objects(overlay: Overlay, workload: str) -> list[str]:
    return [
        key(item)
        for item in overlay.objects
        if owner(item) == workload and item["kind"] not in _FOUNDATION_KINDS
    ]


def _workload(workload: Workload, changes: list[ObjectChange], *, upgraded: bool) -> list[Step]:
    if not changes:
        return []
    restarting = any(change.restarts for change in changes)
    starting = any(change.kind in CONTROLLERS and change.action == CREATE for change in changes)
    replacing = _REPLACING.get(workload.strategy, "roll") if upgraded else "roll"
    action = replacing if restarting or upgraded else "apply"
    step = Step(
        name=f"{workload.name} {'start' if starting and not upgraded else action}",
        workload=workload.name,
        phase="roll",
        action=action,
        detail=", ".join(_described(change) for change in changes),
        impact=_impact(workload, action) if restarting or upgraded else "none",
        objects=tuple(change.key for change in changes),
    )
    return [step]


def _impact(workload: Workload, action: str) -> str:
    """What users notice while the pods are replaced: as declared, at least `api` where nobody serves meanwhile."""
    gap = action == "recreate" or (workload.kind == "StatefulSet" and workload.replicas == 1)
    return "api" if gap and workload.impact == "none" else workload.impact


def _removal(changes: Iterable[ObjectChange]) -> list[Step]:
    gone = [change for change in changes if change.action == DELETE]
    if not gone:
        return []
    detail = ", ".join(f"{change.kind} {change.name}" for change in gone)
    return [Step("remove", "", "remove", "delete", detail, objects=tuple(change.key for change in gone))]


def _described(change: ObjectChange) -> str:
    fields = ", ".join(field.removeprefix("spec.") for field in change.fields[:3])
    more = f" and {len(change.fields) - 3} more" if len(change.fields) > 3 else ""
    action = "replace" if change.replaces else change.action
    return f"{action} {change.kind} {change.name}" + (f" ({fields}{more})" if fields else "")


def _counted(kinds: Iterable[str]) -> Iterator[str]:
    found = list(kinds)
    for kind in dict.fromkeys(found):
        yield f"{found.count(kind)} {kind}"
