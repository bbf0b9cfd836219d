"""Images for real: locked against the mirror, built, pushed and baked into a docker-registry over TLS, and run."""

from __future__ import annotations

import contextlib
import copy
import datetime
import http.server
import ipaddress
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openstack_images.bake import PACKAGES, bake, package_tag, referrers_tag
from openstack_images.build import Build, build
from openstack_images.definition import BakedImage, images
from openstack_images.lock import Lock
from openstack_images.package import Builder, local_reference
from openstack_images.pinning import lock
from openstack_images.registry import INDEX, Registry
from openstack_images.sbom import bill_of_materials, packages
from reclass_model.errors import OperatorError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

USER, PASSWORD = "ostack-k8s", "not-a-secret"

PILLAR: dict[str, Any] = {
    "registry": {
        "server": {"image": {"suite": "trixie", "packages": {"docker-registry": {}, "apache2-utils": {}}}}
    },
    "memcached": {
        "server": {
            "image": {
                "suite": "trixie",
                "packages": {"memcached": {}, "tini": {}},
                "user": {"name": "memcache", "uid": 42457, "gid": 42457},
                "directories": {"/var/lib/memcache": {}},
                "remove": {"/etc/memcached.conf": {}},
                "entrypoint": "/usr/bin/tini --",
                "command": "cat /etc/ours.conf",
                "config": {"/etc/ours.conf": {"format": "ini", "data": {"cache": {"megabytes": 64}}}},
            }
        }
    },
}


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def locked() -> Lock:
    return lock({"any": images(PILLAR, Lock(), "none:1")}, Builder(), print)


@dataclass(frozen=True)
class Server:
    """A docker-registry in a container on the host's network."""

    container: str
    port: int
    authority: str

    def client(self, password: str = PASSWORD, authority: str | None = None) -> Registry:
        return Registry(
            "127.0.0.1", self.port, user=USER, password=password, authority=authority or self.authority
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def serve(locked: Lock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Starts registries with the given size of disk."""
    role = "registry:server"
    wanted = {role: images(PILLAR, locked, "none:1")[role]}
    build(wanted, None, Builder(), push=False, progress=print)
    started: list[str] = []

    def start(disk: str) -> Server:
        directory = tmp_path_factory.mktemp("registry")
        authority = certify(directory)
        port = free_port()
        container = docker(
            "run", "--detach", "--network", "host", "--tmpfs", f"/var/lib/docker-registry:size={disk}",
            "--volume", f"{directory}:/tls:ro", local_reference(wanted[role].package), "sh", "-c",
            f"htpasswd -Bbn {USER} {PASSWORD} > /tmp/htpasswd && printf '%s\n'"
            " 'version: 0.1' 'storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}'"
            f" 'http: {{addr: \"127.0.0.1:{port}\", tls: {{certificate: /tls/server.pem, key: /tls/server.key}}}}'"
            " 'auth: {htpasswd: {realm: test, path: /tmp/htpasswd}}' > /tmp/c.yml"
            " && exec docker-registry serve /tmp/c.yml",
        )  # fmt: skip
        started.append(container)
        server = Server(container, port, authority)
        deadline = time.monotonic() + 20
        while server.client().present(f"{server.address}/x:y") is None:
            assert time.monotonic() < deadline, docker("logs", container)
            time.sleep(0.1)
        return server

    yield start
    for container in started:
        docker("rm", "--force", container)


@pytest.fixture(scope="module")
def server(serve: Callable[[str], Server]) -> Server:
    return serve("2g")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def certify(directory: Path) -> str:
    """A CA and a certificate for 127.0.0.1 in files; the CA's PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(subject: str, public: Any, extension: Any) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("test CA"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(authority_key, hashes.SHA256())
        )

    authority = certificate(
        "test CA", authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=None)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem = serialization.Encoding.PEM
    (directory / "server.pem").write_bytes(
        certificate("registry", key.public_key(), address).public_bytes(pem)
    )
    (directory / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return authority.public_bytes(pem).decode()


def cache(server: Server, locked: Lock, megabytes: int = 64) -> dict[str, BakedImage]:
    """The made-up cache service's image, with one static option."""
    pillar = copy.deepcopy(PILLAR)
    pillar["memcached"]["server"]["image"]["config"]["/etc/ours.conf"]["data"]["cache"]["megabytes"] = (
        megabytes
    )
    role = "memcached:server"
    return {role: images(pillar, locked, server.address)[role]}


def publish(
    wanted: dict[str, BakedImage],
    server: Server,
    builder: Builder | None = None,
    progress: Callable[[str], None] = print,
) -> Any:
    return build(wanted, server.client(), builder or Builder(), push=True, progress=progress)


def test_built_baked_then_reused_without_docker(server: Server, locked: Lock) -> None:
    wanted = cache(server, locked)
    image = wanted["memcached:server"]
    assert server.client().present(image.reference) is False
    first = publish(wanted, server)
    assert [each.name for each in first.baked] == ["memcached-server"]
    assert server.client().present(image.reference) is True

    nowhere = Builder("unix:///nowhere.sock")
    began = time.monotonic()
    again = publish(wanted, server, nowhere)
    assert time.monotonic() - began < 3
    assert [(each.name, each.digest) for each in again.reused] == [
        ("memcached-server", first.baked[0].digest)
    ]
    assert not again.built
    assert not again.baked

    changed = cache(server, locked, megabytes=128)
    began = time.monotonic()
    baked = publish(changed, server, nowhere)
    assert time.monotonic() - began < 0.5
    assert [each.reference for each in baked.baked] == [changed["memcached:server"].reference]
    assert baked.baked[0].bytes < 10_000


def test_what_the_registry_serves_runs(server: Server, locked: Lock, tmp_path: Path) -> None:
    wanted = cache(server, locked)
    image = wanted["memcached:server"]
    publish(wanted, server)
    reference = load(server.client(), image, tmp_path)
    try:
        run = (
            "run",
            "--rm",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            reference,
        )
        assert docker(*run) == "[cache]\nmegabytes = 64"
        assert docker(*run, "id", "-u") == "42457"
        assert docker(*run, "stat", "-c", "%a %u %g", "/etc/ours.conf", "/var/lib/memcache").splitlines() == [
            "640 0 42457",
            "750 42457 42457",
        ]
        assert (
            docker(*run, "sh", "-c", "ls /etc/memcached.conf /usr/sbin/policy-rc.d 2>/dev/null || echo none")
            == "none"
        )
        assert docker(*run, "stat", "-c", "%s", "/etc/machine-id") == "0"
    finally:
        docker("image", "rm", "--force", reference)


def load(registry: Registry, image: BakedImage, directory: Path) -> str:
    """Pull through the API, every blob checked against its digest, and give it to Docker without our CA."""
    import gzip
    import tarfile

    manifest = registry.manifest(image.name, image.tag)
    assert manifest is not None
    names = []
    reference = f"ostack-k8s-test/{image.name}:{image.tag}"
    with tarfile.open(directory / "image.tar", "w") as archive:

        def add(name: str, content: bytes) -> None:
            (directory / "member").write_bytes(content)
            archive.add(directory / "member", name)

        for index, each in enumerate(manifest["layers"]):
            names.append(f"{index}/layer.tar")
            add(names[-1], gzip.decompress(registry.blob(image.name, each["digest"])))
        add("config.json", registry.blob(image.name, manifest["config"]["digest"]))
        add(
            "manifest.json",
            json.dumps([{"Config": "config.json", "RepoTags": [reference], "Layers": names}]).encode(),
        )
    docker("load", "--input", str(directory / "image.tar"))
    return reference


def test_the_bill_of_materials_is_what_is_installed(server: Server, locked: Lock) -> None:
    image = cache(server, locked)["memcached:server"]
    publish({image.role: image}, server)
    registry = server.client()
    index = registry.manifest(
        image.name, referrers_tag(str(registry.manifest_digest(image.name, image.tag))), INDEX
    )
    assert index is not None
    (found,) = index["manifests"]
    assert found["artifactType"] == "application/vnd.cyclonedx+json"
    artifact = registry.manifest(image.name, found["digest"])
    assert artifact is not None
    assert artifact["subject"]["digest"] == registry.manifest_digest(image.name, image.tag)
    document = json.loads(registry.blob(image.name, artifact["layers"][0]["digest"]))
    assert document == bill_of_materials(image)
    identity = docker("image", "inspect", "--format", "{{.Id}}", local_reference(image.package))
    assert packages(image) == Builder().installed(identity)


def test_the_commit_changes_no_content(server: Server, locked: Lock) -> None:
    """The same inputs of another commit: the same tag, the same configuration and layers, another annotation."""
    image = cache(server, locked)["memcached:server"]
    publish({image.role: image}, server)
    registry = server.client()
    told = []
    for revision in ("1" * 40, "2" * 40):
        bake(image, registry, revision)
        manifest = registry.manifest(image.name, image.tag)
        assert manifest is not None
        assert manifest["annotations"].pop("org.opencontainers.image.revision") == revision
        told.append(manifest)
    assert told[0] == told[1]


def test_labels_tell_the_inputs(server: Server, locked: Lock) -> None:
    image = cache(server, locked)["memcached:server"]
    publish({"memcached:server": image}, server)
    manifest = server.client().manifest(image.name, image.tag)
    assert manifest is not None
    assert manifest["annotations"]["io.ostack-k8s.inputs"] == f"sha256:{image.digest}"
    package = server.client().manifest(PACKAGES, package_tag(image.package))
    assert package is not None
    assert package["annotations"]["io.ostack-k8s.inputs"] == f"sha256:{image.package.digest}"


@pytest.mark.parametrize("after", [0.05, 0.3, 1.0, 2.0])
def test_killed_at_any_moment_and_run_again_completes(
    serve: Callable[[str], Server], locked: Lock, after: float
) -> None:
    server = serve("500m")
    wanted = cache(server, locked)
    image = wanted["memcached:server"]
    child = os.fork()
    if child == 0:
        os.setsid()
        publish(wanted, server)
        os._exit(0)
    time.sleep(after)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    publish(wanted, server)
    registry = server.client()
    manifest = registry.manifest(image.name, image.tag)
    assert manifest is not None
    for blob in [manifest["config"], *manifest["layers"]]:
        assert len(registry.blob(image.name, blob["digest"])) == blob["size"]


def fresh(server: Server, locked: Lock, *names: str) -> dict[str, BakedImage]:
    """Images that nobody has built: the cache's, under these names."""
    pillar = {}
    for name in names:
        pillar[name] = copy.deepcopy(PILLAR["memcached"])
        pillar[name]["server"]["image"]["directories"] = {f"/var/lib/{time.time_ns()}": {}}
    versions = {f"{name}-server": locked.images["memcached-server"] for name in names}
    return images(pillar, Lock({**locked.images, **versions}), server.address)


@pytest.fixture
def made() -> Iterator[list[BakedImage]]:
    """Images whose package images are removed from the builder afterwards."""
    wanted: list[BakedImage] = []
    yield wanted
    for image in wanted:
        with contextlib.suppress(subprocess.CalledProcessError):
            docker("image", "rm", "--force", local_reference(image.package))


def test_two_are_made_at_a_time(server: Server, locked: Lock, made: list[BakedImage]) -> None:
    wanted = fresh(server, locked, "one", "two", "three")
    made += wanted.values()
    told: list[str] = []
    run = Build(wanted, server.client(), Builder(), told.append, workers=2)
    run.make()
    run.publish()
    first_done = next(index for index, line in enumerate(told) if ": built in" in line)
    assert sum(": building" in line for line in told[:first_done]) == 2
    assert [each.name for each in run.result.baked] == ["one-server", "three-server", "two-server"]
    assert all(server.client().present(image.reference) for image in wanted.values())


@pytest.mark.parametrize("after", ["building", "unpacked", "pushing"])
def test_an_interrupted_build_ends_at_once_and_goes_on(
    server: Server, locked: Lock, made: list[BakedImage], after: str
) -> None:
    wanted = fresh(server, locked, "interrupted", "beside")
    made += wanted.values()
    child = os.fork()
    if child == 0:
        os.setsid()

        def tell(line: str) -> None:
            print(line, flush=True)
            if after in line:
                os.kill(os.getpid(), signal.SIGINT)

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("openstack_images.package._SECONDS_BETWEEN", 0)
                build(wanted, server.client(), Builder(), push=True, progress=tell)
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGTERM)
    for image in wanted.values():
        assert server.client().present(image.reference) is False
        assert after == "pushing" or not Builder().has(image.package)
    again = publish(wanted, server)
    assert len(again.baked) == 2


@dataclass
class Network:
    """A package mirror behind a line that is cut after some bytes."""

    upstream: str
    budget: float
    server: http.server.ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        network = self

        class Relay(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if network.budget <= 0:
                    self.close_connection = True
                    return
                try:
                    answer = urllib.request.urlopen(network.upstream + self.path.removeprefix("/mirror"))
                except urllib.error.HTTPError as error:
                    self.send_error(error.code)
                    return
                with answer:
                    self.send_response(200)
                    self.send_header("Content-Length", str(answer.headers["Content-Length"]))
                    self.end_headers()
                    while network.budget > 0 and (block := answer.read(1 << 16)):
                        self.wfile.write(block)
                        network.budget -= len(block)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def mirror(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/mirror"


def test_a_network_lost_half_way(server: Server, locked: Lock, made: list[BakedImage]) -> None:
    """apt loses its mirror in the middle: no half image has a tag, the reason is told, the next run goes on."""
    root = images(PILLAR, locked, server.address)["memcached:server"].package.chain[0]
    sources = "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE '[a-z]+://[^ ]+' | sort -u"
    upstream = docker("run", "--rm", local_reference(root), "sh", "-c", sources).splitlines()[0].rstrip("/")
    network = Network(upstream, budget=float("inf"))
    # The same smallest system, but its packages come through the line.
    lock_of_ours = Lock(
        {**locked.images, "debian": {"trixie": {**locked.images["debian"]["trixie"], "line": "1"}}}
    )
    wanted = fresh(server, lock_of_ours, "lost", "kept")
    made += wanted.values()
    ours = next(iter(wanted.values())).package.chain[0]
    instructions = (
        f"FROM {local_reference(root)}\nRUN echo 'deb {network.mirror} trixie main' > /etc/apt/sources.list"
    )
    call = ["docker", "build", "--quiet", "--tag", local_reference(ours), "-"]
    subprocess.run(call, input=instructions, text=True, check=True, capture_output=True)
    try:
        for budget in (0, 200_000, 12_000_000):
            network.budget = budget
            told: list[str] = []
            with pytest.raises(OperatorError) as failure:
                publish(wanted, server, progress=told.append)
            assert {problem.code for problem in failure.value.problems} == {"E515"}, str(failure.value)
            assert "it goes on" in str(failure.value)
            # What the line carries may be enough for one of the two, never for both.
            complete = {
                image.name
                for image in wanted.values()
                if any(line.startswith(f"{image.package}: built in") for line in told)
            }
            assert {image.name for image in wanted.values() if Builder().has(image.package)} == complete
            assert len(complete) < len(wanted)
        network.budget = float("inf")
        assert len(publish(wanted, server).baked) == 2
    finally:
        network.server.shutdown()
        docker("image", "rm", "--force", local_reference(ours))


def test_a_registry_lost_half_way(serve: Callable[[str], Server], locked: Lock) -> None:
    """It dies when the first layer is on its way, and comes back empty."""
    server = serve("500m")
    wanted = cache(server, locked)

    def tell(line: str) -> None:
        if "pushing" in line:
            docker("kill", server.container)

    with pytest.raises(OperatorError) as failure:
        build(wanted, server.client(), Builder(), push=True, progress=tell)
    assert failure.value.code == "E520"
    docker("start", server.container)
    deadline = time.monotonic() + 20
    while server.client().present(f"{server.address}/x:y") is None:
        assert time.monotonic() < deadline, docker("logs", server.container)
        time.sleep(0.1)
    assert len(publish(wanted, server).baked) == 1


def test_a_second_lock_takes_the_smallest_system_that_is_there(locked: Lock) -> None:
    told: list[str] = []
    began = time.monotonic()
    again = lock({"any": images(PILLAR, locked, "none:1")}, Builder(), told.append)
    assert again == locked
    assert "making the smallest system" not in "".join(told)
    assert time.monotonic() - began < 30


def test_a_killed_build_tags_nothing(locked: Lock, server: Server) -> None:
    pillar = copy.deepcopy(PILLAR)
    pillar["memcached"]["server"]["image"]["directories"] = {f"/var/lib/{time.time_ns()}": {}}
    image = images(pillar, locked, server.address)["memcached:server"]
    child = os.fork()
    if child == 0:
        os.setsid()
        Builder().build(image.package, print)
        os._exit(0)
    time.sleep(1.0)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not Builder().has(image.package)
    result = build({"memcached:server": image}, None, Builder(), push=False, progress=print)
    assert [each.name for each in result.built] == ["memcached-server"]
    docker("image", "rm", "--force", local_reference(image.package))


class TestWhatOperatorsAreTold:
    @pytest.fixture
    def image(self, server: Server, locked: Lock) -> dict[str, BakedImage]:
        return cache(server, locked, megabytes=1)

    def failure(
        self, registry: Registry, image: dict[str, BakedImage], builder: Builder | None = None
    ) -> OperatorError:
        with pytest.raises(OperatorError) as error:
            build(image, registry, builder or Builder(), push=True, progress=print)
        return error.value

    def test_wrong_password(self, server: Server, image: dict[str, BakedImage]) -> None:
        assert self.failure(server.client(password="other"), image).code == "E522"

    def test_another_authority(self, server: Server, image: dict[str, BakedImage], tmp_path: Path) -> None:
        assert self.failure(server.client(authority=certify(tmp_path)), image).code == "E521"
        assert self.failure(server.client(authority="no PEM"), image).code == "E521"

    def test_nobody_there(self, server: Server, image: dict[str, BakedImage]) -> None:
        gone = Registry("127.0.0.1", free_port(), user=USER, password=PASSWORD, authority=server.authority)
        assert self.failure(gone, image).code == "E520"
        assert gone.present("x/y:z") is None

    def test_a_registry_with_a_full_disk(self, serve: Callable[[str], Server], locked: Lock) -> None:
        small = serve("10m")
        assert self.failure(small.client(), cache(small, locked)).code == "E523"

    def test_no_docker(self, serve: Callable[[str], Server], locked: Lock) -> None:
        empty = serve("10m")
        nowhere = Builder("unix:///nowhere.sock")
        assert self.failure(empty.client(), cache(empty, locked), nowhere).code == "E511"

    def test_a_version_that_the_mirror_never_had(self, server: Server, locked: Lock) -> None:
        versions = {**locked.images["memcached-server"]["trixie"], "memcached": "0.1-1"}
        old = Lock({**locked.images, "memcached-server": {"trixie": versions}})
        failure = self.failure(server.client(), cache(server, old, megabytes=2))
        assert [each.code for each in failure.problems] == ["E513"], failure
        assert "memcached 0.1-1" in failure.problems[0].message

    def test_another_smallest_system_than_the_locked(self, locked: Lock, server: Server) -> None:
        versions = {**locked.images["debian"]["trixie"], "bash": "4.0-1"}
        old = Lock({**locked.images, "debian": {"trixie": versions}})
        failure = self.failure(server.client(), cache(server, old))
        assert failure.code == "E513"
        assert "bash" in failure.problems[0].message
