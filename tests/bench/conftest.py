"""Speed as ratios against a peer in the same run, so that the machine does not matter; printed as a table.

Ours and the peer run in turns and the medians are taken, so that other load meets both and one bad moment neither.
Where the limit is a time, the processor's is taken: other load stretches it little.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import yaml

from openstack_images.bake import PACKAGES, package_tag
from openstack_images.definition import BakedImage
from openstack_images.lock import Lock
from openstack_images.registry import CONFIG, LAYER, MANIFEST, Content, Registry
from reclass_model import generate, nodes
from reclass_model.repository import Repository, write_atomically
from tests.e2e.test_images import certify, free_port

MACHINES = int(os.environ.get("OSTACK_K8S_BENCH_MACHINES", "1000"))  # the limits are meant for 1 000
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    what: str
    ours: str
    peer: str
    value: float
    limit: float
    unit: str  # "×" for a ratio, else of the value


MEASURES = pytest.StashKey[list[Measure]]()


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Enter a row into the table and fail when it is over its limit."""
    rows = request.config.stash.setdefault(MEASURES, [])

    def enter(
        what: str,
        *,
        limit: float,
        value: float = 0.0,
        unit: str = "×",
        times: tuple[float, float] | None = None,
    ) -> None:
        if times:
            value = times[0] / times[1]
        ours, peer = (f"{time * 1000:.0f} ms" for time in times) if times else ("", "")
        rows.append(Measure(what, ours, peer, value, limit, unit))
        assert value <= limit, f"{what}: {value:.2f} {unit}, at most {limit} {unit}"

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(MEASURES, [])
    if not rows:
        return
    terminalreporter.section("speed")
    terminalreporter.write_line(f"{'what':<52}{'ours':>12}{'peer':>12}{'':>12}{'limit':>10}")
    for row in rows:
        value, limit = f"{row.value:.2f} {row.unit}", f"{row.limit:g} {row.unit}"
        mark = "" if row.value <= row.limit else "  over"
        terminalreporter.write_line(f"{row.what:<52}{row.ours:>12}{row.peer:>12}{value:>12}{limit:>10}{mark}")


def seconds(work: Callable[[], object]) -> float:
    """One run, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def processor_seconds(work: Callable[[], object]) -> float:
    """One run, in seconds of processor time, with the processes that it started and waited for."""
    started = os.times()
    work()
    return sum(os.times()[:4]) - sum(started[:4])


def compare(ours: Callable[[], object], peer: Callable[[], object], repeat: int) -> tuple[float, float]:
    """The median of each, in seconds; taken in turns."""
    times = [(seconds(ours), seconds(peer)) for _ in range(repeat)]
    return median(time for time, _ in times), median(time for _, time in times)


def process(*call: str | Path, cwd: Path | None = None) -> Callable[[], object]:
    """A process to time; its output is thrown away, a failure is an error."""
    return lambda: subprocess.run([*map(str, call)], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session", autouse=True)
def no_backtraces() -> Iterator[None]:
    """The engine without Rust's backtraces, also alone: ours never records them, the ratio shall not gain from that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUST_LIB_BACKTRACE", "0")
        yield


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The default cloud, as `init` writes it."""
    top = tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSTACK_K8S_IDENTITY_DIR", str(top / "identity"))
        answers = generate.Answers.of({"cluster_name": "bench", "services": "identity"})
        generate.create(answers, top / "bench", top / "identity", lambda line: None)
        yield Repository(top / "bench")


@pytest.fixture(scope="session")
def large(cloud: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The same cloud with compute machines added until it has a thousand machines."""
    root = tmp_path_factory.mktemp("large") / "bench"
    shutil.copytree(cloud.root, root)
    repository = Repository(root)
    role = "kube_compute"
    machines = [
        nodes.Machine(f"cmp{number:04}.bench.local", f"10.{20 + number // 250}.{number % 250}.9", (role,))
        for number in range(MACHINES - len(repository.node_names()))
    ]
    for machine in machines:
        write_atomically(repository.node_file(machine.name), nodes.node_file(machine, "bench"))
        write_atomically(repository.pki_dir / f"{machine.name}.yml", "parameters: {}\n")
    for name in nodes.member_files():
        file = repository.cluster_dir / "underlay" / name
        document = yaml.safe_load(file.read_text())
        for machine in machines:
            nodes.join(name, document["parameters"], machine)
        file.write_text(yaml.safe_dump(document, sort_keys=False))
    return repository


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real docker-registry over TLS: this machine's, or the one in the lab's node image."""
    top = tmp_path_factory.mktemp("registry")
    authority, port = certify(top), free_port()
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(top / "store")}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(top / "server.pem"), "key": str(top / "server.key")},
        },
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    (top / "config.yml").write_text(yaml.safe_dump(settings))
    with subprocess.Popen(
        [*_registry_program(top), str(top / "config.yml")], stderr=subprocess.DEVNULL
    ) as running:
        client = Registry("127.0.0.1", port, user="bench", password="none", authority=authority)
        deadline = time.monotonic() + 30
        while client.present(f"{client.address}/x:y") is None:
            assert running.poll() is None and time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.1)
        yield client
        running.terminate()


def _registry_program(top: Path) -> list[str]:
    if shutil.which("docker-registry"):
        return ["docker-registry", "serve"]
    if docker := shutil.which("docker"):
        call = [docker, "image", "ls", "--quiet", "ostack-k8s-lab-node"]
        if images := subprocess.run(call, check=False, capture_output=True, text=True).stdout.split():
            here = ["--network", "host", "--volume", f"{top}:{top}", "--entrypoint", "docker-registry"]
            return [docker, "run", "--rm", *here, images[0], "serve"]
    pytest.skip("no registry to bake into: apt-get install docker-registry")


def made_up_lock(images: Iterable[BakedImage]) -> Lock:
    """Versions that the model would accept, for images that nobody installs."""
    locked: dict[str, dict[str, dict[str, str]]] = {}
    for layer in (layer for image in images for layer in image.package.chain):
        versions = {package.name: package.version or "1" for package in layer.packages}
        locked.setdefault(layer.name, {})[layer.suite] = versions
    return Lock(locked)


def push_package(registry: Registry, image: BakedImage) -> None:
    """A package image as the registry sees one: a configuration and a layer (never read by a bake, so any bytes)."""
    layer = Content(b"layer", LAYER)
    config = Content.of({"rootfs": {"type": "layers", "diff_ids": []}}, CONFIG)
    for content in (layer, config):
        registry.put_content(PACKAGES, content)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor],
    }
    registry.put_manifest(PACKAGES, Content.of(manifest, MANIFEST), package_tag(image.package))
