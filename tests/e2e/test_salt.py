"""The Salt master of the lab, for real: strangers are refused, the machines are fit, a failure is named."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from .conftest import Cloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

#: What a minion that lies about its name would do: authenticated as itself, it asks for the pillar of another machine.
ASK = """
import sys, salt.channel.client, salt.config
options = salt.config.minion_config("/etc/salt/minion")
options["master_uri"] = f"tcp://{options['master']}:{options['master_port']}"
load = {"cmd": "_pillar", "id": sys.argv[1], "grains": {"id": sys.argv[1]}, "saltenv": "base", "pillarenv": None,
        "pillar_override": {}, "extra_minion_data": {}, "ver": "2"}
with salt.channel.client.ReqChannel.factory(options, crypt="aes") as channel:
    print(channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", timeout=30, tries=1)["_reclass_"]["name"])
"""


def inside(cloud: Cloud, *command: str) -> subprocess.CompletedProcess[str]:
    name = f"e2e-{cloud.node.partition('.')[0]}"
    return subprocess.run(["docker", "exec", name, *command], capture_output=True, text=True, check=False)


def test_a_minion_gets_its_own_pillar_whatever_name_it_asks_for(cloud: Cloud) -> None:
    asked = inside(cloud, "/opt/ostack-k8s/bin/python", "-c", ASK, "stranger.e2e.local")
    assert asked.stdout.strip() == str({"full": cloud.node}), asked.stderr


def test_a_machine_that_is_not_in_the_model_is_refused(cloud: Cloud) -> None:
    settings = {
        "id": "stranger.e2e.local",
        "master": cloud.state.nodes[0].address,
        "root_dir": "/tmp/stranger",
        "acceptance_wait_time": 1,
    }
    script = f"mkdir -p /tmp/stranger && echo {shlex.quote(json.dumps(settings))} > /tmp/stranger/minion"
    assert inside(cloud, "sh", "-c", script).returncode == 0
    call = inside(cloud, "timeout", "20", "salt-call", "--config-dir", "/tmp/stranger", "pillar.items")
    assert call.returncode != 0
    assert "PRIVATE KEY" not in call.stdout
    keys = json.loads(inside(cloud, "salt-key", "--out", "json", "--list", "all").stdout)
    assert keys["minions"] == [cloud.node]


def test_the_machines_are_fit_for_the_model(cloud: Cloud) -> None:
    call = "cd /srv/ostack-k8s/model && ostack-k8s validate --live -o json"
    live = json.loads(inside(cloud, "sh", "-c", call).stdout)
    assert live["errors"] == []


def test_the_machines_have_the_certificates_of_the_model(cloud: Cloud) -> None:
    done = inside(cloud, "sh", "-c", "cd /srv/ostack-k8s/model && ostack-k8s pki status --live -o json")
    assert done.returncode == 0, done.stderr
    live = {row["live"] for row in json.loads(done.stdout)["certificates"] if row["node"]}
    assert "the model's" in live and live <= {"the model's", None}


def test_the_orchestration_of_a_cloud_that_is_as_it_should_be_changes_nothing(cloud: Cloud) -> None:
    done = inside(cloud, "salt-run", "--out", "json", "ostack.underlay")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machines"][cloud.node]["changed"] == []


def test_a_failure_names_machine_state_and_reason(cloud: Cloud) -> None:
    break_, mend = ("mv {0} {0}.away && touch {0}", "rm {0} && mv {0}.away {0}")
    assert inside(cloud, "sh", "-c", break_.format("/etc/kubernetes/pki")).returncode == 0
    try:
        done = inside(cloud, "salt-run", "--out", "json", "ostack.underlay")
    finally:
        inside(cloud, "sh", "-c", mend.format("/etc/kubernetes/pki"))
    assert done.returncode == 1
    assert f"{cloud.node}: FAILED file.managed: /etc/kubernetes/pki/ca.crt: " in done.stderr
    said = json.loads(done.stdout)
    assert list(said["failed"]) == ["masters"]
    assert (
        "Not a directory"
        in said["machines"][cloud.node]["failed"]["file.managed: /etc/kubernetes/pki/ca.crt"]
    )
