"""Pods' network on several machines, for real: routes by BGP without a tunnel, policy, a switch, reflectors, faults.

A master and two computes of a generated model, and the lab's top-of-rack switch.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kubernetes_formula import lab

from .conftest import Machines, model, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(3600)]

ANSWERS = {
    "cluster_name": "fabric",
    "controllers": 1,
    "computes": 2,
    "services": "identity",
    "underlay_network": "10.92.0.0/24",
}
SWITCH_ADDRESS = "10.92.0.2"  # the lab starts it, for it is in the model
PASSWORD = {"format": "password", "shared": True, "value": None}
PEER = {
    "address": SWITCH_ADDRESS,
    "as_number": 65001,
    "rack": "r1",
    "password": "${pki:secret:bgp-r1:value}",
}
SWITCHED = {
    "pki": {"secret": {"bgp-r1": PASSWORD}},
    "calico": {"bgp": {"peer": {"r1": PEER}}, "balancer": {"cidr": "10.93.0.0/28"}},
}
PAUSE = "registry.k8s.io/pause:3.10.1"


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """The lab with its states applied, and the switch of its model."""
    with model(ANSWERS, tmp_path_factory) as source:
        made = Machines(source, ("kube_master", "kube_compute"))
        made.configure(SWITCHED)
        made.start()
        yield made


@pytest.fixture(scope="module")
def pods(fabric: Machines) -> dict[str, str]:
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
    fabric.create(*objects)
    fabric.kubectl(
        "wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{machine}" for machine in machines)
    )
    return {
        machine: fabric.kubectl("get", "pod", machine, "-o", "jsonpath={.status.podIP}")
        for machine in machines
    }


def inside(fabric: Machines, machine: str, address: str, command: str, check: bool = True) -> str:
    """A program of the machine in the network of its pod with this address."""
    found = (
        "for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -4 addr | grep -q 'inet {}/' && echo $n; done"
    )
    return fabric.on(machine, f"ip netns exec $({found.format(address)}) {command}", check=check)


def reaches(fabric: Machines, pods: dict[str, str]) -> bool:
    command = f"ping -c 1 -W 1 {pods['cmp02']}"
    return "1 received" in inside(fabric, "cmp01", pods["cmp01"], command, check=False)


def routes(fabric: Machines, machine: str) -> str:
    return fabric.on(machine, "ip route show proto bird")


def test_machines_are_ready_and_names_resolve(fabric: Machines, pods: dict[str, str]) -> None:
    fabric.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")
    fabric.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    question = (
        "import socket; ask = bytes.fromhex('123401000001000000000000') + b''.join(bytes([len(part)]) + part "
        "for part in b'kubernetes.default.svc.cluster.local'.split(b'.')) + bytes.fromhex('0000010001'); "
        "s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.sendto(ask, ('10.254.0.10', 53)); "
        "print(socket.inet_ntoa(s.recv(512)[-4:]))"
    )
    assert inside(fabric, "cmp01", pods["cmp01"], f'python3 -c "{question}"').strip() == "10.254.0.1"


def test_pods_reach_each_other_by_the_machines_own_routes(fabric: Machines, pods: dict[str, str]) -> None:
    assert reaches(fabric, pods)
    assert re.search(r"^10\.244\.\S+/26 via 10\.92\.0\.32 dev eth0", routes(fabric, "cmp01"), re.MULTILINE)
    for machine in pods:
        links = fabric.on(machine, "ip -d link")
        assert not re.search(r"\b(vxlan|ipip|tunl|geneve|wireguard)", links), links


def test_a_deny_policy_denies(fabric: Machines, pods: dict[str, str]) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"on": "cmp02"}}, "policyTypes": ["Ingress"]},
    }
    fabric.create(policy)
    within(10, lambda: not reaches(fabric, pods))
    fabric.kubectl("delete", "networkpolicy", "nobody")
    within(10, lambda: reaches(fabric, pods))


def test_openstacks_pods_accept_machines_and_each_other(fabric: Machines, pods: dict[str, str]) -> None:
    address = {}
    fabric.kubectl("create", "namespace", "openstack")
    for name, machine in (("one", "cmp01"), ("two", "cmp02")):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "openstack"}}
        place = {"nodeName": f"{machine}.fabric.local", "terminationGracePeriodSeconds": 1}
        spec = place | {"containers": [{"name": "pause", "image": PAUSE}]}
        fabric.create(pod | {"spec": spec})
        fabric.kubectl("-n", "openstack", "wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")
        address[name] = fabric.kubectl(
            "-n", "openstack", "get", "pod", name, "-o", "jsonpath={.status.podIP}"
        )
    ask = f"ping -c 1 -W 1 {address['two']}"
    within(10, lambda: "1 received" in inside(fabric, "cmp01", address["one"], ask, check=False))
    assert "1 received" in fabric.on("cmp01", ask), "a machine may"
    assert "0 received" in inside(fabric, "cmp01", pods["cmp01"], ask, check=False), (
        "a pod of another namespace may not"
    )
    assert "default.openstack" in fabric.kubectl(
        "get", "globalnetworkpolicies.crd.projectcalico.org", "-o", "name"
    )
    fabric.kubectl("delete", "namespace", "openstack")


def test_the_switch_learns_each_machines_pods_from_that_machine(
    fabric: Machines, pods: dict[str, str]
) -> None:
    def learned() -> list[str]:
        return re.findall(r"^10\.244\.\S+ via (\S+)", fabric.on("r1", "ip route"), re.MULTILINE)

    within(60, lambda: sorted(learned()) == ["10.92.0.31", "10.92.0.32"])
    fabric.on("r1", f"ping -c 1 -W 2 {pods['cmp02']}")
    assert "10.92.0.2" not in routes(fabric, "cmp01"), "what the switch says is not needed"


def test_a_service_has_an_address_that_the_switch_knows(fabric: Machines, pods: dict[str, str]) -> None:
    wanted = {"projectcalico.org/loadBalancerIPs": '["10.93.0.5"]'}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "front", "annotations": wanted},
        "spec": {"type": "LoadBalancer", "selector": {"on": "cmp02"}, "ports": [{"port": 8080}]},
    }
    fabric.create(service)
    shown = ("get", "service", "front", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    within(30, lambda: fabric.kubectl(*shown) == "10.93.0.5", "the address that was asked for")
    within(60, lambda: "10.93.0.0/28" in fabric.on("r1", "ip route"), "the switch's route to it")
    answer = "-c 'import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)'"
    inside(fabric, "cmp02", pods["cmp02"], f'sh -c "nohup python3 {answer} >/dev/null 2>&1 &"')
    ask = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://10.93.0.5:8080\", timeout=5).status)'"
    within(20, lambda: fabric.on("r1", ask, check=False).strip() == "200", "an answer through it")
    fabric.kubectl("delete", "service", "front")


@contextmanager
def pinging(fabric: Machines, pods: dict[str, str], most: int) -> Iterator[None]:
    """A ping every tenth of a second from pod to pod meanwhile; at most this many get no answer."""
    namespace = inside(fabric, "cmp01", pods["cmp01"], "ip netns identify").strip()
    command = f"ip netns exec {namespace} ping -i 0.1 -W 1 {pods['cmp02']}"
    own = ["docker", "exec", "fabric-cmp01", "sh", "-c", f"echo $$; exec {command}"]
    with subprocess.Popen(own, stdout=subprocess.PIPE, text=True) as ping:
        assert ping.stdout is not None
        number = ping.stdout.readline().strip()
        try:
            yield
        finally:
            fabric.on("cmp01", f"kill -INT {number}")
            said = ping.communicate(timeout=30)[0]
    sent, received = (int(count) for count in re.findall(r"(\d+) (?:packets transmitted|received)", said))
    say(f"{sent - received} of {sent} lost")
    assert sent > 50 and sent - received <= most


def test_restarts_lose_no_second(fabric: Machines, pods: dict[str, str]) -> None:
    with pinging(fabric, pods, most=10):
        for unit in ("calico-bird", "calico-felix", "calico-confd"):
            fabric.on("cmp02", f"systemctl restart {unit}")
            time.sleep(4)


def test_calicos_programs_are_confined(fabric: Machines) -> None:
    """What the other tests see them do, they do in a read-only system; none is refused what it needs."""
    programs = {"cmp01": ("startup", "felix", "confd", "bird"), "kmst01": ("kube-controllers",)}
    for machine, names in programs.items():
        for name in names:
            unit = f"calico-{name}"
            shown = fabric.on(machine, f"systemctl show -p ActiveState,NoNewPrivileges,ProtectSystem {unit}")
            assert sorted(shown.split()) == [
                "ActiveState=active",
                "NoNewPrivileges=yes",
                f"ProtectSystem={'no' if name == 'felix' else 'strict'}",
            ], unit
            said = fabric.on(machine, f"journalctl -q -b -o cat -u {unit}")
            refused = re.findall(r"^.*(?:[Rr]ead-only file system|226/NAMESPACE|218/CAPABIL).*$", said, re.M)
            assert not refused, f"{unit}: {refused[0]}"


def test_a_power_cut_costs_seconds(fabric: Machines, pods: dict[str, str]) -> None:
    lab.fault("kill", fabric.source, "cmp02")
    lab.fault("restart", fabric.source, "cmp02")
    within(120, lambda: "via 10.92.0.31" in fabric.on("cmp02", "ip route", check=False), "first route")
    fabric.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "node/cmp02.fabric.local", "pod/cmp02")
    pods["cmp02"] = fabric.kubectl("get", "pod", "cmp02", "-o", "jsonpath={.status.podIP}")
    within(60, lambda: reaches(fabric, pods))


def test_a_switch_with_another_password_is_told(fabric: Machines) -> None:
    def told() -> list[str]:
        said = fabric.on("cfg01", "cd /srv/ostack-k8s/model && ostack-k8s validate --live -o json", False)
        return sorted(error["node"] for error in json.loads(said)["errors"] if error["code"] == "E250")

    assert told() == []
    fabric.on("r1", "sed -i 's/password \"/password \"another/' /etc/bird/bird.conf")
    fabric.on("r1", "birdc -s /run/bird/bird.ctl configure")
    try:
        within(60, lambda: told() == [fabric.fqdn("cmp01"), fabric.fqdn("cmp02")], "a wrong password told")
        shown = {machine.name.partition(".")[0]: machine.bgp for machine in lab.status(fabric.source).nodes}
        assert shown["cmp01"] == shown["cmp02"] == "1/2"
    finally:
        lab.fault("restart", fabric.source, "r1")
    within(120, lambda: told() == [], "the right password")


def test_from_the_mesh_to_a_reflector_and_back_pods_keep_their_routes(
    fabric: Machines, pods: dict[str, str]
) -> None:
    def sessions() -> list[tuple[str, str]]:
        shown = fabric.on("cmp02", "birdc -s /run/calico/bird.ctl show protocols")
        rows = [line.split() for line in shown.splitlines() if " BGP " in line]
        return [(row[0], row[-1]) for row in rows if row[0].startswith("Mesh_")]

    def reflects() -> bool:
        shown = fabric.on("cmp01", "birdc -s /run/calico/bird.ctl show protocols all", check=False)
        return "route-reflector" in shown

    def peers() -> list[str]:
        names = fabric.kubectl("get", "bgppeers.crd.projectcalico.org", "-o", "name").split()
        return [name.rpartition("/")[2] for name in names]

    def learned() -> list[str]:
        return re.findall(r"^10\.244\.\S+ via (\S+)", fabric.on("lab-r1", "ip route"), re.MULTILINE)

    fabric.configure({})
    fabric.up()
    assert peers() == ["switch-lab-r1"], "the lab's own switch, for the rack has none in the model now"
    within(60, lambda: sorted(learned()) == ["10.92.0.31", "10.92.0.32"], "routes of the lab's own switch")
    within(60, lambda: sessions() == [("Mesh_10_92_0_31", "Established")], "the mesh")

    with pinging(fabric, pods, most=10):
        # a lab of two computes is no more than a mesh takes; the second reflector is not started
        reflectors = {fabric.fqdn(machine): {} for machine in ("cmp01", "ctl01")}
        fabric.configure({"calico": {"bgp": {"mesh_limit": 1, "reflector": reflectors}}})
        fabric.up()
        within(60, reflects, "a reflector")
        within(60, lambda: sessions() == [("Mesh_10_92_0_31", "Established")])
    assert peers() == ["reflector", "switch-lab-r1"]
    assert "rr client" in fabric.on("cmp01", "cat /run/calico/bird.cfg")
    assert reaches(fabric, pods)

    with pinging(fabric, pods, most=10):
        fabric.configure({})
        fabric.up()
        within(60, lambda: not reflects(), "no reflector")
        within(60, lambda: sessions() == [("Mesh_10_92_0_31", "Established")])
    assert peers() == ["switch-lab-r1"]
    assert reaches(fabric, pods)
