"""Every service for real, on one machine: deployed and checked, an instance that goes on without libvirt's pod and
while an option is changed, nova in the article's one pod.

The tests of this file tell one story, in order. The processor's help is not asked for: the instance runs under TCG.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reclass_model.endpoints import authority
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

from .conftest import BUNDLE, model, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(7200)]

ANSWERS = {"cluster_name": "all", "all_in_one": True, "services": "all", "underlay_network": "10.79.0.0/24"}
OSTACK = Path(sys.executable).with_name("ostack-k8s")
MACHINE = "all-aio01"


def ostack(repository: Path, *arguments: str) -> Any:
    """The command as an operator runs it; what it prints for programs."""
    words = [OSTACK, "-C", repository, *arguments, "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    say(f"$ ostack-k8s {' '.join(arguments)}\n{done.stderr}")
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def on(*command: str) -> str:
    """Output of a command on the machine."""
    done = subprocess.run(["docker", "exec", MACHINE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def kubectl(*arguments: str) -> str:
    return on("kubectl", "--kubeconfig", "/etc/kubernetes/admin.kubeconfig", *arguments)


def pods() -> dict[str, dict[str, Any]]:
    """Pods of controllers (not of Jobs) by uid."""
    found = json.loads(kubectl("get", "pod", "--all-namespaces", "-o", "json"))["items"]
    return {
        pod["metadata"]["uid"]: pod
        for pod in found
        if pod["metadata"]["namespace"].startswith("openstack")
        and pod["metadata"]["ownerReferences"][0]["kind"] != "Job"
    }


def ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])


def instances() -> list[str]:
    """Process numbers of the instances that run on the machine."""
    return on("sh", "-c", "pgrep -f '^/usr/bin/qemu-system' || true").split()


@dataclass
class Cloud:
    """The deployed cloud and its APIs."""

    model: Path
    values: dict[str, Any]
    trust: ssl.SSLContext
    token: str = ""
    made: dict[str, str] = field(default_factory=dict)

    def log_in(self) -> None:
        check = get(self.values, "kubernetes:control:smoke:keystone-token")
        request = urllib.request.Request(check["url"], json.dumps(check["body"]).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30, context=self.trust) as answer:
            self.token = answer.headers["X-Subject-Token"]

    def ask(self, service: str, path: str, body: Any = None, method: str | None = None) -> Any:
        """One request to a service's public URL."""
        url = get(self.values, f"_param:{service}_public_url") + path
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(url, data, method=method)
        request.add_header("X-Auth-Token", self.token)
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=60, context=self.trust) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def replace(self, file: str, before: str, after: str) -> None:
        """Edit one value of the cluster level and commit it, as a person does."""
        repository = Repository(self.model)
        path = repository.cluster_dir / file
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
        repository.commit(f"{before} → {after}", [path])

    def deploy(self) -> None:
        ostack(self.model, "images", "build", "--push")
        ostack(self.model, "deploy", "--yes")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """`lab up` with every service: it ends with the checks of the smoke test."""
    with model(ANSWERS, tmp_path_factory) as source:
        bundle = ["--bundle", str(BUNDLE)] if BUNDLE else []
        found = ostack(source.root, "lab", "up", *bundle)
        derived = Repository(Path(found["model"]))
        values = Keyring.find(derived).reveal(Inventory(derived).config_node().parameters)
        cloud = Cloud(derived.root, values, ssl.create_default_context(cadata=authority(values)))
        cloud.log_in()
        yield cloud


def test_every_pod_is_ready_and_every_service_is_up(cloud: Cloud) -> None:
    assert [pod["metadata"]["name"] for pod in pods().values() if not ready(pod)] == []
    services = cloud.ask("nova", "/os-services")["services"]
    assert {service["binary"] for service in services} == {"nova-conductor", "nova-scheduler", "nova-compute"}
    assert {service["state"] for service in services} == {"up"}
    agents = cloud.ask("neutron", "/v2.0/agents")["agents"]
    assert len(agents) == 4 and all(agent["alive"] for agent in agents)
    checks = ostack(cloud.model, "smoke")["checks"]
    assert {check["result"] for check in checks} == {"ok"}
    assert "nova-console" in {check["name"] for check in checks}


def test_an_instance_goes_on_without_libvirts_pod(cloud: Cloud) -> None:
    image = cloud.ask(
        "glance", "/v2/images", {"name": "disk", "disk_format": "raw", "container_format": "bare"}
    )
    cloud.ask("glance", f"/v2/images/{image['id']}/file", bytes(512), "PUT")
    flavor = cloud.ask("nova", "/flavors", {"flavor": {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}})[
        "flavor"
    ]
    network = cloud.ask("neutron", "/v2.0/networks", {"network": {"name": "own"}})["network"]
    subnet = {"network_id": network["id"], "ip_version": 4, "cidr": "192.0.2.0/24"}
    cloud.ask("neutron", "/v2.0/subnets", {"subnet": subnet})
    server = {
        "name": "one",
        "imageRef": image["id"],
        "flavorRef": flavor["id"],
        "networks": [{"uuid": network["id"]}],
    }
    cloud.made["server"] = cloud.ask("nova", "/servers", {"server": server})["server"]["id"]

    def active() -> bool:
        found = cloud.ask("nova", f"/servers/{cloud.made['server']}")["server"]
        assert found["status"] != "ERROR", found.get("fault")
        return bool(found["status"] == "ACTIVE")

    within(180, active, "the instance is active")
    before = instances()
    assert len(before) == 1
    kubectl("-n", "openstack-node", "delete", "pod", "-l", "app=libvirt-server")
    within(120, lambda: all(ready(pod) for pod in pods().values()), "libvirt's new pod is ready")
    assert instances() == before
    listed = kubectl(
        "-n", "openstack-node", "exec", "daemonset/libvirt-server", "--", "virsh", "list", "--name"
    )
    assert len(listed.split()) == 1, "the new libvirt does not know the instance"


def test_a_ratio_rolls_the_control_services_of_compute_and_touches_no_instance(cloud: Cloud) -> None:
    before, running = pods(), instances()
    cloud.replace("overlay/nova.yml", "cpu_allocation_ratio: 8.0", "cpu_allocation_ratio: 3.0")
    cloud.deploy()
    gone = {before[uid]["metadata"]["labels"]["app"] for uid in before.keys() - pods().keys()}
    assert gone == {"nova-api", "nova-conductor", "nova-metadata", "nova-novncproxy", "nova-scheduler"}
    assert instances() == running
    kubectl("-n", "openstack", "create", "job", "ratios", "--from=cronjob/nova-allocation")
    kubectl("-n", "openstack", "wait", "job/ratios", "--for=condition=complete", "--timeout=120s")
    [provider] = cloud.ask("placement", "/resource_providers")["resource_providers"]
    inventories = cloud.ask("placement", f"/resource_providers/{provider['uuid']}/inventories")["inventories"]
    assert inventories["VCPU"]["allocation_ratio"] == 3.0


def test_nova_in_the_articles_one_pod(cloud: Cloud) -> None:
    running = instances()
    cloud.replace("overlay/init.yml", "- system.nova.controller\n", "- system.nova.controller.single_pod\n")
    cloud.deploy()
    [pod] = [pod for pod in pods().values() if pod["metadata"]["labels"]["app"] == "nova-controller"]
    assert len(pod["status"]["containerStatuses"]) == 6 and ready(pod)
    assert cloud.ask("nova", f"/servers/{cloud.made['server']}")["server"]["status"] == "ACTIVE"
    assert instances() == running
