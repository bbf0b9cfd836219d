"""The cloud of the default model for real: seven machines, clients that reach it by an address which BGP tells.

The tests of this file tell one story, in order: instances on two computes reach each other; one of each control service
becomes three, by one value; the machine of one of them loses its power while clients write.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from reclass_model.inventory import get

from .cloud import Cloud, instances, on, ostack
from .conftest import Machines, model, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(7200)]

ANSWERS = {"cluster_name": "whole", "services": "all", "underlay_network": "10.81.0.0/24"}
ADDRESS = "10.94.0.5"
BALANCED = """parameters:
  kubernetes:
    control:
      workload:
        haproxy-edge: {type: LoadBalancer, address: "${_param:public_address}"}
"""
CONTROLLERS = ("whole-ctl01", "whole-ctl02", "whole-ctl03")
COMPUTES = ("whole-cmp01", "whole-cmp02")
LOST = CONTROLLERS[0]
RECOVERY_SECONDS = 30  #: until no request fails
PATIENCE_SECONDS = 10  #: of a client, for one request


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One of each control service, and an address of a Service as the way in."""
    with model(ANSWERS, tmp_path_factory) as source:
        level = source.cluster_dir / "init.yml"
        if ADDRESS not in level.read_text():
            text = level.read_text().replace("control_replicas: 3", "control_replicas: 1")
            level.write_text(text.replace("public_address: 10.81.0.21", f"public_address: {ADDRESS}"))
            overlay = source.cluster_dir / "overlay" / "init.yml"
            overlay.write_text(overlay.read_text().replace("parameters: {}\n", BALANCED))
            Machines(source).configure({"calico": {"balancer": {"cidr": "10.94.0.0/28"}}})
        yield Cloud.up(source.root, "whole-kmst01")


def running() -> dict[str, list[str]]:
    """Process numbers of the instances of each compute: machines count on their own."""
    return {machine: instances(machine) for machine in COMPUTES}


def members(cloud: Cloud) -> int:
    """Of the database, as a member on a machine that is not lost sees it."""
    command = (
        "exec",
        "mariadb-server-1",
        "--",
        "mariadb",
        "--user=probe",
        "--skip-column-names",
        "--execute",
    )
    answer = cloud.kubectl("-n", "openstack", *command, "SHOW STATUS LIKE 'wsrep_cluster_size'")
    return int(answer.split()[1])


def queue_members(cloud: Cloud) -> list[int]:
    """How many members each quorum queue has."""
    ask = (
        "export HOME=/tmp; . /usr/local/bin/message-environment; /usr/lib/rabbitmq/bin/rabbitmqctl --quiet"
        ' --longnames --node "rabbit@$(hostname).$MEMBERS" list_queues --vhost nova type members --formatter json'
    )
    pod = ("exec", "rabbitmq-server-1", "--", "sh", "-c")
    found = json.loads(cloud.kubectl("-n", "openstack", *pod, ask))
    return [len(queue["members"]) for queue in found if queue["type"] == "quorum"]


def test_instances_on_two_machines_reach_each_other(cloud: Cloud) -> None:
    assert cloud.not_ready() == []
    checks = {check["name"]: check["result"] for check in ostack(cloud.model, "smoke")["checks"]}
    assert set(checks.values()) == {"ok"}
    assert {"nova-console", "guest-lease", "guest-ping"} <= checks.keys()


def test_every_service_is_up_from_outside(cloud: Cloud) -> None:
    catalog = cloud.ask("keystone", "/auth/catalog")["catalog"]
    public = [
        each["url"] for service in catalog for each in service["endpoints"] if each["interface"] == "public"
    ]
    assert len(public) >= 7 and all(url.startswith(f"https://{ADDRESS}:") for url in public)
    services = cloud.ask("nova", "/os-services")["services"]
    assert [service["state"] for service in services] == ["up"] * len(services)
    assert sum(service["binary"] == "nova-compute" for service in services) == len(COMPUTES)
    agents = cloud.ask("neutron", "/v2.0/agents")["agents"]
    assert len(agents) == 4 * len(COMPUTES) and all(agent["alive"] for agent in agents)


def test_one_value_makes_three_of_each_control_service(cloud: Cloud) -> None:
    group = {"server_group": {"name": "apart", "policies": ["anti-affinity"]}}
    hints = {"group": cloud.ask("nova", "/os-server-groups", group)["server_group"]["id"]}
    for name in ("one", "two"):
        cloud.made[name] = cloud.boot(name, hints)
    for name in ("one", "two"):
        within(180, lambda name=name: cloud.active(cloud.made[name]), f"{name} is active")  # type: ignore[misc]
    before = running()
    assert [len(instances(machine)) for machine in COMPUTES] == [1, 1]
    cloud.replace("init.yml", "control_replicas: 1", "control_replicas: 3")
    cloud.deploy()
    assert cloud.not_ready() == [] and running() == before
    assert members(cloud) == 3
    within(180, lambda: set(queue_members(cloud)) == {3}, "every queue has three members")


@dataclass
class Load:
    """Clients that read and write one after the other, each request with a limit; what they were told."""

    cloud: Cloud
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[tuple[float, str]] = field(default_factory=list)  #: when they were told, what
    written: list[str] = field(default_factory=list)  #: networks that were acknowledged
    requests: int = 0

    def _try(self, what: str, request: Callable[[], object]) -> None:
        try:
            request()
        except OSError as error:
            self.failures.append((time.monotonic(), f"{what}: {error}"))
        self.requests += 1

    def read(self) -> None:
        while not self.stop.wait(0.2):
            self._try("token", lambda: self.cloud.log_in(PATIENCE_SECONDS))
            for service, path in (
                ("nova", "/servers/detail"),
                ("glance", "/v2/images"),
                ("neutron", "/v2.0/ports"),
            ):
                self._try(service, lambda s=service, p=path: self.cloud.ask(s, p, timeout=PATIENCE_SECONDS))  # type: ignore[misc]

    def write(self) -> None:
        for number in itertools.count():
            if self.stop.wait(0.2):
                return
            name = f"load-{number}"

            def make(name: str = name) -> None:
                self.cloud.ask(
                    "neutron", "/v2.0/networks", {"network": {"name": name}}, timeout=PATIENCE_SECONDS
                )
                self.written.append(name)

            self._try("network", make)


def test_a_controller_dies_and_nothing_that_was_acknowledged_is_lost(cloud: Cloud) -> None:
    before = running()
    load = Load(cloud)
    clients = [threading.Thread(target=load.read), threading.Thread(target=load.write)]
    for client in clients:
        client.start()
    time.sleep(20)
    assert load.failures == []
    lost = time.monotonic()
    subprocess.run(["docker", "kill", LOST], check=True, capture_output=True)
    time.sleep(120)
    load.stop.set()
    for client in clients:
        client.join()
    last = max((when - lost for when, _ in load.failures), default=0.0)
    say(f"{load.requests} requests, {len(load.failures)} failed, the last one {last:.1f} s after the loss")
    for when, what in load.failures:
        say(f"{when - lost:6.1f} s  {what}")
    assert last < RECOVERY_SECONDS
    assert members(cloud) == 2
    cloud.log_in()
    networks = {network["name"] for network in cloud.ask("neutron", "/v2.0/networks")["networks"]}
    assert len(load.written) > 50 and set(load.written) <= networks
    assert {server["id"] for server in cloud.ask("nova", "/servers")["servers"]} == {
        cloud.made["one"],
        cloud.made["two"],
    }
    assert [image["id"] for image in cloud.ask("glance", "/v2/images")["images"]] == [cloud.made["image"]]
    assert running() == before


def test_the_machine_comes_back_and_all_is_as_before(cloud: Cloud) -> None:
    subprocess.run(["docker", "start", LOST], check=True, capture_output=True)
    within(420, lambda: cloud.not_ready() == [], "every pod is ready again")
    assert members(cloud) == 3 and set(queue_members(cloud)) == {3}
    assert on(LOST, "systemctl", "is-active", "kubelet").strip() == "active"
    assert get(cloud.values, "_param:public_address") == ADDRESS
    assert {check["result"] for check in ostack(cloud.model, "smoke")["checks"]} == {"ok"}
