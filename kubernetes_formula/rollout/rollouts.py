"""deploy, rollback, finalize: what a person decides, from the lease to the closed record.

Each reads the latest record, refuses what must not be, begins a record or goes on with an unfinished one, and runs it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from kubernetes_formula.manifests import Object, Overlay, key
from kubernetes_formula.manifests.overlay import CONTROLLERS
from kubernetes_formula.rollout.cluster import Cluster
from kubernetes_formula.rollout.executor import Executor, Progress, Timing
from kubernetes_formula.rollout.lease import Lease
from kubernetes_formula.rollout.plan import Releases, finalization, plan, released, return_to
from kubernetes_formula.rollout.probes import Probes, combined, endpoints
from kubernetes_formula.rollout.record import (
    DONE,
    FAILED,
    NAMESPACE,
    Records,
    RolloutRecord,
    begin,
    close,
    overlay_digest,
)
from kubernetes_formula.rollout.status import Drift, drift
from reclass_model.errors import OperatorError, Problem

DEPLOY, ROLLBACK, FINALIZE = "deploy", "rollback", "finalize"


@dataclass(frozen=True)
class Deployed:
    """What is in the cluster, as its latest record says."""

    record: RolloutRecord
    overlay: Overlay | None  #: what the records say is there, also in the middle of a rollout
    #: Of the model, of the newest rollout that was finished (None: none was): what a plan starts from. A rollout that
    #: was killed keeps its reviewed plan, and its digest, until it is run to its end.
    revision: str | None = None


def deployed(cluster: Cluster) -> Deployed | None:
    """What the cluster's records say; None before the first deployment."""
    records = Records(cluster)
    record = records.latest()
    if record is None:
        return None
    finished = record if record.done else records.finished()
    return Deployed(record, record.effective(), finished.revision if finished else None)


def deploy(
    cluster: Cluster,
    desired: Overlay,
    *,
    revision: str,
    authority: str | None = None,
    progress: Progress,
    releases: Releases | None = None,
    timing: Timing | None = None,
    repair: bool = False,
) -> RolloutRecord:
    """Bring the cluster to `desired`, rendered with revealed Secrets from `revision`.

    `authority`: the CA (PEM) that signed what the endpoints serve. A deploy of the same objects that was interrupted
    goes on. `repair`: also what somebody changed or deleted since (the drift that `status` tells).
    OperatorError E62x for what the plan refuses, E66x for what the rollout's state forbids, E63x when a step fails.
    """
    with _alone(cluster, desired, progress) as lease:
        records = Records(cluster)
        latest = records.latest()
        found = {each.key: each for each in drift(cluster, desired)} if repair else {}
        record = _deployment(latest, desired, revision, releases, found)
        if latest and latest.done and not record.steps and not found:
            # The same objects under a new revision: still the same rollout, and the same way back.
            records.save(replace(latest, revision=revision, blocked={}))
            return close(record, DONE)
        return _run(cluster, lease, record, authority, progress, timing)


def rollback(
    cluster: Cluster, *, authority: str | None = None, progress: Progress, timing: Timing | None = None
) -> RolloutRecord:
    """Return to the object set before the latest deploy; from then on that release is refused until the model agrees.

    OperatorError E661 when there is nothing to return to, E623 when only a snapshot could.
    """
    latest = Records(cluster).latest()
    if latest is None:
        raise _nothing_to_return_to("nothing was ever deployed")
    with _alone(cluster, latest.desired, progress) as lease:
        record = _return(Records(cluster))
        return _run(cluster, lease, record, authority, progress, timing)


def finalize(
    cluster: Cluster, *, authority: str | None = None, progress: Progress, timing: Timing | None = None
) -> RolloutRecord:
    """Run contract and online migrations of what was upgraded; from then on there is no rollback."""
    latest = Records(cluster).latest()
    if latest is None:
        raise OperatorError("nothing was ever deployed", code="E662", hint="`ostack-k8s deploy` first")
    with _alone(cluster, latest.desired, progress) as lease:
        record = _end(Records(cluster))
        return _run(cluster, lease, record, authority, progress, timing)


def run_job(
    cluster: Cluster,
    workload: str,
    name: str,
    variables: Mapping[str, str],
    *,
    progress: Progress,
    timing: Timing | None = None,
) -> str:
    """Run a `manual` Job of what is deployed, with some of its variables set; what it printed.

    OperatorError E662 when nothing is deployed, E665 for an unknown Job or variable, E650 while a rollout runs, E631
    when the Job fails.
    """
    records = Records(cluster)
    latest = records.latest()
    overlay = latest.effective() if latest else None
    if overlay is None:
        raise OperatorError("nothing was ever deployed", code="E662", hint="`ostack-k8s deploy` first")
    item = manual_job(overlay, workload, name, variables)
    with Lease(cluster, progress=progress) as lease:
        return Executor(cluster, records, lease, progress, timing).run_job(item)


def manual_job(overlay: Overlay, workload: str, name: str, variables: Mapping[str, str]) -> Object:
    """The Job that a person runs, with `variables` over its own; OperatorError E665 when there is no such."""
    jobs = {f"{job.workload} {job.name}": job.object for job in overlay.jobs.get("manual", ())}
    item = copy.deepcopy(jobs.get(f"{workload} {name}"))
    if item is None:
        known = "; ".join(sorted(jobs)) or "none"
        raise OperatorError(
            f"{workload} has no Job {name!r} to run by hand", code="E665", hint=f"known: {known}"
        )
    (container,) = item["spec"]["template"]["spec"]["containers"]
    settable = {each["name"]: each for each in container.get("env", []) if "value" in each}
    for variable, value in variables.items():
        if variable not in settable:
            known = ", ".join(sorted(settable)) or "none"
            raise OperatorError(
                f"{workload} {name} has no variable {variable}", code="E665", hint=f"known: {known}"
            )
        settable[variable]["value"] = value
    return item


def deploy_steps(
    latest: Deployed | None, desired: Overlay, releases: Releases | None = None
) -> RolloutRecord:
    """The record that `deploy` would run, with its steps; refuses what it would refuse. Nothing is written."""
    return _deployment(latest.record if latest else None, desired, "", releases)


def rollback_steps(cluster: Cluster) -> RolloutRecord:
    """The record that `rollback` would run; refuses what it would refuse. Nothing is written."""
    return _return(Records(cluster))


def finalize_steps(cluster: Cluster) -> RolloutRecord:
    """The record that `finalize` would run; refuses what it would refuse. Nothing is written."""
    return _end(Records(cluster))


@contextmanager
def _alone(cluster: Cluster, overlay: Overlay, progress: Progress) -> Iterator[Lease]:
    """Hold the lease; the namespace it lives in comes first of all."""
    for item in overlay.objects:
        if item["kind"] == "Namespace" and item["metadata"]["name"] == NAMESPACE:
            cluster.apply(item)
    with Lease(cluster, progress=progress) as lease:
        yield lease


def _run(
    cluster: Cluster,
    lease: Lease,
    record: RolloutRecord,
    authority: str | None,
    progress: Progress,
    timing: Timing | None,
) -> RolloutRecord:
    records = Records(cluster)
    records.save(record)
    before = record.downtime
    with Probes(endpoints(record.base), authority) as probes:
        try:
            record = Executor(cluster, records, lease, progress, timing).run(record)
        except BaseException:
            if lease.held:
                with suppress(OperatorError):  # what ended it is what to tell; the steps say how far it came
                    _note_failure(Records(cluster.hurried()), record, combined([before, probes.results()]))
            raise
    done = close(replace(record, downtime=combined([before, probes.results()])), DONE)
    records.save(done)
    return done


def _note_failure(
    records: Records, record: RolloutRecord, downtime: Mapping[str, Mapping[str, float]]
) -> None:
    latest = records.find(record.id) or record
    records.save(close(replace(latest, downtime=downtime), FAILED))


def _deployment(
    latest: RolloutRecord | None,
    desired: Overlay,
    revision: str,
    releases: Releases | None,
    found: Mapping[str, Drift] | None = None,
) -> RolloutRecord:
    if latest is None:
        return begin(DEPLOY, revision, desired, None, plan(None, desired, releases))
    _refuse_blocked(latest, desired)
    if not latest.done:
        if latest.action != DEPLOY:
            raise OperatorError(
                f"{latest.action} {latest.id} is not finished",
                code="E660",
                hint=f"run `ostack-k8s {latest.action}` again",
            )
        if overlay_digest(latest.desired) == overlay_digest(desired):
            return replace(latest, revision=revision)
    base = latest.effective()
    # a repair alone is nothing that one could go back from
    again = latest.done and overlay_digest(latest.desired) == overlay_digest(desired)
    if base and found:
        base = _drifted(base, found)
    steps = plan(base, desired, releases)
    upgraded = {name: str((base or desired).workloads[name].release) for name in released(base, desired)}
    _refuse_unfinalized(latest, upgraded)
    return replace(
        begin(DEPLOY, revision, desired, base, steps),
        previous=latest.id if latest.done and not again else latest.previous,
        pending={**upgraded, **latest.pending},
    )


def _drifted(recorded: Overlay, found: Mapping[str, Drift]) -> Overlay:
    """What is recorded, so that all that was changed or is missing differs from whatever is wanted."""
    objects = []
    for item in recorded.objects:
        if key(item) not in found:
            objects.append(item)
        elif found[key(item)].difference == "changed" and item["kind"] in CONTROLLERS:
            objects.append({**item, "spec": None})
    return replace(recorded, objects=tuple(objects))


def _refuse_blocked(latest: RolloutRecord, desired: Overlay) -> None:
    """After a rollback the model has to follow: deploying the same release again needs a decision, not a repetition."""
    problems = [
        Problem(
            "E663",
            f"{name} was rolled back from {release}, and the model still says {release}",
            path=f"kubernetes:control:workload:{name}",
            hint="`git revert` the upgrade, deploy, then upgrade again when its cause is mended",
        )
        for name, release in sorted(latest.blocked.items())
        if name in desired.workloads and desired.workloads[name].release == release
    ]
    if problems:
        raise OperatorError.of(*problems)


def _refuse_unfinalized(latest: RolloutRecord, upgraded: Mapping[str, str]) -> None:
    late = sorted(name for name, release in upgraded.items() if latest.pending.get(name, release) != release)
    if late:
        raise OperatorError(
            f"the last upgrade of {', '.join(late)} is not finalized",
            code="E664",
            hint="`ostack-k8s finalize` first",
        )


def _return(records: Records) -> RolloutRecord:
    latest = records.latest()
    if latest is None:
        raise _nothing_to_return_to("nothing was ever deployed")
    if latest.action == ROLLBACK and not latest.done:
        return latest
    if latest.action == FINALIZE and not latest.done:
        raise _nothing_to_return_to("finalize has begun")
    target = records.find(latest.previous) if latest.previous else None
    current = latest.effective()
    if target is None or current is None:
        why = "it was finalized" if latest.action == FINALIZE else "there is nothing before it"
        raise _nothing_to_return_to(why)
    upgraded = released(target.desired, latest.desired)
    return replace(
        begin(ROLLBACK, target.revision, target.desired, current, return_to(target.desired, current)),
        previous=target.previous,
        pending=target.pending,
        blocked={name: str(latest.desired.workloads[name].release) for name in sorted(upgraded)},
    )


def _end(records: Records) -> RolloutRecord:
    latest = records.latest()
    if latest is None:
        raise OperatorError("nothing was ever deployed", code="E662", hint="`ostack-k8s deploy` first")
    if not latest.done:
        if latest.action == FINALIZE:
            return latest
        raise OperatorError(
            f"{latest.action} {latest.id} is not finished",
            code="E660",
            hint=f"run `ostack-k8s {latest.action}` again",
        )
    steps = finalization(latest.pending, latest.desired)
    return replace(
        begin(FINALIZE, latest.revision, latest.desired, latest.desired, steps), blocked=latest.blocked
    )


def _nothing_to_return_to(why: str) -> OperatorError:
    return OperatorError(
        f"no rollback is possible: {why}", code="E661", hint="change the model and deploy it instead"
    )
