"""A deployed cloud as the tests of every service see it: the command, its pods, its APIs as clients reach them."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reclass_model.endpoints import authority
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

from .conftest import BUNDLE, say

OSTACK = Path(sys.executable).with_name("ostack-k8s")
REQUEST_SECONDS = 60


def ostack(repository: Path, *arguments: str) -> Any:
    """The command as an operator runs it; what it prints for programs."""
    words = [OSTACK, "-C", repository, *arguments, "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    say(f"$ ostack-k8s {' '.join(arguments)}\n{done.stderr}")
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def on(machine: str, *command: str) -> str:
    """Output of a command on a machine of a lab, which is called by its container's name."""
    done = subprocess.run(["docker", "exec", machine, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def instances(machine: str) -> list[str]:
    """Process numbers of the instances that run on a machine."""
    return on(machine, "sh", "-c", "pgrep -f '^/usr/bin/qemu-system' || true").split()


def ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])


@dataclass
class Cloud:
    """The deployed cloud and its APIs."""

    model: Path
    master: str  #: the machine with `kubectl`, by its container's name
    values: dict[str, Any]
    trust: ssl.SSLContext
    token: str = ""
    made: dict[str, str] = field(default_factory=dict)

    @classmethod
    def up(cls, source: Path, master: str) -> Cloud:
        """`lab up` of an operator's repo: it ends with the checks of the smoke test."""
        bundle = ["--bundle", str(BUNDLE)] if BUNDLE else []
        derived = Repository(Path(ostack(source, "lab", "up", *bundle)["model"]))
        values = Keyring.find(derived).reveal(Inventory(derived).config_node().parameters)
        cloud = cls(derived.root, master, values, ssl.create_default_context(cadata=authority(values)))
        cloud.log_in()
        return cloud

    def kubectl(self, *arguments: str) -> str:
        return on(self.master, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.kubeconfig", *arguments)

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods of controllers (not of Jobs) by uid."""
        found = json.loads(self.kubectl("get", "pod", "--all-namespaces", "-o", "json"))["items"]
        return {
            pod["metadata"]["uid"]: pod
            for pod in found
            if pod["metadata"]["namespace"].startswith("openstack")
            and pod["metadata"]["ownerReferences"][0]["kind"] != "Job"
        }

    def not_ready(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods().values() if not ready(pod)]

    def ready_pods(self, app: str) -> int:
        return sum(ready(pod) for pod in self.pods().values() if pod["metadata"]["labels"]["app"] == app)

    def log_in(self, timeout: float = REQUEST_SECONDS) -> None:
        check = get(self.values, "kubernetes:control:smoke:keystone-token")
        request = urllib.request.Request(check["url"], json.dumps(check["body"]).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=timeout, context=self.trust) as answer:
            self.token = answer.headers["X-Subject-Token"]

    def ask(
        self,
        service: str,
        path: str,
        body: Any = None,
        method: str | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Any:
        """One request to a service's public URL."""
        url = get(self.values, f"_param:{service}_public_url") + path
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(url, data, method=method)
        request.add_header("X-Auth-Token", self.token)
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=timeout, context=self.trust) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def boot(self, name: str, hints: dict[str, Any] | None = None) -> str:
        """A new instance with an empty disk on the network `own`; its id. What it needs is made once."""
        if "image" not in self.made:
            described = {"name": "disk", "disk_format": "raw", "container_format": "bare"}
            self.made["image"] = self.ask("glance", "/v2/images", described)["id"]
            self.ask("glance", f"/v2/images/{self.made['image']}/file", bytes(512), "PUT")
            flavor = {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}
            self.made["flavor"] = self.ask("nova", "/flavors", {"flavor": flavor})["flavor"]["id"]
            network = self.ask("neutron", "/v2.0/networks", {"network": {"name": "own"}})["network"]
            self.made["network"] = network["id"]
            subnet = {"network_id": network["id"], "ip_version": 4, "cidr": "192.0.2.0/24"}
            self.ask("neutron", "/v2.0/subnets", {"subnet": subnet})
        server = {
            "name": name,
            "imageRef": self.made["image"],
            "flavorRef": self.made["flavor"],
            "networks": [{"uuid": self.made["network"]}],
        }
        body = {"server": server, **({"os:scheduler_hints": hints} if hints else {})}
        identity: str = self.ask("nova", "/servers", body)["server"]["id"]
        return identity

    def active(self, server: str) -> bool:
        found = self.ask("nova", f"/servers/{server}")["server"]
        assert found["status"] != "ERROR", found.get("fault")
        return bool(found["status"] == "ACTIVE")

    def replace(self, file: str, before: str, after: str) -> None:
        """Edit one value of the cluster level and commit it, as a person does."""
        repository = Repository(self.model)
        path = repository.cluster_dir / file
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
        repository.commit(f"{before} → {after}", [path])

    def commit(self, message: str) -> None:
        repository = Repository(self.model)
        repository.commit(message, [repository.root])

    def deploy(self) -> Any:
        ostack(self.model, "images", "build", "--push")
        return ostack(self.model, "deploy", "--yes")
