"""The services of the library: both releases, one number for each user, an upgrade's order, what a change touches."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from reclass_model import generate
from reclass_model.generate import Answers
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.validation import validate

WORKLOADS = "kubernetes:control:workload"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A cloud of several machines with every service."""
    place = tmp_path_factory.mktemp("all")
    answers = Answers.of({"cluster_name": "demo", "services": "all"})
    return Repository(generate.create(answers, place / "demo", place / "keys", lambda line: None).path)


@pytest.fixture
def cloud(made: Repository) -> Iterator[Repository]:
    """The same, as it was made."""
    yield made
    git(made, "reset", "--quiet", "--hard")


def git(repository: Repository, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=repository.root, check=True)


def parameters(repository: Repository) -> dict[str, Any]:
    return Inventory(repository).config_node().parameters


def plan(repository: Repository) -> Any:
    """The plan from what is committed to what is in the tree."""
    head = repository.head()
    git(repository, "commit", "--quiet", "--all", "--message", "change")
    command = [sys.executable, "-c", "from cli.main import main; main()", "-C", str(repository.root)]
    done = subprocess.run(
        [*command, "plan", "--from", head, "-o", "json"], capture_output=True, text=True, check=False
    )
    git(repository, "reset", "--quiet", "--hard", head)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def images(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{system}:{role}": described["image"]
        for system, roles in values.items()
        if isinstance(roles, dict)
        for role, described in roles.items()
        if isinstance(described, dict) and "image" in described
    }


def test_every_service_is_valid_and_of_the_release_it_says(cloud: Repository) -> None:
    epoxy = images(parameters(cloud))
    replace(cloud.cluster_dir / "init.yml", "openstack_version: epoxy", "openstack_version: gazpacho")
    problems = validate(cloud)
    assert problems.errors == []
    assert {problem.code for problem in problems.warnings} <= {
        "W112"
    }  # an option's old name, for the release before
    gazpacho = images(parameters(cloud))
    for role, image in epoxy.items():
        expected = [
            {package["version"] for package in each["packages"].values() if "version" in package}
            for each in (image, gazpacho[role])
        ]
        if "release" in image:
            assert all(expected), f"nothing says which version {role} has"
            assert expected[0] != expected[1]
        else:
            assert image == gazpacho[role]


def test_images_run_as_a_user_but_for_these(cloud: Repository) -> None:
    """libvirt starts instances as root, and the switch is the machine's."""
    found = images(parameters(cloud))
    assert {role for role, image in found.items() if not image.get("user")} == {
        "libvirt:server",
        "openvswitch:vswitch",
    }


def test_files_of_oslo_config_are_held_against_their_release(cloud: Repository) -> None:
    """Every ini file of a release's image is of that format, but uWSGI's."""
    formats = {
        path: file.get("format", "ini")
        for image in images(parameters(cloud)).values()
        if "release" in image
        for path, file in image["config"].items()
    }
    assert [path for path, format in formats.items() if format == "ini"] == ["/etc/openstack/uwsgi.ini"]


def test_a_user_has_one_number_and_a_port_one_service(cloud: Repository) -> None:
    values = parameters(cloud)
    numbers = {
        (user["name"], user["uid"]) for image in images(values).values() if (user := image.get("user"))
    }
    assert len({name for name, _ in numbers}) == len({number for _, number in numbers}) == len(numbers)
    ports = [
        port["node_port"]
        for workload in get(values, WORKLOADS).values()
        for container in workload["container"].values()
        for port in container.get("ports", {}).values()
        if "node_port" in port
    ]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("nova", ["system.nova.controller", "system.nova.controller.single_pod"])
def test_the_edge_is_where_clients_are_sent_and_leads_to_the_services(cloud: Repository, nova: str) -> None:
    replace(cloud.cluster_dir / "overlay" / "init.yml", "- system.nova.controller\n", f"- {nova}\n")
    values = parameters(cloud)
    workloads = get(values, WORKLOADS)
    edge = workloads["haproxy-edge"]
    files = get(values, "haproxy:edge:image:config").values()
    sections = re.findall(
        r"bind :(\d+) ssl .*(?:\n  .*)*\n  server \S+ (\S+):(\d+)\n", "".join(f["data"] for f in files)
    )
    outside = {name: port for name, port in edge["container"]["haproxy"]["ports"].items() if name != "health"}
    assert {int(port) for port, _, _ in sections} == {port["node_port"] for port in outside.values()}
    assert all(port["port"] == port["node_port"] for port in outside.values())
    assert {
        name
        for name, workload in workloads.items()
        for container in workload["container"].values()
        for port in container.get("ports", {}).values()
        if "node_port" in port
    } == {"haproxy-edge"}
    called = {
        alias: name for name, workload in workloads.items() for alias in (name, *workload.get("aliases", {}))
    }
    for _, host, port in sections:
        service, domain = host.split(".", 1)
        name = called[service]
        served = [
            each["port"]
            for one in workloads[name]["container"].values()
            for each in one.get("ports", {}).values()
        ]
        assert domain == "openstack.svc.cluster.local" and int(port) in served
        assert name in edge["upgrade"]["after"], f"the edge takes its port before {name} has let it go"
    urls = [service["url"]["public"] for service in get(values, "keystone:server:catalog").values()]
    urls += [endpoint["url"] for endpoint in edge["endpoint"].values()] + [
        get(values, "_param:nova_console_url")
    ]
    for url in urls:
        found = urlsplit(url)
        assert found.scheme == "https" and found.port in {port["node_port"] for port in outside.values()}, url


def test_a_lab_may_do_without_tls(cloud: Repository) -> None:
    replace(cloud.cluster_dir / "init.yml", "  _param:\n", "  _param:\n    public_scheme: http\n")
    assert validate(cloud).errors == []
    values = parameters(cloud)
    assert get(values, "_param:keystone_public_url").startswith("http://")
    files = get(values, "haproxy:edge:image:config").values()
    assert not any("ssl crt" in file["data"] for file in files)
    assert any("X-Forwarded-Proto http\n" in file["data"] for file in files)


def test_what_pods_mount_is_a_directory_of_their_machines(cloud: Repository) -> None:
    inventory = Inventory(cloud)
    machines = {
        name: get(inventory.node(f"{name}01.demo.local").parameters, "kubernetes:pool")
        for name in ("ctl", "cmp")
    }
    for name, workload in get(parameters(cloud), WORKLOADS).items():
        pool = machines["cmp" if "ostack-k8s.io/role-compute" in workload["node_selector"] else "ctl"]
        for volume in workload.get("volume", {}).values():
            if volume["type"] == "hostPath" and volume.get("host_type", "Directory") == "Directory":
                found = volume["path"] in pool["directory"] or volume["path"] in ("/dev", "/sys/fs/cgroup")
                assert found, f"{name} mounts {volume['path']}"
            if volume.get("host_type") == "File":
                places = [certificate["directory"] for certificate in pool["certificate"].values()]
                assert str(Path(volume["path"]).parent) in places, f"{name} mounts {volume['path']}"


def test_an_upgrade_goes_from_what_is_asked_to_who_asks(cloud: Repository) -> None:
    replace(cloud.cluster_dir / "init.yml", "openstack_version: epoxy", "openstack_version: gazpacho")
    steps = [step["name"] for step in plan(cloud)["steps"]]
    rolled = [name.split()[0] for name in steps if name.split()[-1] in ("roll", "switch", "recreate")]
    for before, after in (
        ("keystone-server", "glance-server"),
        ("keystone-server", "placement-server"),
        ("glance-server", "nova-conductor"),
        ("placement-server", "nova-conductor"),
        ("neutron-server", "neutron-rpc"),
        ("neutron-rpc", "neutron-openvswitch-agent"),
        ("neutron-rpc", "nova-conductor"),
        ("nova-conductor", "nova-scheduler"),
        ("nova-scheduler", "nova-api"),
        ("nova-api", "nova-compute"),
    ):
        assert rolled.index(before) < rolled.index(after), f"{after} before {before}"
    assert "nova-api switch" in steps
    assert steps.index("nova-conductor expand") < steps.index("nova-conductor roll")
    assert not {"libvirt-server", "openvswitch-vswitch", "mariadb-server", "rabbitmq-server"} & set(rolled)
    assert not [name for name in steps if name.split()[-1] in ("online", "contract")]


def test_an_allocation_ratio_touches_the_control_services_of_compute_alone(cloud: Repository) -> None:
    replace(
        cloud.cluster_dir / "overlay" / "init.yml",
        "parameters: {}",
        "parameters: {nova: {controller: {cpu_allocation_ratio: 4.0}}}",
    )
    found = plan(cloud)
    assert [image["name"] for image in found["images"] if image["action"] != "reuse"] == ["nova-controller"]
    names = [pod["name"].split("/")[-1] for pod in found["pods"]]
    assert names == [
        "nova-api-epoxy", "nova-conductor", "nova-metadata-epoxy", "nova-novncproxy", "nova-scheduler",
    ]  # fmt: skip
    assert found["nodes"] == []


def test_the_articles_pod_of_six_containers(cloud: Repository) -> None:
    replace(
        cloud.cluster_dir / "overlay" / "init.yml",
        "- system.nova.controller\n",
        "- system.nova.controller.single_pod\n",
    )
    assert validate(cloud).errors == []
    workloads = get(parameters(cloud), WORKLOADS)
    assert {name for name in workloads if name.startswith("nova-")} == {
        "nova-allocation",
        "nova-controller",
        "nova-compute",
    }
    assert len(workloads["nova-controller"]["container"]) == 6
    assert workloads["nova-controller"]["upgrade"]["strategy"] == "recreate"
