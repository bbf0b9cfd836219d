"""Pillar → objects: naming, hardening, what changes what. Shapes as a whole are in tests/golden."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import yaml

from kubernetes_formula.manifests import Object, Overlay, compose, file_name, key
from kubernetes_formula.manifests.patch import merge
from reclass_model.errors import OperatorError
from reclass_model.secrets import TOKEN
from tests.golden.overlay import API, DATABASE, PILLAR, images_of, overlay_of, read_pillar


@pytest.fixture
def pillar() -> Any:
    return read_pillar()


def reveal(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reveal(each) for name, each in value.items()}
    return TOKEN.sub("opened", value) if isinstance(value, str) else value


def item(overlay: Overlay, kind: str, name: str) -> Object:
    return next(
        each for each in overlay.objects if each["kind"] == kind and each["metadata"]["name"].startswith(name)
    )


def test_names_are_the_same_whether_secrets_can_be_read_or_not(pillar: Any) -> None:
    masked, revealed = overlay_of(pillar), overlay_of(pillar, reveal)
    assert list(masked.by_key()) == list(revealed.by_key())
    assert masked.jobs == revealed.jobs
    assert "opened" not in str(masked.objects)
    secret = item(revealed, "Secret", f"{API}-database")
    assert secret["stringData"] == {"MYSQL_PWD": "opened"}
    assert set(item(masked, "Secret", f"{API}-database")["stringData"].values()) == {"***"}


def test_a_changed_secret_is_another_object_and_rolls_the_pods(pillar: Any) -> None:
    before = overlay_of(pillar)
    file = next(iter(pillar["control"]["workload"][API]["secret"].values()))
    file["data"]["database"]["connection"] = (
        "mysql+pymysql://keystone:?{age:fedcba987654:c2VjcmV0}@mariadb-server/keystone"
    )
    after = overlay_of(pillar)
    assert key(item(before, "Secret", API)) != key(item(after, "Secret", API))
    assert (
        item(before, "Deployment", API)["spec"]["template"]
        != item(after, "Deployment", API)["spec"]["template"]
    )
    assert item(before, "StatefulSet", DATABASE) == item(after, "StatefulSet", DATABASE)


def test_resealing_for_other_recipients_changes_nothing(pillar: Any) -> None:
    resealed = yaml.safe_load(PILLAR.read_text().replace("c2VjcmV0", "b3RoZXI="))
    assert overlay_of(pillar) == overlay_of(resealed)


def test_a_new_image_changes_bootstrap_jobs_not_but_migrations(pillar: Any) -> None:
    before = overlay_of(pillar)
    pillar["images"]["keystone:server"] |= {
        "reference": "r/keystone-server:gazpacho-cccccccccccc",
        "release": "gazpacho",
    }
    after = overlay_of(pillar)

    def names(overlay: Overlay, phase: str) -> list[str]:
        return [job.object["metadata"]["name"] for job in overlay.jobs[phase]]

    assert names(before, "bootstrap") == names(after, "bootstrap")
    assert names(before, "expand") != names(after, "expand")
    assert [job.name for job in after.jobs_of(API, "bootstrap", "expand")] == [
        "database",
        "db-sync",
        "expand",
    ]


def test_replicas_change_no_pod(pillar: Any) -> None:
    before = overlay_of(pillar)
    pillar["control"]["workload"][API]["replicas"] = 1
    after = overlay_of(pillar)
    old, new = (item(each, "Deployment", API)["spec"] for each in (before, after))
    assert old["template"] == new["template"]
    assert old["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert new["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert [each["kind"] for each in after.objects].count("PodDisruptionBudget") == 0


def test_a_port_is_for_whom_it_says(pillar: Any) -> None:
    pillar["control"]["network"] = {"machines": "10.10.0.0/24"}
    ports = pillar["control"]["workload"][DATABASE]["container"]["mariadb"]["ports"]
    assert not any(each["kind"] == "NetworkPolicy" for each in overlay_of(pillar).objects)
    ports["replication"] = {"port": 4567, "from": {DATABASE: {}}}
    after = overlay_of(pillar)
    rules = {
        each["ports"][0]["port"]: each["from"]
        for each in item(after, "NetworkPolicy", DATABASE)["spec"]["ingress"]
    }
    assert rules[3306][-1] == {"ipBlock": {"cidr": "10.10.0.0/24"}}
    (own,) = rules[4567]
    assert own["podSelector"] == {"matchLabels": {"ostack-k8s.io/workload": DATABASE}}
    assert [each["name"] for each in item(after, "Service", DATABASE)["spec"]["ports"]] == ["mysql"]
    template = item(after, "StatefulSet", DATABASE)["spec"]["template"]
    assert template["metadata"]["labels"]["ostack-k8s.io/guarded"] == "true"


def test_a_service_asks_for_its_address(pillar: Any) -> None:
    pillar["control"]["workload"][API] |= {"type": "LoadBalancer", "address": "10.20.0.5"}
    service = item(overlay_of(pillar), "Service", API)
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"projectcalico.org/loadBalancerIPs": '["10.20.0.5"]'}


def test_a_service_has_other_names_too(pillar: Any) -> None:
    pillar["control"]["workload"][API]["aliases"] = {"identity": {}}
    after = overlay_of(pillar)
    assert item(after, "Service", "identity")["spec"] == item(after, "Service", API)["spec"]


def test_pods_are_hardened_unless_told_otherwise(pillar: Any) -> None:
    pod = item(overlay_of(pillar), "StatefulSet", DATABASE)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    pillar["control"]["workload"][DATABASE]["security"] = {
        "user": 0,
        "privileged": True,
        "read_only_root": False,
    }
    pod = item(overlay_of(pillar), "StatefulSet", DATABASE)["spec"]["template"]["spec"]
    assert "runAsNonRoot" not in pod["securityContext"]
    assert pod["containers"][0]["securityContext"] == {"readOnlyRootFilesystem": False, "privileged": True}


def test_a_job_with_another_image_runs_as_that_images_user(pillar: Any) -> None:
    pillar["control"]["workload"][API]["security"] = {"user": 42421, "group": 42421}
    pillar["control"]["workload"][API]["job"]["database"]["inherit"] = True
    job = overlay_of(pillar).jobs["bootstrap"][0].object
    assert job["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 42434


def test_a_job_mounts_what_it_inherits_but_no_volume_of_one_machine(pillar: Any) -> None:
    pillar["control"]["workload"][DATABASE]["job"] = {"check": {"phase": "check", "command": "true"}}
    overlay = overlay_of(pillar)
    job = overlay.jobs_of(DATABASE, "check")[0].object["spec"]["template"]["spec"]
    assert [volume["name"] for volume in job["volumes"]] == ["run", "secret"]
    sync = overlay.jobs_of(API, "bootstrap")[1].object["spec"]["template"]["spec"]
    assert sync["volumes"][0]["persistentVolumeClaim"] == {"claimName": f"{API}-keys"}


def test_the_order_of_classes_changes_nothing(pillar: Any) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: backwards(each) for name, each in reversed(value.items())}
        return value

    reordered = backwards(pillar)
    assert overlay_of(pillar) == overlay_of(reordered)
    assert compose(pillar["control"], images_of(pillar)) == compose(
        reordered["control"], images_of(reordered)
    )


def test_switch_names_the_set_after_its_release(pillar: Any) -> None:
    pillar["control"]["workload"][API]["upgrade"]["strategy"] = "switch"
    overlay = overlay_of(pillar)
    deployment = item(overlay, "Deployment", API)
    assert deployment["metadata"]["name"] == f"{API}-epoxy"
    selector = {"app": API, "ostack-k8s.io/release": "epoxy"}
    assert deployment["spec"]["selector"]["matchLabels"] == selector
    assert item(overlay, "Service", API)["spec"]["selector"] == selector


def test_the_record_holds_the_overlay_whole(pillar: Any) -> None:
    overlay = overlay_of(pillar)
    assert Overlay.from_dict(yaml.safe_load(yaml.safe_dump(overlay.as_dict()))) == overlay


def test_file_names_say_service_role_kind_and_name(pillar: Any) -> None:
    names = {file_name(each) for each in overlay_of(pillar).objects}
    assert {
        "keystone-server-deployment-keystone-server.yml",
        "keystone-server-svc-keystone-server.yml",
        "namespace-openstack.yml",
    } <= names


def test_a_hundred_workloads_take_less_than_a_second(pillar: Any) -> None:
    one = pillar["control"]["workload"][API]
    for number in range(100):
        pillar["control"]["workload"][f"api-{number}"] = copy.deepcopy({**one, "endpoint": {}})
    start = time.process_time()
    overlay = overlay_of(pillar)
    assert len(overlay.workloads) == 103
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("workload", "path", "value", "code", "message"),
    [
        (API, "image", "glance:api", "E603", "keystone-server:image names 'glance:api', which has no image"),
        (API, "image", None, "E601", "keystone-server has no 'image'"),
        (API, "kind", "ReplicaSet", "E608", "is 'ReplicaSet'"),
        (DATABASE, "kind", "Deployment", "E609", "local volume"),
        (DATABASE, "volume.data.nodes", {}, "E605", "nodes is empty"),
        (API, "volume.tmp.type", "nfs", "E604", "is 'nfs'"),
        (API, "container.keystone.command", "sh -c 'x", "E602", "No closing quotation"),
        (API, "container.keystone.probe", {"port": "public"}, "E607", "does not say what to ask"),
        (API, "environment.PASSWORD", "?{age:0123456789ab:c2VjcmV0}", "E606", "holds a secret"),
        (API, "job.expand.phase", "later", "E610", "is 'later'"),
        (API, "endpoint.identity", {}, "E601", "endpoint:identity has no 'url'"),
    ],
)
def test_what_cannot_be_rendered_is_named(
    pillar: Any, workload: str, path: str, value: Any, code: str, message: str
) -> None:
    *parents, last = path.split(".")
    target = pillar["control"]["workload"][workload]
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(OperatorError, match=message) as caught:
        overlay_of(pillar)
    problem = caught.value.problems[0]
    assert problem.code == code
    assert problem.path and problem.path.startswith(f"kubernetes:control:workload:{workload}")
    assert problem.hint


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": None}, {}),
        ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {
                "env": [
                    {"name": "B", "value": "3"},
                    {"name": "A", "$patch": "delete"},
                    {"name": "C", "value": "4"},
                ]
            },
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        ),
    ],
)
def test_a_patch_merges_as_kubectl_would(base: Any, patch: Any, merged: Any) -> None:
    assert merge(base, patch) == merged
