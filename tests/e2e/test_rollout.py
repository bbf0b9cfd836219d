"""Rollouts against a real Kubernetes API: etcd, kube-apiserver and kube-controller-manager of the bundle on loopback.

There are no machines: a loop plays the kubelet and reports pods as running, Jobs' pods as ended. Real pods
are the lab's part.
Run as a program, this file deploys one release of the golden pillar (for the tests that kill it).
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula.manifests import Object, Overlay
from kubernetes_formula.rollout import (
    Cluster,
    Records,
    RolloutRecord,
    Timing,
    deploy,
    deployed,
    finalize,
    rollback,
    status,
)
from kubernetes_formula.rollout.lease import NAME as LEASE_NAME
from kubernetes_formula.rollout.lease import Lease
from reclass_model.errors import OperatorError
from tests.golden.overlay import API, overlay_of, with_release

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
]

RELEASES: dict[str, dict[str, Any]] = {
    "epoxy": {"order": 1},
    "gazpacho": {"order": 2, "upgrade_from": {"epoxy": {}}},
}
NAMESPACE = "openstack"
QUICK = Timing(healthy=60, job=60, hopeless=2, poll=0.1)
HOST = "127.0.0.1"
LONG_AGO = "2026-01-01T00:00:00Z"


# --- an API server ---


def binaries(place: Path) -> Path:
    """A directory with etcd, kube-apiserver and kube-controller-manager out of the bundle; skips without one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    bundle = Path(os.environ.get("OSTACK_K8S_BUNDLE") or cache / "ostack-k8s/bundle")
    servers = sorted(bundle.glob("dl.k8s.io/release/*/bin/linux/amd64/kube-apiserver"))
    archives = sorted(bundle.glob("github.com/etcd-io/etcd/releases/download/*/etcd-*.tar.gz"))
    if not servers or not archives:
        pytest.skip(f"no bundle in {bundle}: `ostack-k8s bundle build`, or set OSTACK_K8S_BUNDLE")
    place.mkdir()
    for name in ("kube-apiserver", "kube-controller-manager"):
        (place / name).symlink_to(servers[-1].with_name(name))
    with tarfile.open(archives[-1]) as archive:
        member = next(each for each in archive.getmembers() if Path(each.name).name == "etcd")
        content = archive.extractfile(member)
        assert content
        (place / "etcd").write_bytes(content.read())
    (place / "etcd").chmod(0o755)
    return place


def free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class ApiServer:
    """A cluster of no machines."""

    kubeconfig: Path
    cluster: Cluster


def start(directory: Path, stack: ExitStack) -> ApiServer:
    programs = binaries(directory / "bin")
    client, peer, secure = free_port(), free_port(), free_port()
    (directory / "tokens.csv").write_text("admin-token,admin,admin,system:masters\n")
    key = directory / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    certificate = directory / "certificates/apiserver.crt"  # written by the server, with its CA
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {
                            "server": f"https://{HOST}:{secure}",
                            "certificate-authority": str(certificate),
                        },
                    }
                ],
                "users": [{"name": "u", "user": {"token": "admin-token"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    commands = [
        [
            "etcd",
            f"--data-dir={directory}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://{HOST}:{client}",
            f"--advertise-client-urls=http://{HOST}:{client}",
            f"--listen-peer-urls=http://{HOST}:{peer}",
            f"--initial-advertise-peer-urls=http://{HOST}:{peer}",
            f"--initial-cluster=default=http://{HOST}:{peer}",
        ],
        [
            "kube-apiserver",
            f"--etcd-servers=http://{HOST}:{client}",
            f"--secure-port={secure}",
            f"--bind-address={HOST}",
            f"--cert-dir={directory}/certificates",
            f"--token-auth-file={directory}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.254.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
        ],
        [
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*,-nodelifecycle,-node-ipam-controller,-ttl-controller",
        ],
    ]
    for command in commands:
        log = stack.enter_context((directory / f"{command[0]}.log").open("wb"))
        process = subprocess.Popen([str(programs / command[0]), *command[1:]], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        if command[0] == "kube-apiserver":
            wait_until(certificate.is_file)
            cluster = Cluster.connect(kubeconfig)
            wait_until(partial(cluster.get, "Namespace", "", "default"))
    return ApiServer(kubeconfig, cluster)


def wait_until(done: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except OperatorError:
            pass
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


class Kubelet(threading.Thread):
    """Reports every pod as running and ready, those of Jobs as ended; images that hold "broken" never start."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.1):
            for pod in self._cluster.list("Pod", NAMESPACE, {}):
                state = self._state(pod)
                if state and pod.get("status", {}).get("phase") in (None, "Pending"):
                    self._report(pod, state)

    def _state(self, pod: Object) -> Object | None:
        container = pod["spec"]["containers"][0]
        if "broken" in container["image"]:
            waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
            return {"phase": "Pending", "containerStatuses": [_container(container, waiting, ready=False)]}
        if pod["spec"]["restartPolicy"] == "Never":
            code = 1 if "fail" in container.get("args", []) else 0
            ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
            phase = "Failed" if code else "Succeeded"
            return {"phase": phase, "containerStatuses": [_container(container, ended, ready=False)]}
        running = {"running": {"startedAt": LONG_AGO}}
        return {
            "phase": "Running",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": LONG_AGO}
                for kind in ("Ready", "ContainersReady")
            ],
            "containerStatuses": [_container(container, running, ready=True)],
        }

    def _report(self, pod: Object, state: Object) -> None:
        name = pod["metadata"]["name"]
        with suppress(OperatorError):  # the pod went meanwhile
            self._cluster.merge("Pod", NAMESPACE, f"{name}/status", {"status": state})


def _container(container: Object, state: Object, *, ready: bool) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ExitStack() as stack:
        found = start(tmp_path_factory.mktemp("api"), stack)
        kubelet = Kubelet(Cluster.connect(found.kubeconfig))
        kubelet.start()
        stack.callback(kubelet.join)
        stack.callback(kubelet.stop.set)
        yield found


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Cluster]:
    """The cluster with nothing of ours in it."""
    yield server.cluster
    server.cluster.delete("Namespace", "", NAMESPACE)
    for name in (
        "keystone-server-keys",
        "keystone-server-snapshot-dump",
        "mariadb-server-data-ctl01.test",
        "mariadb-server-data-ctl02.test",
    ):
        server.cluster.delete("PersistentVolume", "", name)
        wait_until(lambda name=name: server.cluster.get("PersistentVolume", "", name) is None)
    wait_until(lambda: server.cluster.get("Namespace", "", NAMESPACE) is None)


def overlay(release: str = "epoxy", tag: str = "bbbbbbbbbbbb", **changed: Any) -> Overlay:
    pillar = with_release(release, tag)
    workload = pillar["control"]["workload"][API]
    workload["job"] |= changed.pop("job", {})
    workload |= changed
    del workload["volume"]["modules"]  # hostPath: not under Pod Security "baseline"
    # the API refuses its second container's propagation of mounts
    del pillar["control"]["workload"]["agent-node"]
    return overlay_of(pillar, lambda value: value)


def go(cluster: Cluster, desired: Overlay, *, repair: bool = False) -> RolloutRecord:
    return deploy(
        cluster,
        desired,
        revision="abc",
        progress=print,
        releases=RELEASES,
        timing=QUICK,
        repair=repair,
    )


def names(record: RolloutRecord) -> list[str]:
    return [each.step.name for each in record.steps if each.result == "done"]


def image_of(cluster: Cluster) -> str:
    live = cluster.get("Deployment", NAMESPACE, API)
    assert live
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])


def secrets(cluster: Cluster) -> list[str]:
    found = cluster.list("Secret", NAMESPACE, {"ostack-k8s.io/workload": API})
    return sorted(item["metadata"]["name"] for item in found)


# --- tests ---


def test_from_nothing_to_finalized_and_back(cluster: Cluster) -> None:
    first = go(cluster, overlay())
    assert names(first)[0] == "prepare" and names(first)[-1] == "keystone-server start"
    assert names(go(cluster, overlay())) == []
    now = status(cluster, overlay())
    assert all(workload.ok for workload in now.workloads), now
    assert now.drift == ()

    static = go(cluster, overlay(tag="cccccccccccc"))
    assert names(static) == ["keystone-server roll"]
    assert set(static.downtime["identity"]) == {"requests", "failed", "longest_gap_s", "seconds"}
    assert names(go(cluster, overlay(tag="cccccccccccc", replicas=3))) == ["keystone-server apply"]
    assert names(rollback(cluster, progress=print, timing=QUICK)) == ["keystone-server apply"]

    upgrade = go(cluster, overlay("gazpacho"))
    assert names(upgrade) == [
        f"keystone-server {step}" for step in ("check", "snapshot", "expand", "migrate", "roll")
    ]
    back = rollback(cluster, progress=print, timing=QUICK)
    assert "epoxy" in image_of(cluster) and back.blocked == {API: "gazpacho"}
    with pytest.raises(OperatorError, match="rolled back from gazpacho"):
        go(cluster, overlay("gazpacho"))
    assert names(go(cluster, overlay(tag="cccccccccccc"))) == []  # the model was reverted
    again = go(cluster, overlay("gazpacho"))
    assert names(again) == names(upgrade)

    assert names(finalize(cluster, progress=print, timing=QUICK)) == ["keystone-server contract"]
    with pytest.raises(OperatorError, match="it was finalized"):
        rollback(cluster, progress=print)
    with pytest.raises(OperatorError, match="older than the deployed gazpacho"):
        go(cluster, overlay("epoxy"))
    record = deployed(cluster)
    assert record and record.overlay and record.overlay.workloads[API].release == "gazpacho"


def test_old_secrets_stay_for_one_rollback_and_drift_is_seen(cluster: Cluster) -> None:
    def with_password(text: str) -> Overlay:
        data = {"database": {"connection": text}}
        return overlay(
            secret={"/etc/keystone/keystone.conf.d/50-secret.conf": {"format": "ini", "data": data}}
        )

    go(cluster, with_password("one"))
    one = secrets(cluster)
    go(cluster, with_password("two"))
    assert set(one) < set(secrets(cluster))
    go(cluster, with_password("three"))
    assert not set(one) <= set(secrets(cluster))
    live = cluster.list("Secret", NAMESPACE, {"app": API})
    values = {base64.b64decode(next(iter(item["data"].values()))).decode() for item in live}
    assert values == {"[database]\nconnection = two\n", "[database]\nconnection = three\n"}

    cluster.merge("Deployment", NAMESPACE, API, {"spec": {"replicas": 5}})
    cluster.delete("Service", NAMESPACE, API)
    drift = {
        (each.kind, each.difference, each.fields) for each in status(cluster, with_password("three")).drift
    }
    assert drift == {("Deployment", "changed", ("spec.replicas",)), ("Service", "missing", ())}

    assert names(go(cluster, with_password("three"))) == [], "no commit changed anything"
    before = secrets(cluster)
    assert names(go(cluster, with_password("three"), repair=True)) == ["keystone-server roll"]
    assert status(cluster, with_password("three")).drift == ()
    assert secrets(cluster) == before, "the way back is still there"
    assert names(rollback(cluster, progress=print, timing=QUICK))[-1] == "keystone-server roll"
    assert "connection = two" in str(values)


def test_a_pod_that_cannot_start_fails_with_its_reason_and_the_next_deploy_mends(cluster: Cluster) -> None:
    go(cluster, overlay())
    with pytest.raises(OperatorError, match="ImagePullBackOff: no such image"):
        go(cluster, overlay(tag="broken"))
    record = Records(cluster).latest()
    assert record and record.state == "failed" and record.steps[0].result == "failed"
    assert names(go(cluster, overlay())) == ["keystone-server roll"]


def test_a_change_that_the_api_takes_only_as_a_new_object_can_fail_and_be_taken_back(
    cluster: Cluster,
) -> None:
    def database(peers: bool, tag: str) -> Overlay:
        pillar = with_release("epoxy", "bbbbbbbbbbbb")
        workload = pillar["control"]["workload"]["mariadb-server"]
        if not peers:
            del workload["peers"]  # its governing Service has another name: a StatefulSet cannot change that
        pillar["images"]["mariadb:server"]["reference"] = f"r/mariadb-server:{tag}"
        del pillar["control"]["workload"][API], pillar["control"]["workload"]["agent-node"]
        return overlay_of(pillar, lambda value: value)

    def governing() -> str:
        live = cluster.get("StatefulSet", NAMESPACE, "mariadb-server")
        assert live
        return str(live["spec"]["serviceName"])

    go(cluster, database(peers=False, tag="good"))
    with pytest.raises(OperatorError, match="no such image"):
        go(cluster, database(peers=True, tag="broken"))
    assert governing() == "mariadb-server-peers"
    go(cluster, database(peers=False, tag="good"))
    assert governing() == "mariadb-server"


def test_a_failed_job_is_named_and_runs_again(cluster: Cluster) -> None:
    failing = {"db-sync": {"phase": "bootstrap", "order": 20, "command": "fail", "patch": {}}}
    with pytest.raises(OperatorError, match=r"Job keystone-server-db-sync-[0-9a-f]{8}"):
        deploy(
            cluster,
            overlay(job=failing),
            revision="abc",
            progress=print,
            timing=Timing(healthy=60, job=5, hopeless=2, poll=0.1),
        )
    assert cluster.get("Deployment", NAMESPACE, API) is None
    record = go(cluster, overlay())
    assert names(record)[-1] == "keystone-server start"


def test_two_at_once_are_refused_and_a_dead_one_is_taken_over(cluster: Cluster) -> None:
    go(cluster, overlay())
    with Lease(cluster), pytest.raises(OperatorError, match="another rollout is running"):
        go(cluster, overlay(tag="cccccccccccc"))
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    with Lease(cluster):
        live = cluster.get("Lease", NAMESPACE, LEASE_NAME)
        assert live
    holder = live["spec"]["holderIdentity"].rsplit(" ", 1)[0]
    cluster.create(
        {
            **{key: live[key] for key in ("apiVersion", "kind")},
            "metadata": {"name": LEASE_NAME, "namespace": NAMESPACE},
            "spec": {**live["spec"], "holderIdentity": f"{holder} {dead.stdout.strip()}"},
        }
    )
    assert names(go(cluster, overlay(tag="cccccccccccc"))) == ["keystone-server roll"]


def test_killed_at_any_moment_and_run_again_completes(server: ApiServer, cluster: Cluster) -> None:
    program = [sys.executable, "-m", "tests.e2e.test_rollout", str(server.kubeconfig)]
    for release, moments in (("epoxy", (1.0, 1.5, 2.0, 2.5, 3.0)), ("gazpacho", (1.0, 1.5, 2.0, 2.5, 3.0))):
        for moment in moments:
            process = subprocess.Popen([*program, release])
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*program, release], check=True)
        assert release in image_of(cluster)
        assert all(each.result == "done" for each in Records(cluster).latest().steps)  # type: ignore[union-attr]
    assert len(Records(cluster).identities()) == 2  # each was one rollout, gone on with
    jobs = cluster.list("Job", NAMESPACE, {"ostack-k8s.io/workload": API})
    assert sorted(item["metadata"]["name"].rsplit("-", 1)[0].removeprefix(f"{API}-") for item in jobs) == [
        "check",
        "database",
        "db-sync",
        "expand",
        "migrate",
        "snapshot",
    ]


if __name__ == "__main__":
    go(Cluster.connect(Path(sys.argv[1])), overlay(sys.argv[2]))
