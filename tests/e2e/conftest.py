"""Real clouds for the end-to-end tests: machines of the lab, shared by the tests of a session or of a module.

OSTACK_K8S_BUNDLE names a filled bundle (otherwise it is built from source into the cache); with
OSTACK_K8S_KEEP_LAB set the machines stay for the next run.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula import lab
from kubernetes_formula.outcome import Outcome, read
from reclass_model import pki
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

#: Not the default network, so that a developer's own lab can run beside the tests.
ANSWERS = {
    "cluster_name": "e2e",
    "all_in_one": True,
    "services": "identity",
    "underlay_network": "10.78.0.0/24",
}
BUNDLE = Path(os.environ["OSTACK_K8S_BUNDLE"]) if "OSTACK_K8S_BUNDLE" in os.environ else None


def say(line: str) -> None:
    print(line, flush=True)


def within(seconds: float, true: Callable[[], object], what: str = "it") -> float:
    """How long until `true`; fails the test after `seconds`."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.5)
    took = time.monotonic() - started
    say(f"{what}: {took:.1f} s")
    return took


@contextmanager
def model(answers: Mapping[str, Any], factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """An operator's repo with these answers; the lab that was made of it is gone afterwards."""
    cluster = str(answers["cluster_name"])
    keep = "OSTACK_K8S_KEEP_LAB" in os.environ
    folder = Path(f"/tmp/ostack-k8s-{cluster}") if keep else factory.mktemp(cluster)
    source = Repository(folder / "model")
    if not source.root.exists():
        create(Answers.of(answers), source.root, folder / "identity", say)
    try:
        yield source
    finally:
        if not keep:
            lab.down(source)


@dataclass(frozen=True)
class Cloud:
    """What a test needs of the all-in-one lab."""

    source: Repository  #: the operator's repo, which the lab is derived from
    state: lab.LabState
    bundle: Path | None

    @property
    def model(self) -> Repository:
        return Repository(self.state.model)

    @property
    def node(self) -> str:
        return self.state.nodes[0].name


@dataclass(frozen=True)
class Machines:
    """What a test needs of a lab of several machines, which are called by their short names."""

    source: Repository
    only: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)  #: what the last `up` said

    @property
    def cluster(self) -> str:
        return self.source.settings.cluster_name

    def fqdn(self, machine: str) -> str:
        return f"{machine}.{self.cluster}.local"

    def start(self, rehearse: bool = False) -> None:
        """Bring the machines up, unless an earlier run left them."""
        if not lab.status(self.source).nodes:
            self.up(rehearse)

    def up(self, rehearse: bool = False) -> lab.LabState:
        self.lines.clear()

        def progress(line: str) -> None:
            say(line)
            self.lines.append(line)

        return lab.up(
            Repository(self.source.root), only=self.only, bundle=BUNDLE, rehearse=rehearse, progress=progress
        )

    def commit(self, message: str) -> None:
        """All that was changed in the operator's repo, with the keys that it needs."""
        source = Repository(self.source.root)
        pki.issue(source, Keyring(source.root.parent / "identity" / "operator.age"), progress=say)
        source.commit(message, [source.root])

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """The cluster's own parameters of the underlay; committed."""
        path = self.source.cluster_dir / "underlay" / "init.yml"
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**content, "parameters": parameters}))
        self.commit("another underlay")

    def run(self, machine: str, command: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        words = ["docker", "exec", f"{self.cluster}-{machine}", "sh", "-c", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)

    def on(self, machine: str, command: str, check: bool = True) -> str:
        """Output of a command, which has to succeed."""
        done = self.run(machine, command)
        assert not check or done.returncode == 0, f"{machine}: {command}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def fails(self, machine: str, command: str) -> bool:
        """Whether a command fails, or hangs for a minute."""
        try:
            return self.run(machine, command, 60).returncode != 0
        except subprocess.TimeoutExpired:
            return True

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """As the administrator, on the config machine."""
        words = ["docker", "exec", "-i", f"{self.cluster}-cfg01", "kubectl"]
        words += ["--kubeconfig", "/etc/kubernetes/admin.kubeconfig", *arguments]
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def create(self, *objects: Mapping[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    def ready(self) -> dict[str, str]:
        """Node → True, False or Unknown."""
        query = (
            "{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        )
        rows = self.kubectl("get", "nodes", "-o", f"jsonpath={query}").splitlines()
        return {name.partition(".")[0]: state for name, state in map(str.split, rows)}

    def states(self, machine: str, *arguments: str, pillar: Mapping[str, Any] | None = None) -> Outcome:
        """One run of `salt-call state.apply` on a machine."""
        salt_call = ["/opt/ostack-k8s/bin/salt-call", "--out", "json", "state.apply"]
        words = ["docker", "exec", f"{self.cluster}-{machine}", *salt_call, *arguments]
        words += [f"pillar={json.dumps(pillar)}"] if pillar else []
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        try:
            return read(json.loads(done.stdout)["local"])
        except (ValueError, KeyError):
            raise AssertionError(f"{machine}: {done.stdout}{done.stderr}") from None

    def orchestrate(self, orchestration: str, **pillar: str) -> subprocess.CompletedProcess[str]:
        """`salt-run state.orch ostack.ORCHESTRATION` on the config machine."""
        command = f"salt-run state.orch ostack.{orchestration} pillar='{json.dumps(pillar)}'"
        done = self.run("cfg01", command, 3600)
        say(done.stdout[-2000:] + done.stderr[-2000:])
        return done

    def changed(self) -> dict[str, set[str]]:
        """Machine → states that the last `up` changed there, where they were few enough to be named."""
        found: dict[str, set[str]] = {}
        for machine, _, names in (line.partition(": changed: ") for line in self.lines):
            if names:
                found.setdefault(machine.partition(".")[0], set()).update(names.split("; "))
        return found

    def processes(self, *units: str) -> dict[tuple[str, str], str]:
        """(machine, unit) → the main process of what runs there."""
        shown = {}
        for name in Repository(self.source.root).node_names():
            short = name.partition(".")[0]
            for unit in units:
                process = self.on(short, f"systemctl show --value --property MainPID {unit}")
                if process != "0":
                    shown[short, unit] = process
        return shown


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The lab's machine with its states applied (and rehearsed), no overlay."""
    with model(ANSWERS, tmp_path_factory) as source:
        yield Cloud(source, lab.up(source, bundle=BUNDLE, rehearse=True, progress=say), BUNDLE)


def pods(kind: str, name: str, container: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A Deployment or DaemonSet of pods with one container."""
    labels = {"app": name}
    template: dict[str, Any] = {"containers": [{"name": name, **container}], **spec.pop("pod", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            **spec,
        },
    }
