"""Run the steps of a rollout, one after another, each written down before and after.

A step that is done stays done: run again, the executor goes on with the first that is not. Actions may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from kubernetes_formula.manifests import Object, Overlay, key
from kubernetes_formula.manifests.overlay import CONTROLLERS, MANAGED_BY
from kubernetes_formula.rollout.changes import GENERATION_KINDS
from kubernetes_formula.rollout.cluster import Cluster, Refused
from kubernetes_formula.rollout.health import (
    Trouble,
    complaint,
    failed,
    health,
    preparing,
    stuck,
    succeeded,
    troubles,
)
from kubernetes_formula.rollout.lease import Lease
from kubernetes_formula.rollout.plan import Step
from kubernetes_formula.rollout.record import DONE, FAILED, RUNNING, Records, RolloutRecord, StepResult, close
from reclass_model.errors import OperatorError

Progress = Callable[[str], None]
LastWords = Callable[[list[Object]], str]

ROLLOUT_ANNOTATION = "ostack-k8s.io/rollout"
#: What a finished rollout deletes when the model does not know it (any more).
_PRUNED = (*CONTROLLERS, "Service", "NetworkPolicy", "PodDisruptionBudget", "Job", *GENERATION_KINDS)
_LOG_LINES = 20
_ALL_LINES = 10_000


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    healthy: float = 600.0  #: a workload has to be healthy
    job: float = 1800.0  #: a Job has to be complete
    prepared: float = 15.0  #: a pod may take until it begins, before its cluster is asked why
    hopeless: float = 90.0  #: a pod may wait for what will hardly come (an image, a crash loop)
    poll: float = 1.0


class Executor:
    """Brings a cluster from a record's `base` to its `desired`."""

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        lease: Lease,
        progress: Progress,
        timing: Timing | None = None,
    ) -> None:
        self._cluster = cluster
        self._records = records
        self._lease = lease
        self._progress = progress
        self._timing = timing or Timing()
        self._actions: dict[str, Callable[[RolloutRecord, Step], None]] = {
            "apply": self._apply,
            "roll": self._apply,
            "switch": self._switch,
            "recreate": self._recreate,
            "job": self._job,
            "delete": self._delete,
        }

    def run(self, record: RolloutRecord) -> RolloutRecord:
        """Run what is left of `record`; the record as it was last written. OperatorError E63x when a step fails."""
        record = replace(record, state=RUNNING)
        for index, entry in enumerate(record.steps):
            if entry.result != DONE:
                record = self._step(record, index)
        self._prune(record)
        return record

    def _step(self, record: RolloutRecord, index: int) -> RolloutRecord:
        step = record.steps[index].step
        self._lease.check()
        self._progress(f"{step.name}: {step.detail}")
        record = self._note(record, index, StepResult(step, RUNNING))
        start = time.monotonic()
        try:
            self._actions[step.action](record, step)
        except OperatorError as error:
            failure = StepResult(step, FAILED, time.monotonic() - start, error.problems[0].message)
            if self._lease.held:
                with suppress(OperatorError):  # the first error is the one to tell
                    Records(self._cluster.hurried()).save(close(_with(record, index, failure), FAILED))
            raise
        seconds = round(time.monotonic() - start, 3)
        self._progress(f"{step.name}: done in {seconds:.1f} s")
        return self._note(record, index, StepResult(step, DONE, seconds))

    def _note(self, record: RolloutRecord, index: int, result: StepResult) -> RolloutRecord:
        record = _with(record, index, result)
        self._records.save(record)
        return record

    def run_job(self, item: Object) -> str:
        """Run a Job that belongs to no rollout, anew each time; what it printed. OperatorError E631 when it fails."""
        kind, namespace, name = key(item).split("/")
        self._cluster.delete(kind, namespace, name)
        self._until(f"the old Job {name} to go", partial(self._is_gone, key(item)))
        self._create(item)
        self._finish(item)
        pods = self._cluster.list("Pod", namespace, {"batch.kubernetes.io/job-name": name})
        pod = next(each for each in pods if each["status"].get("phase") == "Succeeded")
        container = pod["spec"]["containers"][0]["name"]
        return self._cluster.log(namespace, pod["metadata"]["name"], container, _ALL_LINES)

    # Actions

    def _apply(self, record: RolloutRecord, step: Step) -> None:
        items = self._items(record, step)
        for item in items:
            try:
                self._cluster.apply(item)
            except Refused as refusal:
                if not refusal.immutable:
                    raise
                self._cluster.delete(*key(item).split("/"), orphan=True)  # the new one takes over its pods
                self._until(f"the old {key(item)} to go", partial(self._is_gone, key(item)))
                self._cluster.apply(item)
        self._wait_for(items)

    def _switch(self, record: RolloutRecord, step: Step) -> None:
        """The new set comes up beside the old one; then the Service turns to it, once."""
        items = self._items(record, step)
        sets = [item for item in items if item["kind"] in CONTROLLERS]
        for item in sets:
            self._cluster.apply(item)
        self._wait_for(sets)
        for item in items:
            if item not in sets:
                self._cluster.apply(item)

    def _recreate(self, record: RolloutRecord, step: Step) -> None:
        """All old pods end before the first new one starts."""
        for item in self._items(record, step):
            kind, namespace, name = key(item).split("/")
            if kind in ("Deployment", "StatefulSet") and self._cluster.get(kind, namespace, name):
                self._cluster.merge(kind, namespace, name, {"spec": {"replicas": 0}})
                app = item["metadata"]["labels"]["app"]
                self._until(f"{name} to stop", partial(self._no_pods, namespace, app))
        self._apply(record, step)

    def _is_gone(self, name: str) -> bool:
        return self._cluster.get(*name.split("/")) is None

    def _no_pods(self, namespace: str, app: str) -> bool:
        return not self._pods(namespace, app)

    def _delete(self, record: RolloutRecord, step: Step) -> None:
        for each in step.objects:
            self._cluster.delete(*each.split("/"))

    def _job(self, record: RolloutRecord, step: Step) -> None:
        """Run a Job unless it has succeeded: a bootstrap Job ever, any other one in this rollout."""
        jobs = {key(job.object): job for found in record.desired.jobs.values() for job in found}
        for each in step.objects:
            item = jobs[each].object
            item = {**item, "metadata": {**item["metadata"], "annotations": {ROLLOUT_ANNOTATION: record.id}}}
            self._start(item, once=jobs[each].phase == "bootstrap", rollout=record.id)
            self._finish(item)

    def _start(self, item: Object, *, once: bool, rollout: str) -> None:
        kind, namespace, name = key(item).split("/")
        live = self._cluster.get(kind, namespace, name)
        if live is not None:
            ours = live["metadata"].get("annotations", {}).get(ROLLOUT_ANNOTATION) == rollout
            if not failed(live) and (ours or once):
                return
            self._cluster.delete(kind, namespace, name)
            self._until(f"the old Job {name} to go", partial(self._is_gone, key(item)))
        self._create(item)

    def _create(self, item: Object) -> None:
        try:
            self._cluster.create(item)
        except Refused as refusal:
            if refusal.status != 409:  # 409: an answer got lost, the Job was made
                raise

    def _finish(self, item: Object) -> None:
        kind, namespace, name = key(item).split("/")
        watch = self._watch(f"Job {name}", namespace, self._timing.job)
        while True:
            live = self._cluster.get(kind, namespace, name)
            if live is None:
                raise OperatorError(
                    f"Job {name} was deleted while it ran", code="E632", hint="run the same command again"
                )
            if succeeded(live):
                return
            pods = self._cluster.list("Pod", namespace, {"batch.kubernetes.io/job-name": name})
            if failed(live):
                raise OperatorError(
                    f"Job {name} failed; its last lines:\n{self._last_words(namespace, pods)}",
                    code="E631",
                    hint=f"mend the cause, run the same command again (kubectl -n {namespace} logs job/{name})",
                )
            tries = live.get("status", {}).get("failed", 0)
            watch.look(f"running, failed {tries} times" if tries else "running", pods)

    # Waiting

    def _wait_for(self, items: list[Object]) -> None:
        for item in items:
            if item["kind"] in CONTROLLERS:
                self._healthy(item)

    def _healthy(self, item: Object) -> None:
        kind, namespace, name = key(item).split("/")
        watch = self._watch(name, namespace, self._timing.healthy)
        while True:
            live = self._cluster.get(kind, namespace, name)
            found = health(live)
            if found.ok:
                return
            pods = self._pods(namespace, item["metadata"]["labels"]["app"])
            for pod in stuck(live, pods):
                self._progress(f"{name}: {pod} cannot start and is replaced")
                self._cluster.delete("Pod", namespace, pod)
            watch.look(found.message, pods)

    def _watch(self, name: str, namespace: str, seconds: float) -> _Watch:
        return _Watch(
            name,
            self._timing,
            seconds,
            self._progress,
            partial(self._last_words, namespace),
            partial(self._complaints, namespace),
        )

    def _complaints(self, namespace: str, pods: list[Object]) -> list[Trouble]:
        """What pods wait for that have a machine but do not begin there: a volume that is missing, say."""
        found = [
            complaint(pod, self._cluster.warnings(namespace, pod["metadata"]["name"]))
            for pod in pods
            if preparing(pod)
        ]
        return [each for each in found if each]

    def _until(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timing.healthy
        while not done():
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"waited {self._timing.healthy:.0f} s for {what}",
                    code="E630",
                    hint="kubectl get events -A shows why",
                )
            time.sleep(self._timing.poll)

    def _pods(self, namespace: str, app: str) -> list[Object]:
        return self._cluster.list("Pod", namespace, {"app": app})

    def _last_words(self, namespace: str, pods: list[Object]) -> str:
        """The last lines of the newest pod that failed or waits."""
        found = [pod for pod in pods if pod.get("status", {}).get("phase") != "Succeeded"]
        if not found:
            return "(no pod is left)"
        pod = max(found, key=lambda each: each["metadata"]["creationTimestamp"])
        container = pod["spec"]["containers"][0]["name"]
        return self._cluster.log(namespace, pod["metadata"]["name"], container, _LOG_LINES)

    def _items(self, record: RolloutRecord, step: Step) -> list[Object]:
        wanted = record.desired.by_key()
        return [wanted[each] for each in step.objects]

    def _prune(self, record: RolloutRecord) -> None:
        """Delete what carries our label and no model knows; Secrets and Jobs of the previous object set stay."""
        before = self._records.find(record.previous) if record.previous else None
        desired, previous = record.desired, before.desired if before else Overlay()
        known, stays = _known(desired), _known(previous)
        namespaces = {each.namespace for each in (*desired.workloads.values(), *previous.workloads.values())}
        for namespace in sorted(namespaces):
            for kind in _PRUNED:
                for item in self._cluster.list(kind, namespace, MANAGED_BY):
                    name = key(item)
                    if name not in known and not (name in stays and kind in (*GENERATION_KINDS, "Job")):
                        self._progress(f"delete {kind} {item['metadata']['name']}")
                        self._cluster.delete(*name.split("/"))
        self._records.forget_old(record.previous)


class _Watch:
    """Patience with one workload or Job: tells what changes, gives up when it takes too long."""

    def __init__(
        self,
        name: str,
        timing: Timing,
        seconds: float,
        progress: Progress,
        last_words: LastWords,
        complaints: Callable[[list[Object]], list[Trouble]],
    ) -> None:
        self._name = name
        self._timing = timing
        self._seconds = seconds
        self._progress = progress
        self._last_words = last_words
        self._complaints = complaints
        self._start = time.monotonic()
        self._hopeless_since: float | None = None
        self._told = ""

    def look(self, message: str, pods: list[Object]) -> None:
        """Tell, wait a moment; OperatorError E630 when there is no hope left."""
        problems = list(troubles(pods))
        if time.monotonic() - self._start > self._timing.prepared:
            problems += self._complaints(pods)
        text = "; ".join([message, *map(str, problems)])
        if text != self._told:
            self._progress(f"{self._name}: {text}")
            self._told = text
        now = time.monotonic()
        hopeless = any(problem.hopeless for problem in problems)
        self._hopeless_since = (self._hopeless_since or now) if hopeless else None
        lost = self._hopeless_since is not None and now - self._hopeless_since > self._timing.hopeless
        if lost or now - self._start > self._seconds:
            crashed = any(problem.crashed for problem in problems)
            logs = f"\nits last lines:\n{self._last_words(pods)}" if crashed else ""
            raise OperatorError(
                f"{self._name} is not healthy after {now - self._start:.0f} s: {text}{logs}",
                code="E630",
                hint="mend the cause and run `ostack-k8s deploy` again (it goes on), or `ostack-k8s rollback`",
            )
        time.sleep(self._timing.poll)


def _with(record: RolloutRecord, index: int, result: StepResult) -> RolloutRecord:
    steps = (*record.steps[:index], result, *record.steps[index + 1 :])
    return replace(record, steps=steps)


def _known(overlay: Overlay) -> set[str]:
    return {*overlay.by_key(), *(key(job.object) for found in overlay.jobs.values() for job in found)}
