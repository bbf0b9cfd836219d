"""The commands of the library for real: containers from rendered pods, as fixed users, on read-only roots.

The database, the cache and the identity service are set up by their bootstrap Jobs, serve a token, and are upgraded by
the Jobs of the next release while the old one serves. Kubernetes is left out: a pod's description becomes `docker run`.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from kubernetes_formula.manifests import Image, Overlay, render
from openstack_images.definition import images
from openstack_images.load import load
from openstack_images.lock import Lock
from openstack_images.package import Builder
from openstack_images.pinning import lock
from reclass_model import generate
from reclass_model.generate import Answers
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(2400)]

START_SECONDS = 90
SERVICE_DOMAIN = "openstack.svc.cluster.local"


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(
        ["/usr/bin/docker", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode().strip()


def until(answers: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if answers():
                return
        except (OSError, requests.RequestException):
            pass
        time.sleep(0.2)
    raise AssertionError(f"{what} did not answer within {START_SECONDS} s")


class Host:
    """One machine: runs the pods of an overlay as containers on a network of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.network = f"services-{uuid.uuid4().hex[:8]}"
        docker("network", "create", self.network)
        self.running: list[str] = []

    def close(self) -> None:
        for container in self.running:
            docker("rm", "--force", "--volumes", container)
        docker("network", "rm", self.network)

    def start(self, overlay: Overlay, workload: str, number: int = 0) -> str:
        """Run a workload's pod under its name in the cluster; its address. The one before is stopped first."""
        name = self.container(workload, number)
        if name in self.running:
            docker("rm", "--force", "--volumes", name)
        else:
            self.running.append(name)
        (pod,) = (
            item["spec"]["template"]
            for item in overlay.objects
            if item["kind"] in ("Deployment", "StatefulSet") and item["metadata"]["name"] == workload
        )
        domain = f"{workload}-{number}.{workload}-peers.{SERVICE_DOMAIN}"
        names = ["--hostname", f"{workload}-{number}", "--network-alias", domain]
        names += ["--network-alias", f"{workload}.{SERVICE_DOMAIN}"]
        docker(
            "run",
            "--detach",
            "--name",
            name,
            *names,
            *self._pod(overlay, f"{workload}-{number}", pod, domain),
        )
        return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)

    def container(self, workload: str, number: int = 0) -> str:
        """The name of a pod's container."""
        return f"{self.network}-{workload}-{number}"

    def execute(self, workload: str, number: int, *command: str) -> str:
        """What a command in a pod prints."""
        return docker("exec", self.container(workload, number), *command)

    def run(self, overlay: Overlay, phase: str, workload: str = "", **told: str) -> list[str]:
        """Run the Jobs of a phase, in order, with variables set; their names."""
        jobs = [job for job in overlay.jobs.get(phase, ()) if workload in ("", job.workload)]
        for job in jobs:
            pod = job.object["spec"]["template"]
            docker("run", "--rm", *self._pod(overlay, job.name, pod, "localhost", told))
        return [job.name for job in jobs]

    def _pod(
        self,
        overlay: Overlay,
        name: str,
        template: dict[str, Any],
        address: str,
        told: Mapping[str, str] | None = None,
    ) -> list[str]:
        pod, labels = template["spec"], template["metadata"]["labels"]
        fields = {
            "status.podIP": address,
            "metadata.labels['app.kubernetes.io/name']": labels["app.kubernetes.io/name"],
        }
        (container,) = pod["containers"]
        user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
        assert user and container["securityContext"]["readOnlyRootFilesystem"]
        flags = ["--network", self.network, "--user", f"{user}:{group}", "--read-only", "--cap-drop", "ALL"]
        flags += ["--security-opt", "no-new-privileges"]
        secrets = {
            item["metadata"]["name"]: item["stringData"]
            for item in overlay.objects
            if item["kind"] == "Secret"
        }
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if reference := source.get("secretKeyRef"):
                value = secrets[reference["name"]][reference["key"]]
            elif field := source.get("fieldRef"):
                value = fields[field["fieldPath"]]
            else:
                value = variable["value"]
            flags += ["--env", f"{variable['name']}={(told or {}).get(variable['name'], value)}"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume = volumes.get(mount["name"], {})
            if "emptyDir" in volume:
                flags += ["--tmpfs", f"{mount['mountPath']}:uid={user},gid={group},mode=0777"]
                continue
            if "secret" in volume:
                text = secrets[volume["secret"]["secretName"]][mount["subPath"]]
                source = self.place / f"{volume['secret']['secretName']}-{mount['subPath']}"
                source.write_text(text)
                source.chmod(0o440)
                os.chown(source, 0, group)
            else:
                claim = volume.get("persistentVolumeClaim", {}).get("claimName", f"{name}-{mount['name']}")
                source = self.place / claim
                source.mkdir(mode=0o700, exist_ok=True)
                os.chown(source, user, group)
            flags += ["--volume", f"{source}:{mount['mountPath']}"]
        return [*flags, container["image"], *container.get("args", [])]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    machine = Host(tmp_path / "host")
    machine.place.mkdir()
    yield machine
    machine.close()


@pytest.fixture
def model(tmp_path: Path) -> Repository:
    """A cloud of one machine, with a message queue."""
    answers = Answers.of({"cluster_name": "services", "all_in_one": True, "services": "keystone,rabbitmq"})
    return Repository(generate.create(answers, tmp_path / "model", tmp_path / "identity", print).path)


def declare(model: Repository, needs: dict[str, Any]) -> None:
    """Write what a service needs into the model, in a class of its own."""
    (model.cluster_dir / "overlay" / "ledger.yml").write_text(json.dumps({"parameters": needs}))
    included = model.cluster_dir / "overlay" / "init.yml"
    if "overlay.ledger" not in included.read_text():
        own = "- cluster.services.overlay.ledger\n- cluster.services.secrets\n"
        included.write_text(included.read_text().replace("- cluster.services.secrets\n", own))


def overlay_of(parameters: dict[str, Any], found: Lock, keyring: Keyring) -> Overlay:
    """The overlay of a pillar, its images baked on the host."""
    baked = images(parameters, found, "none:1")
    load(baked, Builder(), print)
    described = {
        role: Image(image.reference, image.release, asdict(image.user) if image.user else None)
        for role, image in baked.items()
    }
    return render(get(parameters, "kubernetes:control"), described, keyring.reveal)


def locked(*pillars: dict[str, Any]) -> Lock:
    return lock(
        {str(number): images(pillar, Lock(), "none:1") for number, pillar in enumerate(pillars)},
        Builder(),
        print,
    )


def test_the_services_start_serve_and_are_upgraded(tmp_path: Path, model: Repository, host: Host) -> None:
    keyring = Keyring(tmp_path / "identity" / "operator.age")
    init = model.cluster_dir / "init.yml"
    parameters = {}
    for release in ("epoxy", "gazpacho"):
        init.write_text(init.read_text().replace("openstack_version: epoxy", f"openstack_version: {release}"))
        parameters[release] = Inventory(model).config_node().parameters
    found = locked(*parameters.values())
    old, new = (overlay_of(pillar, found, keyring) for pillar in parameters.values())
    token = keyring.reveal(get(parameters["epoxy"], "kubernetes:control:smoke:keystone-token"))

    def serve(overlay: Overlay, workload: str, port: int) -> str:
        address = host.start(overlay, workload)
        until(lambda: socket.create_connection((address, port), 1).close() is None, workload)
        return address

    def issue(address: str) -> int:
        return requests.post(
            f"http://{address}:5000/v3/auth/tokens", json=token["body"], timeout=30
        ).status_code

    serve(old, "mariadb-server", 3306)
    serve(old, "memcached-server", 11211)
    assert host.run(old, "configure", "mariadb-server") == ["users"]
    assert host.run(old, "bootstrap") == host.run(old, "bootstrap")  # twice: nothing minds
    address = serve(old, "keystone-server", 5000)
    until(
        lambda: requests.get(f"http://{address}:5000/healthcheck", timeout=5).status_code == 200, "keystone"
    )
    assert issue(address) == token["status"]
    assert (
        host.run(old, "configure", "keystone-server")
        == host.run(old, "configure", "keystone-server")
        == ["identity"]
    )

    for phase in ("check", "snapshot", "expand", "migrate"):
        assert host.run(new, phase)
        assert issue(address) == token["status"], f"the old release does not serve after {phase}"
    (snapshot,) = host.place.glob("*snapshot*/keystone-*.sql")
    assert "CREATE TABLE `user`" in snapshot.read_text()
    address = serve(new, "keystone-server", 5000)
    until(lambda: issue(address) == token["status"], "the new release")
    host.run(new, "contract")
    assert issue(address) == token["status"]

    serve(new, "mariadb-server", 3306)  # a database that comes back with what it had
    until(lambda: issue(address) == token["status"], "keystone after its database's restart")


DATABASE, QUEUE = "mariadb-server", "rabbitmq-server"
#: What a service says that it needs.
LEDGER: dict[str, Any] = {
    "mariadb": {
        "server": {"user": {"ledger": {"password": "first", "database": {"ledger": {}, "ledger_old": {}}}}}
    },
    "rabbitmq": {"server": {"user": {"ledger": {"password": "second"}}}},
    "keystone": {
        "server": {
            "user": {"ledger": {"password": "third", "role": {"service": {}}}},
            "catalog": {"ledger": {"type": "ledger", "url": {"public": "http://10.10.0.10:30999"}}},
        }
    },
}
MEMBERS = range(3)
#: A durable, replicated queue: `put` waits for the majority to have a message, `take` empties it.
CLIENT = """
import sys
import kombu
url, action, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with kombu.Connection(url, heartbeat=10) as connection:
    connection.ensure_connection(max_retries=20, interval_start=0.5, interval_max=1)
    channel = connection.channel()
    queue = kombu.Queue("e2e", channel=channel, durable=True, queue_arguments={"x-queue-type": "quorum"})
    queue.declare()
    if action == "put":
        channel.confirm_select()
        producer = kombu.Producer(channel)
        for number in range(count):
            producer.publish(str(number), routing_key="e2e", delivery_mode=2)
    found = 0
    while action == "take" and (message := queue.get()):
        message.ack()
        found += 1
    print(found or count)
"""


def test_a_quorum_outlives_a_member_and_a_whole_outage(tmp_path: Path, model: Repository, host: Host) -> None:
    """Three members of the database and of the message queue: one is killed, then all; what was acknowledged stays."""
    for name in ("mariadb", "rabbitmq"):
        own = model.cluster_dir / "overlay" / f"{name}.yml"
        own.write_text(own.read_text().replace("replicas: 1 ", "replicas: 3 "))
    declare(model, LEDGER)
    keyring = Keyring(tmp_path / "identity" / "operator.age")
    pillar = Inventory(model).config_node().parameters
    found = locked(pillar)
    overlay = overlay_of(pillar, found, keyring)

    def sql(number: int, text: str, password: str = "first", user: str = "ledger") -> str:
        command = ["mariadb", "--host=127.0.0.1", f"--user={user}", f"--password={password}", "--batch"]
        return host.execute(DATABASE, number, *command, "--skip-column-names", "--execute", text)

    def ready(number: int) -> bool:
        done = subprocess.run(
            ["/usr/bin/docker", "exec", host.container(DATABASE, number), "database-ready"], check=False
        )
        return done.returncode == 0

    def all_ready(*numbers: int) -> float:
        start = time.monotonic()
        until(lambda: all(ready(number) for number in numbers), "the database")
        return time.monotonic() - start

    for number in MEMBERS:
        host.start(overlay, DATABASE, number)
    print(f"three members of the database form in {all_ready(*MEMBERS):.1f} s")
    host.run(overlay, "configure", DATABASE)
    sql(0, "CREATE TABLE ledger.entry (number INT PRIMARY KEY)")
    sql(2, "INSERT INTO ledger.entry VALUES (1)")
    assert sql(1, "SELECT number FROM ledger.entry") == "1"

    docker("kill", host.container(DATABASE, 0))
    start = time.monotonic()
    until(lambda: sql(1, "INSERT IGNORE INTO ledger.entry VALUES (2)") == "", "two of three")
    print(f"writes go on {time.monotonic() - start:.1f} s after one was killed")
    assert sql(2, "SELECT COUNT(*) FROM ledger.entry") == "2"
    docker("start", host.container(DATABASE, 0))
    print(f"it is back after {all_ready(0):.1f} s")
    assert sql(0, "SELECT COUNT(*) FROM ledger.entry") == "2"

    # A whole outage: the one with the newest data begins, whichever starts first.
    docker("stop", "--time", "60", host.container(DATABASE, 0))
    sql(1, "INSERT INTO ledger.entry VALUES (3)")
    for number in (1, 2):
        docker("kill", host.container(DATABASE, number))
    docker("start", host.container(DATABASE, 0))
    time.sleep(5)
    assert not ready(0), "the oldest member must wait for the others"
    for number in (1, 2):
        docker("start", host.container(DATABASE, number))
    print(f"a whole outage ends by itself after {all_ready(*MEMBERS):.1f} s")
    assert {sql(number, "SELECT COUNT(*) FROM ledger.entry") for number in MEMBERS} == {"3"}

    # A whole outage, and one member never comes back: a person decides.
    for number in MEMBERS:
        docker("kill", host.container(DATABASE, number))
    for number in (0, 1):
        docker("start", host.container(DATABASE, number))
    time.sleep(5)
    assert not ready(0) and not ready(1)
    host.execute(DATABASE, 1, "database-begin")
    print(f"two members serve {all_ready(0, 1):.1f} s after database-begin")
    assert sql(0, "SELECT COUNT(*) FROM ledger.entry") == "3"

    # A snapshot, and back.
    snapshot = {"DATABASE_USER": "ledger"}
    host.run(overlay, "snapshot", "keystone-server", **snapshot)
    (file,) = host.place.glob("*/ledger-*.sql")
    sql(0, "DELETE FROM ledger.entry; CREATE TABLE ledger.later (number INT)")
    (host.place / "mariadb-server-restore-dump").mkdir(mode=0o755)
    (host.place / "mariadb-server-restore-dump" / file.name).write_text(file.read_text())
    host.run(overlay, "manual", DATABASE, SNAPSHOT=file.name)
    assert sql(1, "SELECT COUNT(*) FROM ledger.entry; SHOW TABLES FROM ledger") == "3\nentry"

    # A password that changes in the model.
    changed = copy.deepcopy(LEDGER)
    changed["mariadb"]["server"]["user"]["ledger"]["password"] = "fourth"
    changed["rabbitmq"]["server"]["user"]["ledger"]["password"] = "fifth"
    declare(model, changed)
    later = overlay_of(Inventory(model).config_node().parameters, found, keyring)
    host.run(later, "configure", DATABASE)
    assert sql(0, "SELECT COUNT(*) FROM ledger.entry", "fourth") == "3"
    with pytest.raises(AssertionError, match="Access denied"):
        sql(0, "SELECT 1", "first")

    # The message queue.
    start = time.monotonic()
    addresses = [host.start(overlay, QUEUE, number) for number in MEMBERS]
    for address in addresses:
        until(lambda: socket.create_connection((address, 5672), 1).close() is None, "the message queue")  # noqa: B023
    print(f"three nodes of the message queue form in {time.monotonic() - start:.1f} s")
    assert host.run(overlay, "configure", QUEUE) == ["users"]
    python = overlay.workloads["keystone-server"].image
    (host.place / "client.py").write_text(CLIENT)

    password = "second"

    def queue(action: str, count: int, *numbers: int) -> str:
        urls = [
            f"amqp://ledger:{password}@{QUEUE}-{each}.{QUEUE}-peers.{SERVICE_DOMAIN}/ledger"
            for each in numbers
        ]
        volume = f"{host.place}/client.py:/client.py:ro"
        command = ["python3", "/client.py", ";".join(urls), action, str(count)]
        return docker(
            "run", "--rm", "--network", host.network, "--volume", volume, "--entrypoint", "", python, *command
        )

    assert queue("put", 500, 0) == "500"
    host.run(later, "configure", QUEUE)
    password = "fifth"
    docker("kill", host.container(QUEUE, 0))
    start = time.monotonic()
    assert queue("put", 500, 1, 2) == "500"
    print(f"500 more messages {time.monotonic() - start:.1f} s after a node was killed")
    for number in (1, 2):
        docker("kill", host.container(QUEUE, number))
    start = time.monotonic()
    for number in (0, 1):  # the third never comes back
        docker("start", host.container(QUEUE, number))
    assert queue("take", 0, 0, 1) == "1000"
    print(f"all 1000 messages are there {time.monotonic() - start:.1f} s after a whole outage")
