"""(deployed, desired) → steps, and what the record says of an unfinished rollout. No cluster."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubernetes_formula.manifests import Overlay
from kubernetes_formula.rollout import object_changes, plan, released
from kubernetes_formula.rollout.health import complaint, health, preparing, stuck, troubles
from kubernetes_formula.rollout.plan import finalization, in_order, return_to
from kubernetes_formula.rollout.probes import Probes, combined
from kubernetes_formula.rollout.record import DONE, RUNNING, StepResult, begin, close, overlay_digest
from kubernetes_formula.rollout.rollouts import Deployed, deploy_steps, manual_job
from reclass_model.certificates import Request, new_key, to_pem
from reclass_model.errors import OperatorError
from tests.golden.overlay import API, DATABASE, overlay_of, read_pillar, with_release

RELEASES = {
    "epoxy": {"order": 1, "upgrade_from": {"dalmatian": {}}},
    "flamingo": {"order": 2, "upgrade_from": {"epoxy": {}}},
    "gazpacho": {"order": 3, "upgrade_from": {"flamingo": {}, "epoxy": {}}},
    "hibiscus": {"order": 4, "upgrade_from": {"gazpacho": {}}},
}


def overlay(release: str = "epoxy", tag: str = "bbbbbbbbbbbb", **changed: Any) -> Overlay:
    """The overlay of the golden pillar with another release, image or setting of the API's workload."""
    pillar = with_release(release, tag)
    workload = pillar["control"]["workload"][API]
    workload["upgrade"] |= changed.pop("upgrade", {})
    workload |= changed
    return overlay_of(pillar)


def names(steps: Any) -> list[str]:
    return [step.name for step in steps]


def test_nothing_changed_plans_nothing() -> None:
    assert plan(overlay(), overlay(), RELEASES) == ()
    assert object_changes(overlay(), overlay()) == []


def test_the_first_deployment_goes_in_order() -> None:
    assert names(plan(None, overlay(), RELEASES)) == [
        "prepare",
        "agent-node start",
        "mariadb-server start",
        "mariadb-server users",
        "keystone-server database",
        "keystone-server db-sync",
        "keystone-server start",
    ]


def test_a_static_option_rolls_exactly_the_deployment_of_its_image() -> None:
    before, after = overlay(), overlay(tag="cccccccccccc")
    (step,) = plan(before, after, RELEASES)
    assert (step.name, step.action, step.impact) == ("keystone-server roll", "roll", "none")
    assert step.objects == ("Deployment/openstack/keystone-server",)
    assert "template.spec.containers.0.image" in step.detail
    assert [change.name for change in object_changes(before, after) if change.restarts] == [API]


def test_replicas_are_one_step_that_restarts_nothing() -> None:
    before, after = overlay(), overlay(replicas=3)
    (step,) = plan(before, after, RELEASES)
    assert (step.name, step.action) == ("keystone-server apply", "apply")
    assert not any(change.restarts for change in object_changes(before, after))


def test_an_upgrade_checks_snapshots_expands_migrates_then_rolls() -> None:
    assert names(plan(overlay(), overlay("gazpacho"), RELEASES)) == [
        "keystone-server check",
        "keystone-server snapshot",
        "keystone-server expand",
        "keystone-server migrate",
        "keystone-server roll",
    ]


@pytest.mark.parametrize(
    ("strategy", "action"), [("rolling", "roll"), ("switch", "switch"), ("recreate", "recreate")]
)
def test_a_strategy_is_for_a_change_of_release(strategy: str, action: str) -> None:
    upgrade = {"strategy": strategy}
    steps = plan(overlay(upgrade=upgrade), overlay("gazpacho", upgrade=upgrade))
    assert next(step.action for step in steps if step.phase == "roll") == action
    (step,) = plan(overlay(upgrade=upgrade), overlay(tag="cccccccccccc", upgrade=upgrade))
    assert step.action == "roll"


def test_switch_removes_the_old_set_last() -> None:
    upgrade = {"strategy": "switch"}
    steps = plan(overlay(upgrade=upgrade), overlay("gazpacho", upgrade=upgrade))
    assert steps[-1].objects == ("Deployment/openstack/keystone-server-epoxy",)
    assert "Deployment/openstack/keystone-server-gazpacho" in steps[-2].objects


def test_recreating_is_felt_by_the_api() -> None:
    upgrade = {"strategy": "recreate"}
    steps = plan(overlay(upgrade=upgrade), overlay("gazpacho", upgrade=upgrade))
    assert [step.impact for step in steps if step.phase == "roll"] == ["api"]


def test_a_removed_workload_is_deleted_but_not_its_data() -> None:
    whole = overlay()
    pillar = read_pillar()
    del pillar["control"]["workload"][API]
    rest = overlay_of(pillar)
    (step,) = plan(whole, rest)
    assert step.action == "delete"
    assert {each.partition("/")[0] for each in step.objects} == {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
    }


@pytest.mark.parametrize(
    ("before", "after", "code", "hint"),
    [
        ("gazpacho", "epoxy", "E621", "rollback"),
        ("epoxy", "hibiscus", "E622", "may follow: gazpacho"),
    ],
)
def test_downgrades_and_skipped_releases_are_refused(before: str, after: str, code: str, hint: str) -> None:
    with pytest.raises(OperatorError) as caught:
        plan(overlay(before), overlay(after), RELEASES)
    assert caught.value.code == code
    assert hint in str(caught.value.problems[0].hint)


def test_a_circle_of_workloads_is_refused() -> None:
    workloads = overlay().workloads
    workloads[DATABASE] = replace(workloads[DATABASE], after=(API,))
    with pytest.raises(OperatorError, match="circle: keystone-server, mariadb-server"):
        in_order(workloads)


def test_rollback_applies_the_old_objects_without_jobs() -> None:
    steps = return_to(overlay(), overlay("gazpacho"))
    assert names(steps) == ["keystone-server roll"]


def test_what_is_told_to_a_running_service_is_told_again_when_it_changes() -> None:
    def with_password(digest: str) -> Overlay:
        pillar = read_pillar()
        job = pillar["control"]["workload"][DATABASE]["job"]["users"]
        job["secret_environment"]["MYSQL_PWD"] = f"?{{age:{digest}:c2VjcmV0}}"
        return overlay_of(pillar)

    before, after = with_password("0123456789ab"), with_password("ba9876543210")
    assert names(plan(before, after)) == ["prepare", "mariadb-server users"]
    assert names(return_to(before, after)) == ["prepare", "mariadb-server users"]
    record = begin("deploy", "abc", after, before, plan(before, after))
    failed = replace(record, steps=tuple(StepResult(each.step, "failed") for each in record.steps))
    again = deploy_steps(Deployed(failed, failed.effective()), before)
    assert names(each.step for each in again.steps) == ["mariadb-server users"]


def test_a_statefulset_that_cannot_be_changed_is_replaced() -> None:
    pillar = read_pillar()
    after = overlay_of(pillar)
    del pillar["control"]["workload"][DATABASE]["peers"]
    before = overlay_of(pillar)
    (change,) = [each for each in object_changes(before, after) if each.kind == "StatefulSet"]
    assert change.replaces and change.restarts
    (step,) = [each for each in plan(before, after) if each.workload == DATABASE]
    assert step.action == "roll" and "replace StatefulSet mariadb-server" in step.detail
    pillar["control"]["workload"][DATABASE]["replicas"] = 2
    scaled = object_changes(before, overlay_of(pillar))
    assert not any(each.replaces for each in scaled)


def test_a_job_is_run_by_hand_with_its_own_variables() -> None:
    pillar = read_pillar()
    pillar["control"]["workload"][DATABASE]["job"]["restore"]["environment"]["SNAPSHOT"] = ""
    deployed = overlay_of(pillar)
    assert "mariadb-server restore" not in names(plan(None, deployed))
    job = manual_job(deployed, DATABASE, "restore", {"SNAPSHOT": "a.sql"})
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "SNAPSHOT", "value": "a.sql"} in container["env"]
    assert manual_job(deployed, DATABASE, "restore", {}) == deployed.jobs["manual"][0].object
    for name, variables, known in (("users", {}, "restore"), ("restore", {"SERVICE": "x"}, "SNAPSHOT")):
        with pytest.raises(OperatorError, match="E665") as caught:
            manual_job(deployed, DATABASE, name, variables)
        assert known in str(caught.value.problems[0].hint)


def test_rollback_is_refused_where_it_needs_the_snapshot() -> None:
    upgrade = {"rollback": "snapshot"}
    with pytest.raises(OperatorError, match="needs the snapshot"):
        return_to(overlay(upgrade=upgrade), overlay("gazpacho", upgrade=upgrade))
    assert names(return_to(overlay(upgrade=upgrade), overlay(tag="c" * 12, upgrade=upgrade))) == [
        "keystone-server roll"
    ]


def test_finalize_contracts_what_was_upgraded() -> None:
    assert names(finalization({API}, overlay("gazpacho"))) == ["keystone-server contract"]
    assert finalization(set(), overlay("gazpacho")) == ()


def test_an_unfinished_record_says_what_was_touched() -> None:
    before, after = overlay(), overlay("gazpacho", tag="c" * 12)
    record = begin("deploy", "abc", after, before, plan(before, after, RELEASES))

    def reached(count: int) -> Overlay | None:
        done = [replace(each, result=DONE) for each in record.steps[: count - 1]]
        running = replace(record.steps[count - 1], result=RUNNING)
        return replace(record, steps=(*done, running, *record.steps[count:])).effective()

    assert record.effective() == before
    migrating = reached(4)
    assert migrating and migrating.workloads == before.workloads
    assert names(plan(migrating, after, RELEASES)) == names(plan(before, after, RELEASES))
    rolling = reached(5)
    assert rolling and rolling.workloads[API].release == "gazpacho"
    with pytest.raises(OperatorError, match="older than the deployed gazpacho"):
        plan(rolling, before, RELEASES)
    assert close(record, DONE).effective() == after


def test_a_failed_configuration_change_can_be_taken_back() -> None:
    before, broken = overlay(), overlay(tag="c" * 12)
    record = begin("deploy", "abc", broken, before, plan(before, broken))
    record = replace(
        record, state="failed", steps=tuple(StepResult(each.step, "failed") for each in record.steps)
    )
    again = deploy_steps(Deployed(record, record.effective()), before, RELEASES)
    assert names(each.step for each in again.steps) == ["keystone-server roll"]


def test_what_an_unfinished_step_may_not_have_applied_is_applied_by_the_next_rollout() -> None:
    """Killed while it prepared, or refused in the middle of a step; then another commit is deployed."""
    after = overlay(tag="c" * 12)
    record = begin("deploy", "abc", overlay(), None, plan(None, overlay()))
    killed = replace(record, steps=(replace(record.steps[0], result=RUNNING), *record.steps[1:]))
    assert plan(killed.effective(), after) == plan(None, after)

    before, half = overlay(), overlay(tag="d" * 12, upgrade={"impact": "api"})
    record = begin("deploy", "abc", half, before, plan(before, half))
    refused = replace(record, steps=tuple(replace(each, result="failed") for each in record.steps))
    for wanted in (half, before, after):
        (step,) = plan(refused.effective(), wanted)
        assert step.name == "keystone-server roll"
        assert "Deployment/openstack/keystone-server" in step.objects


def test_the_same_objects_again_go_on_with_the_unfinished_record() -> None:
    before, after = overlay(), overlay("gazpacho")
    record = begin("deploy", "abc", after, before, plan(before, after))
    assert deploy_steps(Deployed(record, before), after, RELEASES).id == record.id


def test_a_release_that_was_rolled_back_is_refused_until_the_model_agrees() -> None:
    old, new = overlay(), overlay("gazpacho")
    record = replace(begin("rollback", "abc", old, new, ()), state=DONE, blocked={API: "gazpacho"})
    with pytest.raises(OperatorError, match="rolled back from gazpacho"):
        deploy_steps(Deployed(record, old), new, RELEASES)
    reverted = deploy_steps(Deployed(record, old), old, RELEASES)
    assert reverted.steps == () and not reverted.blocked


def test_an_upgrade_waits_for_the_last_ones_finalize() -> None:
    record = replace(
        begin("deploy", "a", overlay("gazpacho"), overlay(), ()), state=DONE, pending={API: "epoxy"}
    )
    with pytest.raises(OperatorError, match="not finalized"):
        deploy_steps(Deployed(record, record.desired), overlay("hibiscus"), RELEASES)
    assert deploy_steps(
        Deployed(record, record.desired), overlay("gazpacho", tag="c" * 12), RELEASES
    ).pending == {API: "epoxy"}


def test_only_changed_releases_count_as_upgraded() -> None:
    assert released(overlay(), overlay("gazpacho")) == {API}
    assert released(None, overlay()) == frozenset()


def test_the_digest_of_an_overlay_ignores_secret_values() -> None:
    masked = overlay()
    revealed = replace(
        masked,
        objects=tuple(
            {**item, "stringData": {"x": "y"}} if item["kind"] == "Secret" else item
            for item in masked.objects
        ),
    )
    assert overlay_digest(masked) == overlay_digest(revealed)


def test_health_counts_new_and_ready_pods() -> None:
    live = {
        "kind": "Deployment",
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2},
    }
    assert (health(live).ok, health(live).message) == (False, "2 of 2 ready, 1 new, 2 old")
    live["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert health(live).ok
    live["metadata"] = {"generation": 3}
    assert not health(live).ok
    assert not health(None).ok


def test_a_statefulset_that_waits_for_what_can_never_start_is_helped() -> None:
    """Kubernetes goes on with the new template only after the pod of the former one is ready."""

    def pod(revision: str, reason: str) -> dict[str, Any]:
        waiting = {"name": "c", "state": {"waiting": {"reason": reason}}}
        labels = {"controller-revision-hash": revision}
        return {"metadata": {"name": "db-0", "labels": labels}, "status": {"containerStatuses": [waiting]}}

    live: dict[str, Any] = {"kind": "StatefulSet", "spec": {}, "status": {"updateRevision": "new"}}
    assert list(stuck(live, [pod("old", "ErrImagePull")])) == ["db-0"]
    assert not list(stuck(live, [pod("new", "ErrImagePull")]))
    assert not list(stuck(live, [pod("old", "ContainerCreating")]))
    assert not list(stuck({**live, "kind": "Deployment"}, [pod("old", "ErrImagePull")]))
    by_hand = {**live, "spec": {"updateStrategy": {"type": "OnDelete"}}}
    assert not list(stuck(by_hand, [pod("old", "ErrImagePull")]))


def test_troubles_name_pod_and_reason() -> None:
    pod = {
        "metadata": {"name": "api-1"},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}
            ],
            "containerStatuses": [
                {"name": "api", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
                {"name": "side", "state": {"waiting": {"reason": "ContainerCreating"}}},
                {"name": "loop", "state": {"running": {}}, "restartCount": 4, "ready": False},
            ],
        },
    }
    found = list(troubles([pod]))
    assert [str(each) for each in found] == [
        "pod api-1: Unschedulable: 0/1",
        "pod api-1: ImagePullBackOff: not found",
        "pod api-1: Restarting: loop ended 4 times",
    ]
    assert [each.hopeless for each in found] == [False, True, True]


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_a_pod_that_does_not_begin_says_what_is_missing() -> None:
    waiting = {"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}
    pod = {
        "metadata": {"name": "db-0"},
        "spec": {"nodeName": "ctl01"},
        "status": {"phase": "Pending", "containerStatuses": [waiting]},
    }
    assert preparing(pod)
    assert not preparing({**pod, "spec": {}})
    assert not preparing(
        {**pod, "status": {"phase": "Running", "containerStatuses": [{"name": "a", "state": {}}]}}
    )
    said = ["Unhealthy: no answer", 'FailedMount: path "/srv/volume" does not exist']
    assert str(complaint(pod, said)) == 'pod db-0: FailedMount: path "/srv/volume" does not exist'
    assert complaint(pod, ["Unhealthy: no answer"]) is None


@pytest.fixture
def server() -> Iterator[str]:
    Answers.status = 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}/v3"
        found.shutdown()


def test_probes_measure_ten_requests_a_second_and_the_longest_gap(server: str) -> None:
    with Probes({"identity": server}) as probes:
        time.sleep(0.5)
        Answers.status = 500
        time.sleep(0.5)
        Answers.status = 200
        time.sleep(0.5)
    result = probes.results()["identity"]
    assert result["requests"] / result["seconds"] >= 10
    assert 3 <= result["failed"] < result["requests"]
    assert 0.4 < result["longest_gap_s"] < 1.2


def test_probes_trust_the_authority_that_they_are_told(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority, key = new_key(), new_key()
    root = Request("authority", now, 1).self_signed(authority)
    leaf = Request("edge", now, 1, names=["127.0.0.1"]).signed(key, root, authority)
    (tmp_path / "edge.pem").write_text(to_pem(leaf) + to_pem(key))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "edge.pem")
    Answers.status = 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = {"identity": f"https://127.0.0.1:{server.server_address[1]}/v3"}
        with Probes(url, to_pem(root)) as told, Probes(url) as untold:
            time.sleep(0.5)
        server.shutdown()
    good, bad = told.results()["identity"], untold.results()["identity"]
    assert good["requests"] >= 3 and good["failed"] == 0
    assert bad["failed"] == bad["requests"] >= 3


def test_an_endpoint_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes_formula.rollout.probes.TIMEOUT", 0.5)
    monkeypatch.setattr("kubernetes_formula.rollout.probes.INTERVAL", 0.01)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:  # takes connections, never answers
        with Probes({"identity": f"http://127.0.0.1:{silent.getsockname()[1]}/"}) as probes:
            time.sleep(2.0)
            left = time.monotonic()
        assert time.monotonic() - left < 0.8
    result = probes.results()["identity"]
    assert result["failed"] == result["requests"] > 8
    assert result["longest_gap_s"] >= 2.0


def test_measurements_of_several_goes_are_one() -> None:
    go = {"identity": {"requests": 10, "failed": 1, "longest_gap_s": 0.5, "seconds": 1.0}}
    later = {"identity": {"requests": 5, "failed": 0, "longest_gap_s": 0.2, "seconds": 0.5}}
    assert combined([go, later]) == {
        "identity": {"requests": 15, "failed": 1, "longest_gap_s": 0.5, "seconds": 1.5}
    }
