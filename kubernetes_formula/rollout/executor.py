"""Run the steps of a rollout, each when those that it waits for are done, and written down before and after.

A step that is done stays done: run again, the executor goes on with those that are not. Actions may be repeated.
"""

from __future__ import annotations

import threading
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
from kubernetes_formula.rollout.record import DONE, FAILED, RUNNING, Records, RolloutRecord, StepResult
from reclass_model.errors import OperatorError
from reclass_model.workers import Task, run_in_order

Progress = Callable[[str], None]
LastWords = Callable[[list[Object]], str]

ROLLOUT_ANNOTATION = "ostack-k8s.io/rollout"
#: What a finished rollout deletes when the model does not know it (any more).
_PRUNED = (*CONTROLLERS, "Service", "NetworkPolicy", "PodDisruptionBudget", "Job", *GENERATION_KINDS)
#: Steps that run at the same time. Most of a step is waiting (for a machine, an image, a probe), so that two cores are
#: busy with about six; with more, pods that start together only slow each other down.
AT_ONCE = 6
_LOG_LINES = 20
_LAST_WORDS_SECONDS = 3.0
_ALL_LINES = 10_000


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    healthy: float = 600.0  #: a workload has to be healthy
    job: float = 1800.0  #: a Job has to be complete
    prepared: float = 15.0  #: a pod may take until it begins, before its cluster is asked why
    hopeless: float = 90.0  #: a pod may wait for what will hardly come (an image, a crash loop)
    after_failure: float = 90.0  #: other steps may go on once one has failed
    poll: float = 0.5


class _GivenUp(Exception):
    """A step that nobody waits for any longer: another one failed, or the rollout was interrupted."""


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
        self._writing = threading.Lock()  # of the record, by one step at a time
        self._over = threading.Event()  # nothing is done or written any more
        self._failure: tuple[str, float] | None = None  # the first step that failed, and when

    def run(self, record: RolloutRecord) -> RolloutRecord:
        """Run what is left of `record`; the record as it was last written.

        OperatorError E63x when a step fails: then no other begins, and those that run are waited for a moment.
        """
        self._record = replace(record, state=RUNNING)
        self._start = time.monotonic() - max(
            (each.begun + each.seconds for each in record.steps), default=0.0
        )
        left = {each.step.name: each.step for each in record.steps if each.result != DONE}
        tasks = {
            name: Task(partial(self._run, step), frozenset(step.after) & left.keys())
            for name, step in left.items()
        }
        try:
            run_in_order(tasks, AT_ONCE)
        except BaseException:
            self._over.set()
            # what is being written now comes before the caller's last words
            if self._writing.acquire(timeout=_LAST_WORDS_SECONDS):
                self._writing.release()
            raise
        self._lease.check()
        self._prune(self._record)
        return self._record

    def _run(self, step: Step) -> None:
        try:
            self._step(step)
        except BaseException:
            self._failure = self._failure or (step.name, time.monotonic())
            raise

    def _step(self, step: Step) -> None:
        with self._writing:
            self._lease.check()
        self._progress(f"{step.name}: {step.detail}")
        begun = time.monotonic()
        self._note(step, RUNNING, begun)
        try:
            self._actions[step.action](self._record, step)
        except _GivenUp as reason:
            self._progress(f"{step.name}: {reason}")
            self._note(step, RUNNING, begun, str(reason), hurried=True)
        except OperatorError as error:
            self._note(step, FAILED, begun, error.problems[0].message, hurried=True)
            if others := [each.step.name for each in self._record.steps if each.result == RUNNING]:
                self._progress(
                    f"{step.name}: failed; nothing else begins, {', '.join(others)} may come to an end"
                )
            raise
        else:
            self._progress(f"{step.name}: done in {time.monotonic() - begun:.1f} s")
            self._note(step, DONE, begun)

    def _note(
        self, step: Step, result: str, begun: float, message: str = "", *, hurried: bool = False
    ) -> None:
        """Write down how a step is; nothing when another rollout may hold the lease. `hurried`: as well as it can."""
        seconds = 0.0 if result == RUNNING else round(time.monotonic() - begun, 3)
        entry = StepResult(step, result, round(begun - self._start, 3), seconds, message)
        with self._writing:
            if self._over.is_set() or not self._lease.held:
                return
            steps = tuple(entry if each.step.name == step.name else each for each in self._record.steps)
            self._record = replace(self._record, steps=steps)
            if not hurried:
                self._records.save(self._record)
                return
            with suppress(OperatorError):  # what ended the step is the one to tell
                Records(self._cluster.hurried()).save(self._record)

    def _pause(self) -> None:
        """A moment between two looks; _GivenUp when it is of no use to look again."""
        if self._over.wait(self._timing.poll):
            raise _GivenUp("interrupted")
        if not self._lease.held:
            self._lease.check()
        if self._failure and time.monotonic() - self._failure[1] > self._timing.after_failure:
            raise _GivenUp(f"not waited for any longer: {self._failure[0]} failed")

    def run_job(self, item: Object) -> str:
        """Run a Job that belongs to no rollout, anew each time; what it printed. OperatorError E631 when it fails."""
        kind, namespace, name = key(item).split("/")
        self._cluster.delete(kind, namespace, name)
        self._until(f"the old Job {name} to go", partial(self._is_gone, key(item)))
        self._create(item)
        pods = self._finish(item, f"Job {name}")
        pod = next(each for each in pods if each["status"].get("phase") == "Succeeded")
        container = pod["spec"]["containers"][0]["name"]
        return self._cluster.log(namespace, pod["metadata"]["name"], container, _ALL_LINES)

    # Actions

    def _apply(self, record: RolloutRecord, step: Step) -> None:
        items = self._items(record, step)
        for item in items:
            if self._over.is_set():
                raise _GivenUp("interrupted")
            try:
                self._cluster.apply(item)
            except Refused as refusal:
                if not refusal.immutable:
                    raise
                self._cluster.delete(*key(item).split("/"), orphan=True)  # the new one takes over its pods
                self._until(f"the old {key(item)} to go", partial(self._is_gone, key(item)))
                self._cluster.apply(item)
        self._wait_for(items, step)

    def _switch(self, record: RolloutRecord, step: Step) -> None:
        """The new set comes up beside the old one; then the Service turns to it, once."""
        items = self._items(record, step)
        sets = [item for item in items if item["kind"] in CONTROLLERS]
        for item in sets:
            self._cluster.apply(item)
        self._wait_for(sets, step)
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
            self._begin(item, once=jobs[each].phase == "bootstrap", rollout=record.id)
            self._finish(item, step.name)

    def _begin(self, item: Object, *, once: bool, rollout: str) -> None:
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

    def _finish(self, item: Object, step: str) -> list[Object]:
        """Wait until a Job has succeeded; its pods."""
        kind, namespace, name = key(item).split("/")
        watch = self._watch(step, f"Job {name}", namespace, self._timing.job)
        while True:
            live = self._cluster.get(kind, namespace, name)
            if live is None:
                raise OperatorError(
                    f"Job {name} was deleted while it ran", code="E632", hint="run the same command again"
                )
            pods = self._cluster.list(
                "Pod", namespace, {"batch.kubernetes.io/controller-uid": live["metadata"]["uid"]}
            )
            if succeeded(live, pods):
                return pods
            if failed(live):
                raise OperatorError(
                    f"Job {name} failed; its last lines:\n{self._last_words(namespace, pods)}",
                    code="E631",
                    hint=f"mend the cause, run the same command again (kubectl -n {namespace} logs job/{name})",
                )
            tries = live.get("status", {}).get("failed", 0)
            watch.look(f"running, failed {tries} times" if tries else "running", pods)

    # Waiting

    def _wait_for(self, items: list[Object], step: Step) -> None:
        for item in items:
            if item["kind"] in CONTROLLERS:
                self._healthy(item, step.name)

    def _healthy(self, item: Object, step: str) -> None:
        kind, namespace, name = key(item).split("/")
        watch = self._watch(step, name, namespace, self._timing.healthy)
        while True:
            live = self._cluster.get(kind, namespace, name)
            found = health(live)
            if found.ok:
                return
            pods = self._pods(namespace, item["metadata"]["labels"]["app"])
            for pod in stuck(live, pods):
                self._progress(f"{step}: {pod} cannot start and is replaced")
                self._cluster.delete("Pod", namespace, pod)
            watch.look(found.message, pods)

    def _watch(self, step: str, name: str, namespace: str, seconds: float) -> _Watch:
        return _Watch(
            name,
            self._timing,
            seconds,
            lambda text: self._progress(f"{step}: {text}"),
            self._pause,
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
            self._pause()

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
        """Delete what carries our label, belongs to nothing else and no model knows.

        Secrets and Jobs of the previous object set stay; so do the Jobs that a CronJob has made, which are its own.
        """
        before = self._records.find(record.previous) if record.previous else None
        desired, previous = record.desired, before.desired if before else Overlay()
        known, stays = _known(desired), _known(previous)
        namespaces = {each.namespace for each in (*desired.workloads.values(), *previous.workloads.values())}
        for namespace in sorted(namespaces):
            for kind in _PRUNED:
                for item in self._cluster.list(kind, namespace, MANAGED_BY):
                    name = key(item)
                    if item["metadata"].get("ownerReferences"):
                        continue
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
        tell: Progress,
        pause: Callable[[], None],
        last_words: LastWords,
        complaints: Callable[[list[Object]], list[Trouble]],
    ) -> None:
        self._name = name
        self._timing = timing
        self._seconds = seconds
        self._tell = tell
        self._pause = pause
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
            self._tell(text)
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
        self._pause()


def _known(overlay: Overlay) -> set[str]:
    return {*overlay.by_key(), *(key(job.object) for found in overlay.jobs.values() for job in found)}
