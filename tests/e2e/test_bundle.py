"""The bundle built from source with the real Go, and what is in it running: Go, root, 20 minutes from nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BIN = Path(__file__).parents[2] / ".venv/bin"
PROGRAM = str(BIN / "ostack-k8s")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model of one machine."""
    place = tmp_path_factory.mktemp("bundle")
    identity = ["--identity-dir", str(place / "identity")]
    subprocess.run([PROGRAM, "init", "cloud", "--defaults", "--all-in-one", *identity], cwd=place, check=True)
    return place / "cloud"


@pytest.fixture(scope="module")
def bundle(cloud: Path) -> Path:
    """The model's bundle, from source; the user's cache is used."""
    place = cloud.parent / "artifacts"
    subprocess.run([PROGRAM, "-C", str(cloud), "bundle", "build", "--from-source", str(place)], check=True)
    return place


@pytest.fixture(scope="module")
def programs(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every program of the bundle in one directory."""
    place = tmp_path_factory.mktemp("programs")
    for path in bundle.rglob("*"):
        if path.name.endswith((".gz", ".tgz")):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    member.name = Path(member.name).name
                    archive.extract(member, place, filter="data")
        elif path.is_file() and os.access(path, os.X_OK):
            (place / path.name.removesuffix(".amd64")).symlink_to(path)
    return place


def test_the_bundle_verifies_and_the_model_holds_its_checksums(cloud: Path, bundle: Path) -> None:
    verify = [PROGRAM, "-C", str(cloud), "-o", "json", "bundle", "verify", str(bundle)]
    shown = json.loads(subprocess.run(verify, check=True, capture_output=True).stdout)
    assert len(shown["artifacts"]) == 12
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=bundle, check=True)

    damaged = next(bundle.rglob("cni-plugins-*"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    try:
        done = subprocess.run(verify, check=False, capture_output=True, text=True)
        assert done.returncode == 1 and damaged.name in done.stdout + done.stderr
    finally:
        damaged.write_bytes(content)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("kube-apiserver --version", "Kubernetes v1.36.3"),
        ("kube-controller-manager --version", "Kubernetes v1.36.3"),
        ("kube-scheduler --version", "Kubernetes v1.36.3"),
        ("kubelet --version", "Kubernetes v1.36.3"),
        ("kube-proxy --version", "Kubernetes v1.36.3"),
        ("kubectl version --client", "v1.36.3"),
        ("etcd --version", "3.6.16"),
        ("etcdctl version", "3.6.16"),
        ("etcdutl version", "3.6.16"),
        ("containerd --version", "v2.4.2"),
        ("ctr --version", "v2.4.2"),
        ("runc --version", "libseccomp"),
    ],
)
def test_each_program_says_its_version(programs: Path, command: str, words: str) -> None:
    name, *arguments = command.split()
    assert (
        words
        in subprocess.run([programs / name, *arguments], check=True, capture_output=True, text=True).stdout
    )


def test_the_network_plugins_are_those_that_the_formula_configures(programs: Path) -> None:
    for name in ("bridge", "host-local", "loopback", "portmap", "bandwidth", "tuning", "firewall"):
        environment = {"CNI_COMMAND": "VERSION"}
        done = subprocess.run([programs / name], check=True, capture_output=True, env=environment, input=b"")
        assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]


@pytest.fixture
def containerd(programs: Path, tmp_path: Path) -> Iterator[list[str]]:
    """The bundle's containerd running with a root of its own; the `ctr` command that talks to it."""
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    places = ["--root", tmp_path / "root", "--state", tmp_path / "state", "--address", tmp_path / "socket"]
    command = [str(argument) for argument in (programs / "containerd", *places)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stderr=log) as process,
    ):
        control = [str(programs / "ctr"), "--address", str(tmp_path / "socket")]
        for _ in range(100):
            if subprocess.run([*control, "version"], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        yield control
        process.terminate()


def test_containerd_imports_the_images_and_runc_runs_them_confined(
    bundle: Path, containerd: list[str]
) -> None:
    def control(*arguments: str) -> str:
        done = subprocess.run([*containerd, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for archive in sorted((bundle / "image").glob("*.tar")):
        control("images", "import", str(archive))
    coredns, pause = sorted(control("images", "ls", "-q").split())
    assert coredns.startswith("registry.k8s.io/coredns/coredns:v") and pause.startswith(
        "registry.k8s.io/pause:"
    )
    assert "CoreDNS-1.15.0" in control("run", "--rm", coredns, "dns", "/coredns", "-version")

    control("run", "--detach", "--seccomp", pause, "pod")
    try:
        process = control("tasks", "ls").splitlines()[1].split()[1]
        status = Path(f"/proc/{process}/status").read_text()
        assert "Seccomp:\t2" in status and "Uid:\t65535" in status
        control("tasks", "kill", "--signal", "SIGTERM", "pod")
        for _ in range(50):
            if "STOPPED" in control("tasks", "ls"):
                break
            time.sleep(0.1)
    finally:
        control("tasks", "rm", "--force", "pod")
        control("containers", "rm", "pod")


def some(cloud: Path, names: set[str]) -> list[str]:
    """A program that builds only these artifacts of the model, from source, into the directory it is given."""
    code = f"""
import sys
from pathlib import Path
from kubernetes_formula.bundle import build
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
recipe = Inventory(Repository(Path({str(cloud)!r}))).config_node().parameters["bundle"]
some = {{name: entry for name, entry in recipe["artifact"].items() if name in {names!r}}}
build(Path(sys.argv[1]), {{**recipe, "artifact": some}}, True, lambda line: print(line, flush=True))
"""
    return [str(BIN / "python"), "-c", code]


def sums(place: Path) -> dict[str, str]:
    files = [
        path for path in place.rglob("*") if path.is_file() and path.name not in ("SHA256SUMS", "bundle.json")
    ]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.full
def test_two_builds_from_nothing_give_the_same_bytes(cloud: Path, tmp_path: Path) -> None:
    built = []
    for number in ("1", "2"):
        place = tmp_path / number
        environment = os.environ | {"XDG_CACHE_HOME": str(place / "cache"), "GOCACHE": str(place / "go")}
        subprocess.run(
            [*some(cloud, {"runc", "pause", "cni-plugins"}), place / "b"], check=True, env=environment
        )
        built.append(sums(place / "b"))
    assert len(built[0]) == 3 and built[0] == built[1]


def test_a_killed_build_goes_on(cloud: Path, tmp_path: Path) -> None:
    compiled = subprocess.run(
        ["go", "env", "GOCACHE"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "GOCACHE": compiled}
    command = [*some(cloud, {"pause", "cni-plugins", "etcd"}), str(tmp_path / "b")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "(2 of 3)" in line:
                os.killpg(process.pid, signal.SIGKILL)
    whole = sums(tmp_path / "b")
    assert len(whole) == 1
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.count(" reused,") == 1 and done.stdout.count(" made in ") == 2
    assert len(sums(tmp_path / "b")) == 3 and whole.items() <= sums(tmp_path / "b").items()
