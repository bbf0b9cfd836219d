"""The whole underlay: the seven machines of a new cloud, in two racks with a switch each, and what happens to them.

The tests tell one story, in order: first run, restarts, a machine more, a machine less, runs that are killed, a bundle
that is away or wrong, nothing left at the end.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from kubernetes_formula import lab
from kubernetes_formula.lab.place import Place
from reclass_model import nodes
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository

from .conftest import Machines, model, pods, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(7200)]

ANSWERS = {"cluster_name": "seven", "services": "identity", "underlay_network": "10.80.0.0/24"}
MACHINES = ["cfg01", "cmp01", "cmp02", "ctl01", "ctl02", "ctl03", "kmst01"]
NODES = ["cmp01", "cmp02", "ctl01", "ctl02", "ctl03"]
RACKS = {"r1": ("10.80.0.2", 65001), "r2": ("10.80.0.3", 65002)}
SECOND_RACK = ("ctl03", "cmp02")
APPLIED = "file.serialize: /etc/ostack-k8s/applied"
KILLS = 20
#: What must not be on a bare machine; each line is a failure.
NOT_BARE = """
for unit in kubelet kube-proxy containerd calico-felix calico-bird haproxy; do
  systemctl is-active --quiet $unit && echo $unit
done
ls -d /usr/local/bin/kube* /usr/local/bin/containerd* /etc/kubernetes /etc/calico 2> /dev/null
ls -d /var/lib/kubelet /etc/cni/net.d 2> /dev/null
pgrep -l 'containerd-shim|pause|calico|bird'
ip -o link | grep -o 'cali[0-9a-f]*'
ip route | grep 'proto bird'
iptables-save | grep -E 'KUBE-|cali' | head -3
grep -E '/(var/lib/kubelet|run/containerd)' /proc/mounts
true
"""


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """`init --defaults` with a second rack, and a top-of-rack switch in each; brought up with every run rehearsed."""
    with model(ANSWERS, tmp_path_factory) as source:
        made = Machines(source)
        if not lab.status(source).nodes:
            for machine in SECOND_RACK:
                move(made, machine, "r2")
            made.configure(
                {
                    "pki": {
                        "secret": {
                            f"bgp-{rack}": {"format": "password", "shared": True, "value": None}
                            for rack in RACKS
                        }
                    },
                    "calico": {
                        "bgp": {
                            "peer": {
                                rack: {
                                    "address": address,
                                    "as_number": number,
                                    "rack": rack,
                                    "password": f"${{pki:secret:bgp-{rack}:value}}",
                                }
                                for rack, (address, number) in RACKS.items()
                            }
                        }
                    },
                }
            )
        made.start(rehearse=True)
        yield made


def move(seven: Machines, machine: str, rack: str) -> None:
    """Put a machine into another rack: its own file, and the list that the masters read."""
    name = seven.fqdn(machine)
    file = seven.source.node_file(name)
    file.write_text(file.read_text().replace("rack: r1", f"rack: {rack}"))
    listed = seven.source.cluster_dir / "underlay" / "machines.yml"
    content = yaml.safe_load(listed.read_text())
    content["parameters"]["kubernetes"]["common"]["node"][name]["rack"] = rack
    listed.write_text(yaml.safe_dump(content))


def all_ready(seven: Machines, *names: str) -> bool:
    return seven.ready() == dict.fromkeys(names or NODES, "True")


def routes_of(seven: Machines, switch: str) -> list[str]:
    """The machines whose pods a switch has routes to, by their addresses."""
    return sorted(set(re.findall(r"^10\.244\.\S+ via (\S+)", seven.on(switch, "ip route"), re.MULTILINE)))


# --- the first run ---


def test_test_mode_told_the_truth_on_every_role_and_a_second_run_changed_nothing(seven: Machines) -> None:
    """`up` compared the sets of state ids of test mode, of the first run and of the second, machine by machine."""
    assert any("test=True told the truth on every machine" in line for line in seven.lines)
    for line in seven.lines:
        if " machine(s) applied in " in line or " announced in " in line or line.startswith("✓"):
            say(f"measured: {line}")


def test_all_machines_are_there_and_all_nodes_ready(seven: Machines) -> None:
    within(60, lambda: all_ready(seven), "all nodes Ready")
    machines = {machine.name.partition(".")[0]: machine for machine in lab.status(seven.source).nodes}
    assert sorted(machines) == [*MACHINES, *RACKS]
    for name in NODES:  # the other nodes, and the switch of the rack
        assert machines[name].bgp == f"{len(NODES)}/{len(NODES)}"
        assert machines[name].node == "Ready"


def test_each_switch_has_the_pods_of_its_rack(seven: Machines) -> None:
    pause = {"image": "registry.k8s.io/pause:3.10.1"}
    seven.create(pods("DaemonSet", "everywhere", pause, pod={"terminationGracePeriodSeconds": 1}))
    seven.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s")
    within(60, lambda: routes_of(seven, "r1") == ["10.80.0.21", "10.80.0.22", "10.80.0.31"], "routes of r1")
    within(60, lambda: routes_of(seven, "r2") == ["10.80.0.23", "10.80.0.32"], "routes of r2")


def test_the_machines_are_fit_and_their_certificates_last(seven: Machines) -> None:
    said = seven.on("cfg01", "cd /srv/ostack-k8s/model && ostack-k8s validate --live")
    assert "0 error(s), 0 warning(s)" in said
    seven.on("cfg01", "cd /srv/ostack-k8s/model && ostack-k8s pki status --live")


def test_a_machine_survives_docker_restart_and_a_hang(seven: Machines) -> None:
    query = ("-n", "kube-node-lease", "get", "lease", seven.fqdn("cmp01"), "-o", "jsonpath={.spec.renewTime}")
    subprocess.run(["docker", "restart", "seven-cmp01"], check=True, capture_output=True)
    before = seven.kubectl(*query)
    within(60, lambda: seven.kubectl(*query) > before, "its kubelet after docker restart")
    within(
        60, lambda: all_ready(seven) and "10.80.0.31" in routes_of(seven, "r1"), "Ready after docker restart"
    )
    lab.fault("pause", seven.source, "cmp02")
    within(60, lambda: seven.ready()["cmp02"] == "Unknown", "a hang noticed")
    lab.fault("restart", seven.source, "cmp02")
    within(60, lambda: all_ready(seven), "Ready after a hang")


def test_a_run_that_changes_nothing_is_quick_and_calico_is_small(seven: Machines) -> None:
    def seconds(command: str) -> float:
        started = time.monotonic()
        seven.on("kmst01", command)
        return time.monotonic() - started

    ping = min(seconds("salt-call test.ping") for _ in range(3))
    highstate = min(seconds("salt-call state.apply") for _ in range(3))
    say(
        f"measured: highstate of a master {highstate:.1f} s, {highstate / ping:.1f} times test.ping ({ping:.1f} s)"
    )
    for name in NODES:
        memory = seven.on(
            name, "ps -C calico-node,bird -o rss= | awk '{sum += $1} END {print int(sum / 1024)}'"
        )
        say(f"measured: Calico on {name} {memory} MB")
        assert int(memory) <= 250


# --- one machine more, one less ---


def test_a_new_compute_changes_itself_and_what_must_know_it(seven: Machines) -> None:
    before = seven.processes(
        "kubelet", "containerd", "calico-bird", "calico-felix", "haproxy", "etcd", "kube-apiserver"
    )
    nodes.add(Repository(seven.source.root), "cmp03", ["kube_compute"], "10.80.0.33", say)
    seven.commit("One more compute")
    started = time.monotonic()
    seven.up()
    within(30, lambda: all_ready(seven, *NODES, "cmp03"), "the new node Ready")
    say(f"measured: scale-out by one compute, with its container: {time.monotonic() - started:.0f} s")
    assert seven.changed() == {
        "cfg01": {APPLIED},
        "kmst01": {APPLIED, f"kubernetes_node.reconciled: node {seven.fqdn('cmp03')}"},
    }
    after = seven.processes(
        "kubelet", "containerd", "calico-bird", "calico-felix", "haproxy", "etcd", "kube-apiserver"
    )
    assert before.items() <= after.items(), "nothing that ran was restarted"


def test_a_removed_machine_is_bare_and_can_come_back(seven: Machines) -> None:
    assert seven.orchestrate("remove", name=seven.fqdn("cmp03")).returncode == 0
    assert "cmp03" not in seven.ready()
    assert seven.on("cmp03", NOT_BARE) == ""
    seven.on("cfg01", f"salt-run ostack.underlay only={seven.fqdn('cmp03')}")
    within(60, lambda: seven.ready().get("cmp03") == "True", "back in service")


def test_a_removed_compute_is_forgotten_by_all(seven: Machines) -> None:
    name = seven.fqdn("cmp03")
    assert seven.orchestrate("remove", name=name).returncode == 0
    nodes.remove(Repository(seven.source.root), name, say)
    seven.commit("One compute less")
    seven.up()
    assert seven.changed() == {"cfg01": {APPLIED}, "kmst01": {APPLIED}}
    assert all_ready(seven)
    assert name not in seven.on("cfg01", "salt-key --list all")
    kinds = "ipamblocks,blockaffinities,ipamhandles"
    within(60, lambda: "cmp03" not in seven.kubectl("get", kinds, "-o", "yaml"), "forgotten by Calico")
    sessions = "birdc -s /run/calico/bird.ctl show protocols"
    within(60, lambda: "10_80_0_33" not in seven.on("cmp01", sessions), "forgotten by BGP")


def test_a_removed_controller_is_forgotten_by_gluster_and_nothing_is_lost(seven: Machines) -> None:
    name, word = seven.fqdn("ctl03"), "/srv/ostack-k8s/shared/keystone-keys/word"
    seven.on("ctl01", f"echo word > {word}")
    assert seven.orchestrate("remove", name=name).returncode == 0
    nodes.remove(Repository(seven.source.root), name, say)
    seven.commit("One controller less")
    seven.up()
    assert seven.on("ctl01", "gluster peer status") != "" and "10.80.0.23" not in seven.on(
        "ctl01", "gluster peer status; gluster volume info"
    )
    assert seven.on("ctl02", f"cat {word}") == "word"
    assert seven.on("ctl03", f"{NOT_BARE} pgrep -l gluster; true") == ""
    assert all_ready(seven, "cmp01", "cmp02", "ctl01", "ctl02")


# --- bad days ---


def test_a_bundle_that_is_away_or_wrong_restarts_nothing(seven: Machines) -> None:
    units = ("kubelet", "kube-proxy", "containerd", "calico-felix", "haproxy")
    before = seven.processes(*units)
    program = seven.on("cmp01", "sha256sum /usr/local/bin/kubelet")
    pillar = Inventory(seven.source).node(seven.fqdn("cmp01")).parameters
    real = get(pillar, "bundle:artifact:kubelet:path")
    elsewhere = "dl.k8s.io/nowhere/kubelet"
    away = {
        "bundle": {"artifact": {"kubelet": {"path": elsewhere}}, "checksum": {elsewhere: "0" * 64}},
    }
    wrong = {"bundle": {"checksum": {real: "0" * 64}}}
    for bundle in (away, wrong):
        failed = seven.states("cmp01", pillar=bundle).failed
        (cause,) = (why for state, why in failed.items() if state.startswith("artifact.installed: kubelet"))
        say(cause)
        assert "cannot be fetched" in cause or "checksum" in cause
    seven.on(
        "cmp01", "mount -t tmpfs -o size=1m tmpfs /usr/local/bin"
    )  # full, and without what was installed
    try:
        failed = seven.states("cmp01").failed
    finally:
        seven.on("cmp01", "umount /usr/local/bin")
    assert any("No space left" in why for why in failed.values())
    assert seven.processes(*units) == before
    assert seven.on("cmp01", "sha256sum /usr/local/bin/kubelet") == program
    assert seven.states("cmp01").changed == set()


def test_killed_at_any_moment_the_next_run_completes(seven: Machines) -> None:
    moments = random.Random(4)
    for number in range(KILLS):
        if number % 5 == 0:
            assert not seven.states("cmp02", "kubernetes.clean").failed
        seconds = moments.uniform(0.5, 12)
        seven.run("cmp02", f"timeout --signal KILL {seconds:.1f} salt-call state.apply > /dev/null 2>&1")
    # a package whose installation was cut off
    seven.on(
        "cmp02",
        "sed -i '/^Package: socat$/,/^$/ s/^Status: .*/Status: install ok unpacked/' /var/lib/dpkg/status",
    )
    done = seven.states("cmp02")
    assert not done.failed
    assert seven.on("cmp02", "dpkg --audit; dpkg-query -W -f '${Status}' socat") == "install ok installed"
    assert seven.states("cmp02").changed == set()
    within(60, lambda: seven.ready()["cmp02"] == "True", "Ready after killed runs")


def test_nothing_is_left(seven: Machines) -> None:
    lab.down(seven.source)
    for kind in ("container ls --all", "volume ls", "network ls"):
        listed = subprocess.run(["docker", *kind.split()], capture_output=True, text=True, check=True).stdout
        assert "seven" not in listed
    assert not Place("seven").root.exists()
