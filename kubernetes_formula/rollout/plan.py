"""(deployed, desired) → the ordered steps of a rollout. Pure: `plan` shows what `deploy` will run.

The order: what pods need (namespaces, volumes, Secrets) → checks → snapshots → for each workload, after those it
follows: bootstrap (first deployment) → expand → migrate → its objects, healthy → configure → what is gone.
`contract` and `online` wait for `finalize`, `manual` for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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


def plan(deployed: Overlay | None, desired: Overlay, releases: Releases | None = None) -> tuple[Step, ...]:
    """The steps from `deployed` (None: nothing) to `desired`; none when nothing changed.

    `releases` (`openstack:release`) says which release may follow which. OperatorError E62x for a downgrade, a skipped
    release or workloads that follow one another in a circle.
    """
    upgraded = released(deployed, desired)
    if releases is not None:
        _check_releases(deployed, desired, upgraded, releases)
    changes = {change.key: change for change in object_changes(deployed, desired)}
    order = in_order(desired.workloads)
    done = _jobs_done(deployed)
    steps = _foundation(changes.values())
    for phase in ("check", "snapshot"):
        for name in order:
            if name in upgraded:
                steps += _jobs(desired.jobs_of(name, phase))
    for name in order:
        steps += _jobs(job for job in desired.jobs_of(name, "bootstrap") if key(job.object) not in done)
        if name in upgraded:
            steps += _jobs(desired.jobs_of(name, "expand", "migrate"))
        own = [changes[each] for each in _own_objects(desired, name) if each in changes]
        steps += _workload(desired.workloads[name], own, upgraded=name in upgraded)
        steps += _jobs(job for job in desired.jobs_of(name, "configure") if key(job.object) not in done)
    return (*steps, *_removal(changes.values()))


def finalization(pending: Iterable[str], desired: Overlay) -> tuple[Step, ...]:
    """The steps that end an upgrade of the workloads `pending`: contract, then online."""
    wanted = set(pending)
    order = [name for name in in_order(desired.workloads) if name in wanted]
    return tuple(
        step
        for phase in ("contract", "online")
        for name in order
        for step in _jobs(desired.jobs_of(name, phase))
    )


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
                    hint="restore the database from the snapshot that the upgrade made, or go forward",
                )
                for name in lost
            )
        )
    changes = {change.key: change for change in object_changes(current, previous)}
    done = _jobs_done(current)
    steps = _foundation(changes.values())
    for name in reversed(in_order(previous.workloads)):
        own = [changes[each] for each in _own_objects(previous, name) if each in changes]
        steps += _workload(previous.workloads[name], own, upgraded=name in upgraded)
        steps += _jobs(job for job in previous.jobs_of(name, "configure") if key(job.object) not in done)
    return (*steps, *_removal(changes.values()))


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
