"""The commands of the library for real: containers from rendered pods, as fixed users, on read-only roots.

The database, the cache and the identity service are set up by their bootstrap Jobs, serve a token, and are upgraded by
the Jobs of the next release while the old one serves. Kubernetes is left out: a pod's description becomes `docker run`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from kubernetes_formula.manifests import Image, Overlay, render
from openstack_images.definition import images
from openstack_images.load import load
from openstack_images.lock import Lock, lock
from openstack_images.package import Builder
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

    def start(self, overlay: Overlay, workload: str) -> str:
        """Run a workload's pod; its address. One that runs under this name is stopped first."""
        name = f"{self.network}-{workload}"
        if name in self.running:
            docker("rm", "--force", "--volumes", name)
        else:
            self.running.append(name)
        pods = [
            item["spec"]["template"]["spec"]
            for item in overlay.objects
            if item["kind"] in ("Deployment", "StatefulSet") and item["metadata"]["name"] == workload
        ]
        alias = f"{workload}.{SERVICE_DOMAIN}"
        docker(
            "run",
            "--detach",
            "--name",
            name,
            "--network-alias",
            alias,
            *self._pod(overlay, workload, pods[0]),
        )
        return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)

    def run(self, overlay: Overlay, phase: str) -> list[str]:
        """Run the Jobs of a phase, in order; their names."""
        jobs = overlay.jobs.get(phase, ())
        for job in jobs:
            docker("run", "--rm", *self._pod(overlay, job.name, job.object["spec"]["template"]["spec"]))
        return [job.name for job in jobs]

    def _pod(self, overlay: Overlay, name: str, pod: dict[str, Any]) -> list[str]:
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
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            value = secrets[reference["name"]][reference["key"]] if reference else variable["value"]
            flags += ["--env", f"{variable['name']}={value}"]
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


def test_the_services_start_serve_and_are_upgraded(tmp_path: Path, host: Host) -> None:
    answers = Answers.of({"cluster_name": "services", "all_in_one": True})
    repository = Repository(generate.create(answers, tmp_path / "model", tmp_path / "identity", print).path)
    keyring = Keyring(tmp_path / "identity" / "operator.age")
    init = repository.cluster_dir / "init.yml"

    parameters = {}
    for release in ("epoxy", "gazpacho"):
        init.write_text(init.read_text().replace("openstack_version: epoxy", f"openstack_version: {release}"))
        parameters[release] = Inventory(repository).config_node().parameters
    found = lock(
        {name: images(pillar, Lock(), "none:1") for name, pillar in parameters.items()}, Builder(), print
    )
    overlays = {}
    for release, pillar in parameters.items():
        baked = images(pillar, found, "none:1")
        load(baked, Builder(), print)
        described = {
            role: Image(image.reference, image.release, asdict(image.user) if image.user else None)
            for role, image in baked.items()
        }
        overlays[release] = render(get(pillar, "kubernetes:control"), described, keyring.reveal)
    token = keyring.reveal(get(parameters["epoxy"], "kubernetes:control:smoke:keystone-token"))
    old, new = overlays["epoxy"], overlays["gazpacho"]

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
    assert host.run(old, "bootstrap") == host.run(old, "bootstrap")  # twice: nothing minds
    address = serve(old, "keystone-server", 5000)
    until(
        lambda: requests.get(f"http://{address}:5000/healthcheck", timeout=5).status_code == 200, "keystone"
    )
    assert issue(address) == token["status"]

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
