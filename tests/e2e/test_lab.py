"""The machine of the lab, for real: states that tell the truth, a node that is Ready, faults it survives."""

from __future__ import annotations

import stat
import subprocess

import pytest

from kubernetes_formula import lab
from reclass_model import pki
from reclass_model.issuer import STEPS
from reclass_model.secrets import Keyring

from .conftest import Cloud, say, within

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


def inside(cloud: Cloud, command: str) -> subprocess.CompletedProcess[str]:
    name = f"e2e-{cloud.node.partition('.')[0]}"
    return subprocess.run(
        ["docker", "exec", name, "sh", "-c", command], capture_output=True, text=True, check=False
    )


def kubectl(cloud: Cloud, arguments: str) -> str:
    return inside(cloud, f"kubectl --kubeconfig /etc/kubernetes/admin.kubeconfig {arguments}").stdout


def ready(cloud: Cloud) -> bool:
    query = """get node -o jsonpath='{.items[*].status.conditions[?(@.type=="Ready")].status}'"""
    return kubectl(cloud, query) == "True"


def test_the_node_is_ready_and_its_dns_answers(cloud: Cloud) -> None:
    within(60, lambda: ready(cloud))
    query = "-n kube-system get deployment coredns -o jsonpath={.status.availableReplicas}"
    within(120, lambda: kubectl(cloud, query) not in ("", "0"))


def test_the_kubeconfig_is_private_and_serves_this_machine(cloud: Cloud) -> None:
    assert stat.S_IMODE(cloud.state.kubeconfig.stat().st_mode) == 0o600
    assert cloud.state.nodes[0].address in cloud.state.kubeconfig.read_text()


def test_a_second_up_does_nothing_anew(cloud: Cloud) -> None:
    lines: list[str] = []
    head = cloud.model.head()
    lab.up(cloud.source, bundle=cloud.bundle, progress=lines.append)
    assert f"{cloud.node} ({cloud.state.nodes[0].address}): running" in lines
    assert any(": all its states: " in line and " 0 changed, 0 failed" in line for line in lines)
    assert cloud.model.head() == head


def test_a_power_cut_heals_by_a_restart(cloud: Cloud) -> None:
    assert lab.fault("kill", cloud.source, cloud.node).state == "exited"
    assert lab.fault("restart", cloud.source, cloud.node).state == "running"
    within(60, lambda: kubectl(cloud, "get --raw /readyz") == "ok", "API after a power cut")
    within(60, lambda: ready(cloud))


def test_a_partition_heals_with_the_same_address(cloud: Cloud) -> None:
    assert lab.fault("partition", cloud.source, cloud.node).state == "partitioned"
    assert lab.fault("restart", cloud.source, cloud.node).state == "running"
    address = cloud.state.nodes[0].address
    assert address in inside(cloud, "ip -o address").stdout
    within(60, lambda: kubectl(cloud, "get --raw /readyz") == "ok")


def test_exec_returns_the_commands_exit_code(cloud: Cloud) -> None:
    assert lab.execute(cloud.source, cloud.node.partition(".")[0], ["sh", "-c", "exit 7"]) == 7


@pytest.mark.full
def test_the_clusters_authority_is_replaced_while_all_goes_on(cloud: Cloud) -> None:
    """Three steps, each brought to the machine before the next; nothing is out of order at any of them."""
    pki_files, client = "/etc/kubernetes/pki", "/var/lib/kubelet/pki/kubelet-client-current.pem"
    kubelet = inside(cloud, f"openssl x509 -in {client} -noout -serial").stdout
    for step, trusted in zip(STEPS, ("2", "2", "1"), strict=True):
        done, _ = pki.rotate_authority(cloud.model, Keyring.find(cloud.model), "kubernetes")
        assert done == step
        cloud.model.commit(step.name, [cloud.model.root])
        lab.up(cloud.model, bundle=cloud.bundle, progress=say)
        within(60, lambda: ready(cloud), f"ready after {step.name!r}")
        dns = "-n kube-system get deployment coredns -o jsonpath={.status.availableReplicas}"
        within(60, lambda dns=dns: kubectl(cloud, dns) not in ("", "0"), "DNS")  # type: ignore[misc]
        assert inside(cloud, f"grep -c BEGIN {pki_files}/ca.crt").stdout.strip() == trusted
        signed = inside(cloud, f"openssl verify -trusted {pki_files}/ca.signing.crt {client}")
        assert signed.returncode == 0, signed.stderr
    assert inside(cloud, f"openssl x509 -in {client} -noout -serial").stdout != kubelet
    lines: list[str] = []
    lab.up(cloud.model, bundle=cloud.bundle, progress=lines.append)
    assert any(": all its states: " in line and " 0 changed, 0 failed" in line for line in lines)
