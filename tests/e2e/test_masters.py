"""The control plane on three machines: grown from one, without one of them, restored, and upgraded under load.

The tests tell one story, in order, with the names and numbers of `init` for one master, one controller, two computes.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from kubernetes_formula import lab
from reclass_model import nodes
from reclass_model.errors import OperatorError
from reclass_model.repository import Repository

from .conftest import Machines, model, pods, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(7200)]

ANSWERS = {
    "cluster_name": "masters",
    "controllers": 1,
    "computes": 2,
    "services": "identity",
    "underlay_network": "10.80.1.0/24",
}
MASTERS = ("kmst01", "kmst02", "kmst03")
NODES = ("cmp01", "cmp02", "ctl01")
OLD, NEW = "1.36.3", "1.37.2"
ETCDCTL = (
    "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/pki/client-ca.crt"
    " --cert=/etc/etcd/pki/etcd-root.crt --key=/etc/etcd/pki/etcd-root.key"
)

#: Until its input ends: writes objects, one after another, through the machine's own gateway. Says when each was
#: that the API acknowledged, and how many others there were.
WRITER = """
import http.client, json, ssl, sys, threading, time
prefix, path = sys.argv[1], "/api/v1/namespaces/default/configmaps"
context = ssl.create_default_context(cafile="/etc/kubernetes/pki/ca.crt")
context.load_cert_chain("/etc/kubernetes/pki/admin.crt", "/etc/kubernetes/pki/admin.key")
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
written, failed, number = {}, 0, 0
while not over.is_set():
    name, number = f"{prefix}-{number}", number + 1
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"by": prefix}}}
    try:
        connection = http.client.HTTPSConnection("127.0.0.1", 7443, timeout=3, context=context)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status == 201:
            written[name] = time.time()
        else:
            failed += 1
    except (OSError, http.client.HTTPException):
        failed += 1
    time.sleep(0.05)
print(json.dumps({"written": written, "failed": failed}))
"""

#: Until its input ends: asks a Service, each time anew, more than twenty times a second.
ASKER = """
import http.client, json, sys, threading, time
address, port = sys.argv[1], int(sys.argv[2])
asked, failed, slowest = 0, [], 0.0
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
begin = time.time()
while not over.is_set():
    start = time.time()
    try:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            failed.append([start - begin, str(answer.status)])
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        failed.append([start - begin, repr(error)])
    asked += 1
    slowest = max(slowest, time.time() - start)
    time.sleep(max(0.0, 0.04 - (time.time() - start)))
print(json.dumps({"asked": asked, "failed": failed, "seconds": time.time() - begin, "slowest": slowest}))
"""


@pytest.fixture(scope="module")
def ha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """One master, one controller, two computes."""
    with model(ANSWERS, tmp_path_factory) as source:
        made = Machines(source)
        made.start()
        yield made


def members(ha: Machines, master: str = "kmst01") -> dict[str, bool]:
    """Member of etcd → whether it votes (and has started)."""
    listed = json.loads(ha.on(master, f"{ETCDCTL} member list --write-out=json"))["members"]
    return {
        str(member.get("name", "")).partition(".")[0]: bool(member.get("clientURLs"))
        and not member.get("isLearner", False)
        for member in listed
    }


def healthy(ha: Machines) -> bool:
    """All masters: etcd answers, the API server is ready."""
    ready = "kubectl --kubeconfig /etc/kubernetes/admin.kubeconfig --server https://127.0.0.1:6443 get --raw /readyz"
    return all(
        not ha.fails(master, f"{ETCDCTL} endpoint health && {ready}")
        for master in MASTERS
        if ha.source.node_file(ha.fqdn(master)).exists()
    )


@contextmanager
def running(ha: Machines, machine: str, program: str, *arguments: str) -> Iterator[Callable[[], Any]]:
    """A Python program on a machine while the block runs; call what is given to end it and to have what it says."""
    words = ["docker", "exec", "-i", f"masters-{machine}", "python3", "-c", program, *arguments]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield lambda: json.loads(process.communicate("")[0])


def longest_gap(ha: Machines, name: str, said: Mapping[str, Any]) -> float:
    """Seconds without an acknowledged write, at most; none of the acknowledged ones may be lost."""
    there = ha.kubectl("get", "configmaps", "-l", f"by={name}", "-o", "name").split()
    lost = said["written"].keys() - {entry.removeprefix("configmap/") for entry in there}
    gap: float = max(after - before for before, after in pairwise(sorted(said["written"].values())))
    count = len(said["written"])
    say(
        f"measured: {name}: {count} acknowledged, {said['failed']} not; longest gap {gap:.1f} s; {len(lost)} lost"
    )
    assert not lost
    return gap


def outage(ha: Machines, name: str, cause: Callable[[], Any], seconds: float = 30) -> float:
    """The longest gap of writing while `cause` happens and `seconds` afterwards."""
    with running(ha, "cfg01", WRITER, name) as writer:
        time.sleep(5)
        cause()
        time.sleep(seconds)
        said = writer()
    return longest_gap(ha, name, said)


# --- growing ---


def test_one_master_becomes_three_and_nothing_restarts(ha: Machines) -> None:
    before = ha.processes("etcd", "kube-apiserver", "kubelet", "containerd")
    for name in MASTERS[1:]:
        nodes.add(Repository(ha.source.root), name, ["kube_master"], None, say)
    ha.commit("Three masters")
    ha.up()
    assert members(ha) == dict.fromkeys(MASTERS, True)
    after = ha.processes("etcd", "kube-apiserver", "kubelet", "containerd")
    assert before.items() <= after.items()
    assert {"kmst02", "kmst03"} <= {machine for machine, unit in after if unit == "etcd"}
    for machine, names in ha.changed().items():
        say(f"measured: growing changed on {machine}: {sorted(names)}")


# --- without one of them ---


@pytest.mark.parametrize("master", MASTERS)
def test_a_dead_master_costs_seconds_and_no_write(ha: Machines, master: str) -> None:
    assert outage(ha, f"dead-{master}", lambda: lab.fault("kill", ha.source, master)) <= 10
    lab.fault("restart", ha.source, master)
    within(60, lambda: healthy(ha), f"{master} is back")


@pytest.mark.parametrize("master", MASTERS)
def test_a_dead_member_of_etcd_costs_seconds_and_no_write(ha: Machines, master: str) -> None:
    stop = "systemctl kill --signal=KILL etcd && systemctl stop etcd"
    assert outage(ha, f"etcd-{master}", lambda: ha.on(master, stop)) <= 10
    ha.on(master, "systemctl start etcd")
    within(60, lambda: healthy(ha), f"etcd of {master} is back")


@pytest.mark.parametrize("fault", ["pause", "partition"])
def test_a_master_that_hangs_or_is_cut_off_costs_seconds_and_no_write(ha: Machines, fault: str) -> None:
    assert outage(ha, fault, lambda: lab.fault(fault, ha.source, "kmst01"), 40) <= 10
    lab.fault("restart", ha.source, "kmst01")
    within(60, lambda: healthy(ha), f"healed after {fault}")


def test_a_member_that_lost_its_data_does_not_start_alone_and_joins_anew(ha: Machines) -> None:
    ha.on("kmst02", "systemctl stop etcd && rm -rf /var/lib/etcd/member && systemctl start etcd", check=False)
    time.sleep(5)
    assert ha.fails("kmst02", "systemctl is-active --quiet etcd"), "as if it had never voted"
    ha.up()
    assert members(ha) == dict.fromkeys(MASTERS, True)
    within(60, lambda: healthy(ha), "the new member")


def test_a_snapshot_brings_the_data_back(ha: Machines) -> None:
    ha.kubectl("create", "configmap", "early")
    ha.on("kmst02", "systemctl start etcd-snapshot.service")
    snapshot = ha.on("kmst02", "ls -t /var/backups/etcd/*.db | head -n 1")
    ha.kubectl("create", "configmap", "late")
    started = time.monotonic()
    assert ha.orchestrate("restore", name=ha.fqdn("kmst02"), snapshot=snapshot).returncode == 0
    say(f"measured: restored in {time.monotonic() - started:.0f} s")
    there = ha.kubectl("get", "configmaps", "-o", "name").split()
    assert "configmap/early" in there and "configmap/late" not in there
    assert members(ha) == dict.fromkeys(MASTERS, True)
    within(60, lambda: ha.ready() == dict.fromkeys(NODES, "True"), "all nodes Ready")


# --- another Kubernetes ---


def versions(ha: Machines) -> set[str]:
    """The versions of all kubelets and API servers."""
    query = "{range .items[*]}{.status.nodeInfo.kubeletVersion}{'\\n'}{end}"
    kubelets = ha.kubectl("get", "nodes", "-o", f"jsonpath={query}").split()
    servers = [ha.on(master, "kube-apiserver --version").split()[-1] for master in MASTERS]
    return {version.removeprefix("v") for version in (*kubelets, *servers)}


def service(ha: Machines) -> str:
    """Three replicas behind a Service, of which two must stay, and a DaemonSet; the Service's address.

    CoreDNS answers /health until it ends, five seconds after it was told to.
    """
    image = ha.kubectl("-n", "kube-system", "get", "deployment", "coredns", "-o", "jsonpath={..image}")
    container = {
        "image": image,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    corefile = ".:5353 {\n  health :8080 {\n    lameduck 5s\n  }\n  whoami\n}\n"
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    volume = {"volumes": [{"name": "config", "configMap": {"name": "web"}}]}
    pause = {"image": "registry.k8s.io/pause:3.10.1"}
    ha.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "web"},
            "data": {"Corefile": corefile},
        },
        pods(
            "Deployment", "web", container, replicas=3, pod={**volume, "topologySpreadConstraints": [spread]}
        ),
        pods("DaemonSet", "everywhere", pause),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    ha.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    ha.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s")
    return ha.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")


def containers(ha: Machines, app: str) -> set[str]:
    """The containers of an application's pods, with the number of their restarts."""
    query = "{range .items[*].status.containerStatuses[*]}{.containerID} {.restartCount}{'\\n'}{end}"
    return set(ha.kubectl("get", "pods", "-l", f"app={app}", "-o", f"jsonpath={query}").splitlines())


def test_another_version_is_refused_by_the_plain_run(ha: Machines) -> None:
    path = ha.source.cluster_dir / "init.yml"
    path.write_text(path.read_text().replace(f'kubernetes_version: "{OLD}"', f'kubernetes_version: "{NEW}"'))
    ha.commit("Another Kubernetes")
    with pytest.raises(OperatorError, match=r"1\.36\.3 runs, the model says 1\.37\.2: .*ostack\.upgrade"):
        ha.up()
    assert versions(ha) == {OLD}


def test_an_upgrade_fails_no_request_and_moves_no_pod_that_may_stay(ha: Machines) -> None:
    address = service(ha)
    stay = containers(ha, "everywhere")
    started = time.monotonic()
    with (
        running(ha, "cmp02", ASKER, address, "80") as asker,
        running(ha, "cfg01", WRITER, "upgrade") as writer,
    ):
        done = ha.orchestrate("upgrade")
        took = time.monotonic() - started
        said, written = asker(), writer()
    assert done.returncode == 0
    rate = said["asked"] / said["seconds"]
    gap = longest_gap(ha, "upgrade", written)
    say(
        f"measured: upgrade of 3 masters and 3 nodes {took:.0f} s; {said['asked']} requests at {rate:.1f}/s, "
        f"{len(said['failed'])} failed {said['failed'][:5]}, slowest {said['slowest']:.2f} s"
    )
    assert versions(ha) == {NEW}
    assert not said["failed"]
    assert rate >= 20
    assert gap <= 10
    assert containers(ha, "everywhere") == stay, "a pod that no drain moves goes on through the upgrade"
    cordoned = ha.kubectl("get", "nodes", "-o", "jsonpath={.items[*].spec.unschedulable}")
    assert cordoned == ""


def test_after_the_upgrade_the_plain_run_goes_and_then_changes_nothing(ha: Machines) -> None:
    ha.up()
    ha.up()
    assert ha.changed() == {}
    assert ha.ready() == dict.fromkeys(NODES, "True")
