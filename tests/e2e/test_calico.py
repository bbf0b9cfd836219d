"""Pods' network on several machines, for real: routes by BGP without a tunnel, policy, a switch, reflectors, faults.

A master and two computes of a generated model, and the lab's top-of-rack switch.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kubernetes_formula import lab
from reclass_model import pki
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

from .conftest import say

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(3600)]

ANSWERS = {"cluster_name": "fabric", "controllers": 1, "computes": 2, "underlay_network": "10.92.0.0/24"}
SWITCH, SWITCH_ADDRESS = "fabric-r1", "10.92.0.2"  # the lab starts it, for it is in the model
SWITCHED = {
    "pki": {"secret": {"bgp-r1": {"format": "password", "shared": True, "value": None}}},
    "calico": {
        "bgp": {
            "peer": {
                "r1": {
                    "address": SWITCH_ADDRESS,
                    "as_number": 65001,
                    "rack": "r1",
                    "password": "${pki:secret:bgp-r1:value}",
                }
            }
        }
    },
}
PAUSE = "registry.k8s.io/pause:3.10.1"


def run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def on(machine: str, command: str, check: bool = True) -> str:
    return run("docker", "exec", f"fabric-{machine}", "sh", "-c", command, check=check)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    configured = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.kubeconfig")
    return run("docker", "exec", "-i", "fabric-kmst01", *configured, *arguments, stdin=stdin)


def within(seconds: float, true: Callable[[], object]) -> float:
    """How long until `true`; fails the test after `seconds`."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - started


@dataclass(frozen=True)
class Fabric:
    """The model, and bringing the lab to it."""

    model: Repository
    bundle: Path | None

    def apply(self, parameters: dict[str, object]) -> None:
        underlay = self.model.cluster_dir / "underlay" / "init.yml"
        content = yaml.safe_load(underlay.read_text())
        underlay.write_text(yaml.safe_dump({**content, "parameters": parameters}))
        identity = self.model.root.parent / "identity" / "operator.age"
        pki.issue(self.model, Keyring(identity), progress=say)
        self.model.commit("another fabric", [self.model.classes_dir])
        only = ("kube_master", "kube_compute")
        lab.up(self.model, only=only, bundle=self.bundle, progress=say)


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    """The lab with its states applied, and the switch of its model."""
    folder = tmp_path_factory.mktemp("fabric")
    model = Repository(folder / "model")
    create(Answers.of(ANSWERS), model.root, folder / "identity", say)
    bundle = Path(os.environ["OSTACK_K8S_BUNDLE"]) if "OSTACK_K8S_BUNDLE" in os.environ else None
    made = Fabric(model, bundle)
    try:
        made.apply(SWITCHED)
        yield made
    finally:
        lab.down(model)


@pytest.fixture(scope="module")
def pods(fabric: Fabric) -> dict[str, str]:
    """A pod on each compute: machine → the pod's address."""
    machines = ("cmp01", "cmp02")
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": machine, "labels": {"on": machine}},
            "spec": {
                "nodeName": f"{machine}.fabric.local",
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "pause", "image": PAUSE}],
            },
        }
        for machine in machines
    ]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{machine}" for machine in machines))
    return {machine: kubectl("get", "pod", machine, "-o", "jsonpath={.status.podIP}") for machine in machines}


def inside(machine: str, address: str, command: str, check: bool = True) -> str:
    """A program of the machine in the network of its pod with this address."""
    found = (
        "for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -4 addr | grep -q 'inet {}/' && echo $n; done"
    )
    return on(machine, f"ip netns exec $({found.format(address)}) {command}", check=check)


def reaches(pods: dict[str, str]) -> bool:
    command = f"ping -c 1 -W 1 {pods['cmp02']}"
    return "1 received" in inside("cmp01", pods["cmp01"], command, check=False)


def routes(machine: str) -> str:
    return on(machine, "ip route show proto bird")


def test_machines_are_ready_and_names_resolve(fabric: Fabric, pods: dict[str, str]) -> None:
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")
    kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    question = (
        "import socket; ask = bytes.fromhex('123401000001000000000000') + b''.join(bytes([len(part)]) + part "
        "for part in b'kubernetes.default.svc.cluster.local'.split(b'.')) + bytes.fromhex('0000010001'); "
        "s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.sendto(ask, ('10.254.0.10', 53)); "
        "print(socket.inet_ntoa(s.recv(512)[-4:]))"
    )
    assert inside("cmp01", pods["cmp01"], f'python3 -c "{question}"').strip() == "10.254.0.1"


def test_pods_reach_each_other_by_the_machines_own_routes(fabric: Fabric, pods: dict[str, str]) -> None:
    assert reaches(pods)
    assert re.search(r"^10\.244\.\S+/26 via 10\.92\.0\.32 dev eth0", routes("cmp01"), re.MULTILINE)
    for machine in pods:
        links = on(machine, "ip -d link")
        assert not re.search(r"\b(vxlan|ipip|tunl|geneve|wireguard)", links), links


def test_a_deny_policy_denies(fabric: Fabric, pods: dict[str, str]) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"on": "cmp02"}}, "policyTypes": ["Ingress"]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(policy))
    within(10, lambda: not reaches(pods))
    kubectl("delete", "networkpolicy", "nobody")
    within(10, lambda: reaches(pods))


def test_openstacks_pods_accept_machines_and_each_other(fabric: Fabric, pods: dict[str, str]) -> None:
    address = {}
    kubectl("create", "namespace", "openstack")
    for name, machine in (("one", "cmp01"), ("two", "cmp02")):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "openstack"}}
        place = {"nodeName": f"{machine}.fabric.local", "terminationGracePeriodSeconds": 1}
        spec = place | {"containers": [{"name": "pause", "image": PAUSE}]}
        kubectl("apply", "-f", "-", stdin=json.dumps(pod | {"spec": spec}))
        kubectl("-n", "openstack", "wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")
        address[name] = kubectl("-n", "openstack", "get", "pod", name, "-o", "jsonpath={.status.podIP}")
    ask = f"ping -c 1 -W 1 {address['two']}"
    within(10, lambda: "1 received" in inside("cmp01", address["one"], ask, check=False))
    assert "1 received" in on("cmp01", ask), "a machine may"
    assert "0 received" in inside("cmp01", pods["cmp01"], ask, check=False), (
        "a pod of another namespace may not"
    )
    assert "default.openstack" in kubectl("get", "globalnetworkpolicies.crd.projectcalico.org", "-o", "name")
    kubectl("delete", "namespace", "openstack")


def test_the_switch_learns_each_machines_pods_from_that_machine(fabric: Fabric, pods: dict[str, str]) -> None:
    def learned() -> list[str]:
        return re.findall(
            r"^10\.244\.\S+ via (\S+)", run("docker", "exec", SWITCH, "ip", "route"), re.MULTILINE
        )

    within(60, lambda: sorted(learned()) == ["10.92.0.31", "10.92.0.32"])
    run("docker", "exec", SWITCH, "ping", "-c", "1", "-W", "2", pods["cmp02"])
    assert "10.92.0.2" not in routes("cmp01"), "what the switch says is not needed"


def test_restarts_lose_no_second(fabric: Fabric, pods: dict[str, str]) -> None:
    command = f"ping -i 0.1 -c 200 -W 1 {pods['cmp02']}"
    own = ["docker", "exec", "fabric-cmp01", "sh", "-c"]
    namespace = inside("cmp01", pods["cmp01"], "ip netns identify").strip()
    with subprocess.Popen(
        [*own, f"ip netns exec {namespace} {command}"], stdout=subprocess.PIPE, text=True
    ) as ping:
        for unit in ("calico-bird", "calico-felix", "calico-confd"):
            on("cmp02", f"systemctl restart {unit}")
            time.sleep(4)
        said = ping.communicate()[0]
    received = int(re.findall(r"(\d+) received", said)[0])
    say(f"{200 - received} of 200 lost")
    assert received >= 190


def test_a_power_cut_costs_seconds(fabric: Fabric, pods: dict[str, str]) -> None:
    lab.fault("kill", fabric.model, "cmp02")
    lab.fault("restart", fabric.model, "cmp02")
    say(f"route after {within(120, lambda: 'via 10.92.0.31' in on('cmp02', 'ip route', check=False)):.1f} s")
    kubectl("wait", "--for=condition=Ready", "--timeout=120s", "node/cmp02.fabric.local", "pod/cmp02")
    pods["cmp02"] = kubectl("get", "pod", "cmp02", "-o", "jsonpath={.status.podIP}")
    within(60, lambda: reaches(pods))


def test_a_reflector_in_place_of_the_mesh_and_no_switch(fabric: Fabric, pods: dict[str, str]) -> None:
    fabric.apply({"calico": {"bgp": {"reflector": {"cmp01.fabric.local": {}}}}})
    assert kubectl("get", "bgppeers.crd.projectcalico.org", "-o", "name").split() == [
        "bgppeer.crd.projectcalico.org/reflector"
    ]

    def protocols() -> list[list[str]]:
        shown = on("cmp02", "birdc -s /run/calico/bird.ctl show protocols")
        return [line.split() for line in shown.splitlines() if " BGP " in line]

    within(60, lambda: [(line[0], line[-1]) for line in protocols()] == [("Node_10_92_0_31", "Established")])
    assert "rr client" in on("cmp01", "cat /run/calico/bird.cfg")
    within(30, lambda: reaches(pods))
