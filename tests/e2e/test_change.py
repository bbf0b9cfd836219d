"""The life of a change, for real: one line of YAML to a rolled service, killed and gone on with, pushed, upgraded.

The tests of this file tell one story, in order, on the machine of the lab: deploy, an option, replicas, a certificate,
kill -9, a push that is refused, a push that upgrades the release, finalize. The API is asked all the while.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from reclass_model.endpoints import authority
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

from .conftest import Cloud, say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(5400)]

OSTACK = Path(sys.executable).with_name("ostack-k8s")
RATE = 12.0  #: requests a second that the service is asked while it changes


def ostack(model: Path, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it; its stdout is for programs, its stderr is shown."""
    done = subprocess.run([OSTACK, "-C", model, *arguments], capture_output=True, text=True, check=False)
    say(f"$ ostack-k8s {' '.join(arguments)}\n{done.stderr}")
    if ok:
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def answer(model: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ostack(model, *arguments, "-o", "json").stdout)
    return found


@dataclass
class Change:
    """The deployed cloud, and what the story needs to act on it."""

    cloud: Cloud
    smoke: dict[str, Any]  #: kubernetes:control:smoke, revealed
    trust: ssl.SSLContext  #: of the model's CA

    @property
    def model(self) -> Path:
        return self.cloud.state.model

    @property
    def repository(self) -> Repository:
        return Repository(self.model)

    def on(self, *command: str) -> subprocess.CompletedProcess[str]:
        name = f"e2e-{self.cloud.node.partition('.')[0]}"
        return subprocess.run(["docker", "exec", name, *command], capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str) -> str:
        done = self.on("kubectl", "--kubeconfig", "/etc/kubernetes/admin.kubeconfig", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def replace(self, file: str, before: str, after: str, message: str) -> None:
        """Edit one value of the cluster level and commit it, as a person does."""
        path = self.repository.cluster_dir / file
        text = path.read_text()
        assert before in text, f"{file} has no {before!r}"
        path.write_text(text.replace(before, after))
        self.repository.commit(message, [path])

    def token(self) -> dict[str, Any]:
        """A token, issued now through the service's public address."""
        check = self.smoke["keystone-token"]
        request = urllib.request.Request(check["url"], json.dumps(check["body"]).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30, context=self.trust) as response:
            found: dict[str, Any] = json.load(response)["token"]
        return found

    def serial(self) -> str:
        """Of the certificate that clients are shown."""
        url = urlsplit(self.smoke["keystone-version"]["url"])
        with (
            socket.create_connection((url.hostname, url.port), 10) as connection,
            self.trust.wrap_socket(connection, server_hostname=url.hostname) as shown,
        ):
            found = shown.getpeercert()
        assert found
        return str(found["serialNumber"])

    def expect_lifetime(self, seconds: int) -> None:
        """Tokens live that long, at the latest when the pods that were told to end have ended."""
        deadline = time.monotonic() + 30
        while (found := _lifetime(self.token())) != seconds:
            assert time.monotonic() < deadline, f"tokens live {found} s, not {seconds}"
            time.sleep(1)

    def running(self) -> list[str]:
        """Images of the pods of keystone that run and are not on their way out."""
        pods = json.loads(
            self.kubectl("-n", "openstack", "get", "pod", "-l", "app=keystone-server", "-o", "json")
        )
        return [
            pod["spec"]["containers"][0]["image"]
            for pod in pods["items"]
            if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
        ]

    @contextmanager
    def asked(self) -> Iterator[list[str]]:
        """Ask for the version and for tokens all the while; what failed."""
        failures: list[str] = []
        asked = 0
        ended = threading.Event()

        def ask(number: int) -> None:
            nonlocal asked
            while not ended.is_set():
                started = time.monotonic()
                asked += 1
                try:
                    if asked % 4:
                        with urllib.request.urlopen(
                            self.smoke["keystone-version"]["url"], timeout=20, context=self.trust
                        ) as response:
                            response.read()
                    else:
                        self.token()
                except (OSError, urllib.error.URLError) as error:
                    failures.append(f"{time.strftime('%X')} {error!r}")
                ended.wait(max(0.0, 3 / RATE - (time.monotonic() - started)))

        threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(3)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            yield failures
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - begun
            say(f"asked {asked} times, {asked / seconds:.1f}/s; {len(failures)} failed {failures[:3]}")


@pytest.fixture(scope="module")
def change(cloud: Cloud) -> Change:
    """`lab up` with the services, by the command line."""
    bundle = ["--bundle", str(cloud.bundle)] if cloud.bundle else []
    found = answer(cloud.source.root, "lab", "up", *bundle)
    assert [node["state"] for node in found["nodes"]] == ["running"]
    repository = Repository(cloud.state.model)
    control = Inventory(repository).config_node().parameters
    smoke = Keyring.find(repository).reveal(get(control, "kubernetes:control:smoke"))
    trust = ssl.create_default_context(cadata=authority(control))
    return Change(cloud, smoke, trust)


def test_the_service_answers_inside_and_outside(change: Change) -> None:
    checks = answer(change.model, "smoke")["checks"]
    assert checks and {check["result"] for check in checks} == {"ok"}
    inside = (
        "import urllib.request as u;"
        "print(u.urlopen('http://keystone-server.openstack.svc.cluster.local:5000/v3').status)"
    )
    out = change.kubectl(
        "-n", "openstack", "exec", "deployment/keystone-server", "--", "python3", "-c", inside
    )
    assert out.strip() == "200"
    assert " Ready " in change.kubectl("get", "nodes")


def test_the_machine_is_as_the_model_says(change: Change) -> None:
    """Also after the services run on it: the states have nothing to do, and say so."""
    for test in ("test=True", "test=False"):
        states = json.loads(change.on("salt-call", "--local", "--out=json", "state.apply", test).stdout)[
            "local"
        ]
        assert [
            name for name, state in states.items() if state["changes"] or state["result"] is not True
        ] == []


def test_changing_nothing_plans_nothing(change: Change) -> None:
    plan = answer(change.model, "plan", "--detailed-exitcode")
    assert not any(plan[part] for part in ("values", "images", "objects", "pods", "nodes", "steps"))
    started = time.monotonic()
    built = answer(change.model, "images", "build", "--push")
    assert (built["built"], built["baked"], len(built["reused"])) == ([], [], 4)
    assert time.monotonic() - started < 5


def test_a_static_option_bakes_one_image_and_rolls_one_deployment(change: Change) -> None:
    before = change.running()
    change.replace("overlay/keystone.yml", "expiration: 3600", "expiration: 7200", "Tokens live two hours")
    plan = answer(change.model, "plan")
    (value,) = [each for each in plan["values"] if not each["derived"]]
    assert (value["path"], value["before"], value["after"]) == (
        "keystone:server:token:expiration",
        3600,
        7200,
    )
    assert value["file"].endswith("overlay/keystone.yml") and value["line"]
    assert [(image["name"], image["action"]) for image in plan["images"]] == [("keystone-server", "bake")]
    assert [(each["kind"], each["name"]) for each in plan["objects"]] == [("Deployment", "keystone-server")]
    assert [pod["name"] for pod in plan["pods"]] == ["keystone-server"]
    assert (plan["nodes"], plan["impact"]) == ([], "none")

    started = time.monotonic()
    built = answer(change.model, "images", "build", "--push")
    seconds = time.monotonic() - started
    assert (built["built"], len(built["baked"]), len(built["reused"])) == ([], 1, 3)
    assert seconds < 10, f"baked in {seconds:.1f} s"

    with change.asked() as failures:
        report = answer(change.model, "deploy", "--plan", plan["digest"], "--yes")
    assert failures == []
    assert {endpoint["failed"] for endpoint in report["downtime"].values()} == {0}
    assert change.running() != before
    change.expect_lifetime(7200)

    with change.asked() as failures:
        answer(change.model, "rollback", "--yes")
    assert failures == []
    assert change.running() == before
    change.expect_lifetime(3600)


def test_replicas_touch_no_image(change: Change) -> None:
    answer(change.model, "deploy", "--yes")  # forward again after the way back
    change.replace("init.yml", "control_replicas: 1", "control_replicas: 2", "Two of each")
    plan = answer(change.model, "plan")
    assert (plan["images"], plan["nodes"]) == ([], [])
    assert all(pod["action"] == "scale" for pod in plan["pods"]), plan["pods"]
    with change.asked() as failures:
        answer(change.model, "deploy", "--yes")
    assert failures == [] and len(change.running()) == 2


def test_a_new_certificate_rolls_the_edge_alone(change: Change) -> None:
    before = change.serial()
    ostack(change.model, "pki", "rotate", "edge")
    change.repository.commit("Another certificate", [change.repository.pki_dir])
    plan = answer(change.model, "plan")
    assert ([pod["name"] for pod in plan["pods"]], plan["images"], plan["nodes"]) == (
        ["haproxy-edge"],
        [],
        [],
    )
    with change.asked() as failures:
        report = answer(change.model, "deploy", "--plan", plan["digest"], "--yes")
    assert failures == []
    assert {endpoint["failed"] for endpoint in report["downtime"].values()} == {0}
    assert change.serial() != before


def test_a_killed_deploy_goes_on(change: Change) -> None:
    generator = random.Random(20261123)
    for number in range(3):
        change.replace(
            "overlay/keystone.yml",
            "expiration: 7200" if number % 2 == 0 else "expiration: 5400",
            "expiration: 5400" if number % 2 == 0 else "expiration: 7200",
            f"Change {number}",
        )
        answer(change.model, "images", "build", "--push")
        reviewed = answer(change.model, "plan")["digest"]
        with change.asked() as failures:
            _killed(change.model, generator.uniform(0.5, 9.0), "deploy", "--yes")
            plan = answer(change.model, "plan")  # the reviewed one, until the rollout has come to its end
            assert plan["digest"] == reviewed or not plan["steps"]
            report = answer(change.model, "deploy", "--plan", plan["digest"], "--yes")
        assert failures == []
        assert all(step["result"] == "done" for step in report["steps"])
        assert answer(change.model, "status")["drift"] == []
        change.expect_lifetime(5400 if number % 2 == 0 else 7200)


def test_a_killed_build_goes_on(change: Change) -> None:
    generator = random.Random(20261124)
    for number in range(6):
        change.replace(
            "overlay/keystone.yml", f"expiration: {5400 + number}", f"expiration: {5401 + number}", "Again"
        )
        _killed(change.model, generator.uniform(0.05, 0.9), "images", "build", "--push")
        built = answer(change.model, "images", "build", "--push")
        assert len(built["baked"]) + len(built["reused"]) == 4
        assert all(
            image["present"] for image in answer(change.model, "images", "list", "--present")["images"]
        )


def test_the_keys_of_tokens_are_rotated(change: Change) -> None:
    """As the clock would do it: one key more, and the service takes it."""
    keys = "/srv/ostack-k8s/shared/keystone-keys/data/fernet"
    before = change.on("ls", keys).stdout.split()
    for command in (
        ("create", "job", "rotation", "--from=cronjob/keystone-rotation"),
        ("wait", "job/rotation", "--for=condition=complete", "--timeout=60s"),
        ("delete", "job", "rotation"),
    ):
        change.kubectl("-n", "openstack", *command)
    assert len(change.on("ls", keys).stdout.split()) == len(before) + 1
    change.token()


def test_a_push_that_does_not_validate_is_refused_with_its_place(change: Change) -> None:
    head = change.repository.head()
    change.replace(
        "init.yml", "openstack_version: epoxy", "openstack_version: kilo", "A release that is none"
    )
    pushed = _push(change)
    assert pushed.returncode != 0
    assert (
        "classes/cluster/e2e/init.yml:" in pushed.stderr
        and "kilo" in pushed.stderr
        and "hint:" in pushed.stderr
    )
    change.repository.git("reset", "--quiet", "--hard", head)


def test_a_push_upgrades_the_release(change: Change) -> None:
    """epoxy → gazpacho: pinned, pushed, built by the config machine; a person deploys there; finalized."""
    ostack(change.model, "images", "lock", "--release", "gazpacho")
    change.repository.commit("Pin the packages of gazpacho", [change.repository.lock_file])
    change.replace("init.yml", "openstack_version: epoxy", "openstack_version: gazpacho", "OpenStack 2026.1")
    plan = answer(change.model, "plan")
    assert [image["name"] for image in plan["images"]] == ["keystone-server"]
    phases = [step["phase"] for step in plan["steps"] if step["workload"] == "keystone-server"]
    assert phases == ["check", "snapshot", "expand", "migrate", "roll"]
    assert [step["phase"] for step in plan["finalize"]] == ["contract"]

    pushed = _push(change)
    assert pushed.returncode == 0, pushed.stderr
    revision = change.repository.head()
    assert change.on("git", "-C", "/srv/ostack-k8s/model", "rev-parse", "HEAD").stdout.strip() == revision

    before = set(change.on("ls", "/srv/ostack-k8s/reports").stdout.split())
    with change.asked() as failures:
        deployed = change.on("ostack-k8s", "-C", "/srv/ostack-k8s/model", "deploy", "--yes", "-o", "json")
    assert deployed.returncode == 0, deployed.stderr
    assert failures == []
    report = json.loads(deployed.stdout)
    assert {endpoint["failed"] for endpoint in report["downtime"].values()} == {0}
    kept = set(change.on("ls", "/srv/ostack-k8s/reports").stdout.split()) - before
    assert kept == {f"{report['rollout']}.json", f"{report['rollout']}.html"}
    assert all(":gazpacho-" in image for image in change.running())

    with change.asked() as failures:
        ended = answer(change.model, "finalize", "--yes")
    assert failures == [] and [step["phase"] for step in ended["steps"]] == ["contract"]
    refused = ostack(change.model, "rollback", "--yes", ok=False)
    assert refused.returncode == 1 and "finalize" in refused.stderr
    assert {check["result"] for check in answer(change.model, "smoke")["checks"]} == {"ok"}


def _lifetime(token: dict[str, Any]) -> int:
    """Seconds from issue to expiry, as the service itself says."""
    ends, begins = (time.strptime(token[key], "%Y-%m-%dT%H:%M:%S.%fZ") for key in ("expires_at", "issued_at"))
    return int(time.mktime(ends) - time.mktime(begins))


def _killed(model: Path, seconds: float, *arguments: str) -> None:
    """Start a command and kill it, unless it ends before."""
    process = subprocess.Popen(
        [OSTACK, "-C", model, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    say(f"ostack-k8s {' '.join(arguments)}: killed after {seconds:.2f} s")


def _push(change: Change) -> subprocess.CompletedProcess[str]:
    """`git push` to the config machine's bare repository (over `docker exec`, where production has ssh)."""
    name = f"e2e-{change.cloud.node.partition('.')[0]}"
    done = subprocess.run(
        ["git", "push", f"ext::docker exec -i {name} %S /srv/ostack-k8s/model.git", "HEAD:main"],
        cwd=change.model,
        env={**os.environ, "GIT_ALLOW_PROTOCOL": "ext"},
        capture_output=True,
        text=True,
        check=False,
    )
    say(done.stderr)
    return done
