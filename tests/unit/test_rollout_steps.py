"""Rollouts run side by side, one at a time, into failures and after being killed, in a cluster that takes its time.

Its controllers and machines are played here: what is applied becomes healthy, and a Job complete, after a moment.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kubernetes_formula.manifests import Object, Overlay
from kubernetes_formula.rollout import Cluster, Records, RolloutRecord, StepResult, Timing, deploy, rollback
from kubernetes_formula.rollout.lease import NAME as LEASE
from kubernetes_formula.rollout.plan import Step, plan
from kubernetes_formula.rollout.record import DONE, FAILED, NAMESPACE, PENDING, RUNNING
from kubernetes_formula.rollout.timeline import critical_path, duration
from reclass_model.errors import OperatorError
from tests.golden.overlay import API, overlay_of, read_pillar, with_release
from tests.unit.api_server import Server, connect, serving

MOMENT = 0.4  # seconds until what was applied is ready
QUICK = Timing(healthy=20, job=20, hopeless=0.2, after_failure=20, poll=0.05)


class Machines(Server):
    """Plays what makes objects come true; `slow`: names that never become so, `broken`: Jobs that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: dict[str, float] = {}
        self.slow: set[str] = set()
        self.broken: set[str] = set()
        self.writing = threading.Lock()

    def do(self, method: str, path: str, body: Object) -> tuple[int, Object]:
        with self.writing:
            if method == "GET" and path not in self.objects and path.rsplit("/", 1)[1].endswith("s"):
                wanted = {*body.get("labelSelector", "").split(",")} - {""}
                return 200, {
                    "items": [
                        item
                        for place, item in self.objects.items()
                        if place.rpartition("/")[0] == path and wanted <= labels_of(item)
                    ]
                }
            status, found = super().do(method, path, body)
            if method in ("POST", "PATCH"):
                place = f"{path}/{body['metadata']['name']}" if method == "POST" else path
                self.begun[place] = time.monotonic()
            if method == "GET" and status == 200:
                uid = {"uid": path}
                found = {**found, "metadata": found["metadata"] | uid, "status": self._status(path, found)}
            return status, found

    def when_there_are(self, names: tuple[str, ...], do: Callable[[], object]) -> None:
        """Do something when there are objects of these names."""

        def wait() -> None:
            while not all(any(name in place for place in [*self.objects]) for name in names):
                time.sleep(0.02)
            do()

        threading.Thread(target=wait, daemon=True).start()

    def _status(self, path: str, item: Object) -> Object:
        name = item["metadata"]["name"]
        ready = time.monotonic() - self.begun[path] > MOMENT and not any(each in name for each in self.slow)
        if item["kind"] == "Job":
            if any(each in name for each in self.broken):  # before others are complete
                return {"conditions": [{"type": "Failed", "status": "True"}]}
            return {"conditions": [{"type": "Complete", "status": "True"}] if ready else []}
        wanted = item.get("spec", {}).get("replicas", 1)
        count = wanted if ready else 0
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        daemons = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        return (
            dict.fromkeys(counts, count) | dict.fromkeys(daemons, count) | {"desiredNumberScheduled": wanted}
        )


def labels_of(item: Object) -> set[str]:
    return {f"{name}={value}" for name, value in item["metadata"].get("labels", {}).items()}


@pytest.fixture
def machines() -> Iterator[Machines]:
    with serving(Machines()) as found:
        yield found


@pytest.fixture
def cluster(machines: Machines, tmp_path: Path) -> Cluster:
    return connect(machines, tmp_path)


def cloud(tag: str = "one", **after: Any) -> Overlay:
    """Workloads with a Job to be set up by each: name → what it follows."""
    pillar = read_pillar()
    pillar["images"]["keystone:server"]["reference"] = f"r/keystone-server:{tag}"
    pillar["control"]["workload"] = {
        name: {
            "service": name, "role": "server", "kind": "Deployment", "image": "keystone:server",
            "container": {name: {"command": "serve"}}, "upgrade": {"after": follows},
            "job": {"db": {"phase": "bootstrap", "command": f"set-up {name}", "after": {}}},
        }
        for name, follows in after.items()
    }  # fmt: skip
    return overlay_of(pillar, lambda value: value)


def go(cluster: Cluster, desired: Overlay, tell: Any = print, timing: Timing = QUICK) -> RolloutRecord:
    return deploy(cluster, desired, revision="abc", progress=tell, timing=timing)


def latest(cluster: Cluster) -> dict[str, StepResult]:
    record = Records(cluster).latest()
    assert record
    return {each.step.name: each for each in record.steps}


def end(each: StepResult) -> float:
    """In whole milliseconds, as both are recorded: their binary sum may be a hair more."""
    return round(each.begun + each.seconds, 3)


def most_at_once(steps: tuple[StepResult, ...]) -> int:
    return max(sum(each.begun <= other.begun < end(each) for each in steps) for other in steps)


# --- what waits for what ---


def after(desired: Overlay, deployed: Overlay | None = None) -> dict[str, tuple[str, ...]]:
    return {step.name: step.after for step in plan(deployed, desired)}


def test_what_starts_anew_waits_for_what_the_model_names() -> None:
    first = cloud(
        a={}, b={"a": {}}, c={"a": {"at_first": "bootstrap"}}, d={"a": {"at_first": "nothing"}}, e={"b": {}}
    )
    assert after(first) == {
        "prepare": (),
        "a db": ("prepare",),
        "a start": ("a db",),
        "b db": ("prepare",),
        "b start": ("a start", "b db"),
        "c db": ("prepare",),
        "c start": ("a db", "c db"),
        "d db": ("prepare",),
        "d start": ("d db",),
        "e db": ("prepare",),
        "e start": ("b start", "e db"),
    }  # fmt: skip


def test_a_job_without_an_order_of_its_own_waits_for_what_its_workload_follows() -> None:
    waits = after(overlay_of(read_pillar()))
    assert waits["mariadb-server users"] == ("mariadb-server start",)
    assert waits["keystone-server database"] == ("mariadb-server users",)
    assert waits["agent-node start"] == ("prepare",)


def test_what_touches_running_services_is_alone() -> None:
    before = cloud(a={}, b={}, c={})
    changed = after(cloud("two", a={}, b={}, c={}), before)
    assert changed == {"a roll": (), "b roll": ("a roll",), "c roll": ("b roll",)}
    mixed = after(cloud("two", a={}, b={}, new={"a": {}}, other={}), cloud(a={}, b={}))
    assert list(mixed) == ["a roll", "b roll", "new db", "new start", "other db", "other start"]
    assert mixed["b roll"] == ("a roll",)
    assert mixed["new db"] == mixed["other db"] == ("b roll",)


def test_an_upgrade_is_one_row_after_its_checks() -> None:
    pillars = [with_release(release, "b" * 12) for release in ("epoxy", "gazpacho")]
    for pillar in pillars:
        jobs = pillar["control"]["workload"][API]["job"]
        jobs["check-more"] = {**jobs["check"], "command": "more"}
    steps = plan(*map(overlay_of, pillars))
    assert [(step.name.removeprefix(f"{API} "), len(step.after)) for step in steps] == [
        ("check", 0), ("check-more", 0), ("snapshot", 2), ("expand", 1), ("migrate", 1), ("roll", 1),
    ]  # fmt: skip
    for earlier, step in pairwise(steps[2:]):
        assert step.after == (earlier.name,)


# --- running it ---


def test_a_first_deployment_runs_side_by_side_in_the_models_order(
    machines: Machines, cluster: Cluster
) -> None:
    told: list[str] = []
    record = go(cluster, cloud(a={}, b={}, c={"a": {}, "b": {}}), told.append)
    steps = {each.step.name: each for each in record.steps}
    assert all(each.result == DONE for each in steps.values()) and record.done
    for each in steps.values():
        assert all(end(steps[name]) <= each.begun for name in each.step.after), each.step.name
    assert most_at_once(record.steps) == 3  # the Jobs of all
    assert duration(record.steps) < 0.8 * sum(each.seconds for each in record.steps)
    path = [link.name for link in critical_path(record.steps)]
    assert path[0] == "prepare" and path[-2:] in (["a start", "c start"], ["b start", "c start"])
    named = tuple(f"{name}: " for name in steps)
    assert all(line.startswith(named) for line in told), "each line names its step"
    assert latest(cluster) == steps


def test_running_services_are_rolled_one_at_a_time_and_back_again(cluster: Cluster) -> None:
    go(cluster, cloud(a={}, b={}, c={}))
    for record in (
        go(cluster, cloud("two", a={}, b={}, c={})),
        rollback(cluster, progress=print, timing=QUICK),
    ):
        assert len(record.steps) == 3 and most_at_once(record.steps) == 1


def test_what_a_rollout_leaves_behind_goes_but_not_what_belongs_to_another(
    machines: Machines, cluster: Cluster
) -> None:
    go(cluster, cloud(a={}))
    [job] = [place for place, item in machines.objects.items() if item["kind"] == "Job"]
    for name, owner in (("of-no-model", []), ("of-a-cronjob", [{"kind": "CronJob", "name": "clock"}])):
        item = machines.objects[job]
        metadata = {**item["metadata"], "name": name, "ownerReferences": owner}
        machines.objects[f"{job.rpartition('/')[0]}/{name}"] = {**item, "metadata": metadata}
    go(cluster, cloud("two", a={}))
    left = {item["metadata"]["name"] for item in machines.objects.values() if item["kind"] == "Job"}
    assert "of-a-cronjob" in left and "of-no-model" not in left


def test_after_a_failure_nothing_begins_and_what_runs_comes_to_its_end(
    machines: Machines, cluster: Cluster
) -> None:
    machines.slow = {"-db"}
    machines.when_there_are(("a-db", "b-db", "c-db"), lambda: machines.broken.add("a-db"))
    desired = cloud(a={}, b={}, c={"b": {}})

    def tell(line: str) -> None:
        if line.startswith("a db: failed; nothing else begins"):
            threading.Timer(1.0, machines.slow.clear).start()

    with pytest.raises(OperatorError, match="Job a-db-") as caught:
        go(cluster, desired, tell)
    assert len(caught.value.problems) == 1
    found = latest(cluster)
    assert (found["a db"].result, found["b db"].result, found["c db"].result) == (FAILED, DONE, DONE)
    assert "failed" in found["a db"].message
    assert {found[f"{name} start"].result for name in "abc"} == {PENDING}
    record = Records(cluster).latest()
    assert record and record.state == "failed" and record.finished

    machines.broken = set()
    again = go(cluster, desired)
    assert again.id == record.id and all(each.result == DONE for each in again.steps)
    kept = {each.step.name: each for each in again.steps}
    assert kept["b db"] == found["b db"], "what is done is not done again"
    assert kept["a db"].begun >= end(found["b db"]), "the clock goes on"


def test_what_runs_beside_a_failure_is_not_waited_for_without_end(
    machines: Machines, cluster: Cluster
) -> None:
    machines.broken, machines.slow = {"a-db"}, {"b-db"}
    began = time.monotonic()
    with pytest.raises(OperatorError) as caught:
        go(cluster, cloud(a={}, b={}), timing=replace(QUICK, after_failure=0.5))
    assert time.monotonic() - began < QUICK.job
    assert [problem.code for problem in caught.value.problems] == ["E631"], "the cause alone is told"
    left = latest(cluster)["b db"]
    assert (left.result, left.message) == (RUNNING, "not waited for any longer: a db failed")


def test_two_failures_are_both_told(machines: Machines, cluster: Cluster) -> None:
    machines.broken = {"a-db", "b-db"}
    with pytest.raises(OperatorError) as caught:
        go(cluster, cloud(a={}, b={}))
    assert sorted(problem.message[:8] for problem in caught.value.problems) == ["Job a-db", "Job b-db"]


def test_killed_while_several_steps_run_it_goes_on(machines: Machines, cluster: Cluster) -> None:
    machines.slow = {"a-db", "b-db"}
    desired = cloud(a={}, b={}, c={})
    machines.when_there_are(("a-db", "b-db"), partial(os.kill, os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        go(cluster, desired)
    assert f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}" not in machines.objects
    found = latest(cluster)
    assert found["a db"].result == found["b db"].result == RUNNING
    version = machines.version
    time.sleep(0.3)
    assert machines.version == version, "the threads write nothing any more"

    machines.slow = set()
    jobs = {place for place in machines.objects if "/jobs/" in place}
    again = go(cluster, desired)
    assert all(each.result == DONE for each in again.steps)
    assert jobs <= {place for place in machines.objects if "/jobs/" in place}
    assert len(Records(cluster).identities()) == 1


def test_a_lost_lease_ends_every_step_and_nothing_is_written(machines: Machines, cluster: Cluster) -> None:
    machines.slow = {"a-db", "b-db"}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}"

    def steal() -> None:
        theirs = {**machines.objects[path], "metadata": {"name": LEASE}}
        machines.do("PUT", path, {**theirs, "spec": {**theirs["spec"], "holderIdentity": "ops@desk 0 1"}})

    machines.when_there_are(("a-db", "b-db"), steal)
    with pytest.raises(OperatorError, match="was lost") as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubernetes_formula.rollout.rollouts.Lease", short_lease)
        go(cluster, cloud(a={}, b={}))
    assert [problem.code for problem in caught.value.problems] == ["E651"]
    assert latest(cluster)["a db"].result == RUNNING


def short_lease(cluster: Cluster, **arguments: Any) -> Any:
    from kubernetes_formula.rollout.lease import Lease

    return Lease(cluster, seconds=1, **arguments)


# --- what the time went to ---


def ran(name: str, begun: float, seconds: float, *waits: str) -> StepResult:
    return StepResult(Step(name, "", "roll", "roll", "", after=waits), DONE, begun, seconds)


def test_the_critical_path_is_what_determined_the_time() -> None:
    steps = (
        ran("prepare", 0.0, 2.0),
        ran("short", 2.1, 1.0, "prepare"),
        ran("long", 2.1, 9.0, "prepare"),
        ran("both", 11.2, 3.0, "short", "long"),
        ran("aside", 3.2, 1.0, "short"),
    )
    assert [link.name for link in critical_path(steps)] == ["prepare", "long", "both"]
    assert duration(steps) == 14.2


def test_a_step_that_waited_for_a_place_follows_the_one_that_made_it() -> None:
    steps = (ran("a", 0.0, 5.0), ran("b", 0.0, 9.0), ran("c", 5.1, 6.0))
    assert [(link.name, link.place) for link in critical_path(steps)] == [("a", False), ("c", True)]
    assert critical_path(()) == () and duration(()) == 0.0
    pending = replace(steps[2], result=PENDING)
    assert [link.name for link in critical_path((*steps[:2], pending))] == ["b"]
