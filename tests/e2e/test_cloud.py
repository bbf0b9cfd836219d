"""Every service for real, on one machine: deployed and checked, an instance that goes on without libvirt's pod, while
an option is changed and while the whole cloud goes to the next release; nova in the article's one pod.

The tests of this file tell one story, in order. The processor's help is not asked for: the instance runs under TCG.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cloud import Cloud, instances, ostack, ready
from .conftest import model, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(7200)]

ANSWERS = {"cluster_name": "all", "all_in_one": True, "services": "all", "underlay_network": "10.79.0.0/24"}
MACHINE = "all-aio01"
CONTROL = {"nova-api", "nova-conductor", "nova-metadata", "nova-novncproxy", "nova-scheduler"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with model(ANSWERS, tmp_path_factory) as source:
        yield Cloud.up(source.root, MACHINE)


def test_every_pod_is_ready_and_every_service_is_up(cloud: Cloud) -> None:
    assert cloud.not_ready() == []
    services = cloud.ask("nova", "/os-services")["services"]
    assert {service["binary"] for service in services} == {"nova-conductor", "nova-scheduler", "nova-compute"}
    assert {service["state"] for service in services} == {"up"}
    agents = cloud.ask("neutron", "/v2.0/agents")["agents"]
    assert len(agents) == 4 and all(agent["alive"] for agent in agents)
    checks = ostack(cloud.model, "smoke")["checks"]
    assert {check["result"] for check in checks} == {"ok"}
    assert {"nova-console", "guest-lease"} <= {check["name"] for check in checks}


def test_an_instance_goes_on_without_libvirts_pod(cloud: Cloud) -> None:
    cloud.made["server"] = cloud.boot("one")
    within(180, lambda: cloud.active(cloud.made["server"]), "the instance is active")
    before = instances(MACHINE)
    assert len(before) == 1
    cloud.kubectl("-n", "openstack-node", "delete", "pod", "-l", "app=libvirt-server")
    within(120, lambda: cloud.ready_pods("libvirt-server") == 1, "libvirt's new pod is ready")
    assert instances(MACHINE) == before
    command = ("exec", "daemonset/libvirt-server", "--", "virsh", "list", "--name")
    listed = cloud.kubectl("-n", "openstack-node", *command)
    assert len(listed.split()) == 1, "the new libvirt does not know the instance"


def test_a_ratio_rolls_the_control_services_of_compute_and_touches_no_instance(cloud: Cloud) -> None:
    before, running = cloud.pods(), instances(MACHINE)
    cloud.replace("overlay/nova.yml", "cpu_allocation_ratio: 8.0", "cpu_allocation_ratio: 3.0")
    plan = ostack(cloud.model, "plan")
    cloud.deploy()
    gone = {before[uid]["metadata"]["labels"]["app"] for uid in before.keys() - cloud.pods().keys()}
    assert gone == CONTROL
    assert {step["workload"] for step in plan["steps"] if step["action"] == "roll"} == CONTROL
    assert instances(MACHINE) == running
    cloud.kubectl("-n", "openstack", "create", "job", "ratios", "--from=cronjob/nova-allocation")
    cloud.kubectl("-n", "openstack", "wait", "job/ratios", "--for=condition=complete", "--timeout=120s")
    [provider] = cloud.ask("placement", "/resource_providers")["resource_providers"]
    inventories = cloud.ask("placement", f"/resource_providers/{provider['uuid']}/inventories")["inventories"]
    assert inventories["VCPU"]["allocation_ratio"] == 3.0


def test_nova_in_the_articles_one_pod(cloud: Cloud) -> None:
    running = instances(MACHINE)
    cloud.replace("overlay/init.yml", "- system.nova.controller\n", "- system.nova.controller.single_pod\n")
    cloud.deploy()
    [pod] = [pod for pod in cloud.pods().values() if pod["metadata"]["labels"]["app"] == "nova-controller"]
    assert len(pod["status"]["containerStatuses"]) == 6 and ready(pod)
    assert cloud.active(cloud.made["server"])
    assert instances(MACHINE) == running
    cloud.replace("overlay/init.yml", "- system.nova.controller.single_pod\n", "- system.nova.controller\n")
    cloud.deploy()


def test_the_whole_cloud_goes_to_the_next_release(cloud: Cloud) -> None:
    """Every package of the next release, every database in phases, and the instance goes on."""
    running = instances(MACHINE)
    cloud.replace("init.yml", "openstack_version: epoxy", "openstack_version: gazpacho")
    ostack(cloud.model, "images", "lock")
    cloud.commit("Packages of the next release")
    done = cloud.deploy()
    assert cloud.not_ready() == []
    services = cloud.ask("nova", "/os-services")["services"]
    assert {service["state"] for service in services} == {"up"}
    assert cloud.active(cloud.made["server"]) and instances(MACHINE) == running
    assert done["checks"] and {check["result"] for check in done["checks"]} == {"ok"}
    images = {
        status["image"] for pod in cloud.pods().values() for status in pod["status"]["containerStatuses"]
    }
    assert not [image for image in images if ":epoxy-" in image]
    ostack(cloud.model, "finalize", "--yes")
    assert {check["result"] for check in ostack(cloud.model, "smoke")["checks"]} == {"ok"}
