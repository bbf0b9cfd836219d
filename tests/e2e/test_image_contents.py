"""What is in the images of a new cloud: no secret of its model, no build tools, exactly the packages of the lock.

Every image is built as an operator builds it, with clear secrets known to the test: they are looked for in every layer.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.workflows.images import build_images, lock_images
from cli.workflows.overlay import images_of
from openstack_images.definition import BakedImage
from openstack_images.package import Builder, local_reference
from openstack_images.sbom import packages
from reclass_model.generate import Answers, create
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import TOKEN, Keyring

from .conftest import say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

RELEASES = ("epoxy", "gazpacho")
BUILD_TOOLS = "cc gcc g++ clang make ld as ar cmake cargo rustc go dpkg-buildpackage git pip pip3"
SHORTEST = 12  #: characters of a secret that is looked for; a shorter text is in any package


@pytest.fixture(scope="module", params=["identity", pytest.param("all", marks=pytest.mark.full)])
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Repository:
    place = tmp_path_factory.mktemp("contents")
    answers = Answers.of({"cluster_name": "contents", "all_in_one": True, "services": request.param})
    return Repository(create(answers, place / "contents", place / "identity", say).path)


@pytest.fixture(scope="module", params=RELEASES)
def built(model: Repository, request: pytest.FixtureRequest) -> list[BakedImage]:
    """Every image of a release, its package images on the builder."""
    init = model.cluster_dir / "init.yml"
    init.write_text(
        init.read_text().replace(f"openstack_version: {RELEASES[0]}", f"openstack_version: {request.param}")
    )
    lock_images(Inventory(model), (), say)
    inventory = Inventory(model)
    build_images(inventory, None, (), say)
    return [image for _, image in sorted(images_of(inventory).items())]


@pytest.fixture(scope="module")
def patterns(model: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clear secrets of the model, one a line, also as base64: what no image may have."""
    keyring = Keyring.find(model)
    found = set()
    for file in model.cluster_dir.rglob("*.yml"):
        for token in TOKEN.finditer(file.read_text()):
            clear = str(keyring.reveal(token.group()))
            longest = max(clear.splitlines(), key=len)  # of a key, a line in the middle
            found |= {longest, base64.b64encode(clear.encode()).decode()}
    path = tmp_path_factory.mktemp("secrets") / "clear"
    path.write_text("".join(f"{secret}\n" for secret in sorted(found) if len(secret) >= SHORTEST))
    assert len(path.read_text().splitlines()) > 20
    return path


def holds(patterns: Path, content: Iterator[bytes]) -> bool:
    """Whether any secret stands in the content."""
    search = subprocess.Popen(
        ["grep", "--quiet", "--text", "--fixed-strings", f"--file={patterns}"], stdin=subprocess.PIPE
    )
    assert search.stdin is not None
    try:
        for block in content:
            search.stdin.write(block)
        search.stdin.close()
    except BrokenPipeError:  # found: grep has gone
        pass
    return search.wait() == 0


def saved(references: list[str]) -> Iterator[bytes]:
    """All layers and configurations of some images of the builder, each layer once."""
    with subprocess.Popen(["docker", "image", "save", *references], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        while block := saving.stdout.read(1 << 20):
            yield block
    assert saving.returncode == 0


def inside(image: BakedImage, script: str) -> list[str]:
    run = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", local_reference(image.package)]
    return subprocess.run([*run, "-c", script], check=True, capture_output=True, text=True).stdout.split()


def test_the_search_finds_what_is_there(patterns: Path) -> None:
    secret = patterns.read_text().splitlines()[0].encode()
    assert holds(patterns, iter([b"\0" * 100 + b"password = " + secret + b"\n"]))
    assert not holds(patterns, iter([b"\0" * 100 + b"password = something else\n"]))


def test_no_image_has_a_secret(built: list[BakedImage], patterns: Path) -> None:
    for image in built:
        assert not holds(patterns, iter([file.text.encode() for file in image.files])), image.name
    assert not holds(patterns, saved([local_reference(image.package) for image in built]))


def test_no_image_has_build_tools(built: list[BakedImage]) -> None:
    for image in built:
        there = inside(image, f"for tool in {BUILD_TOOLS}; do command -v $tool || true; done")
        assert there == [], f"{image.name}: {there}"
        headers = [name for name in packages(image) if name.endswith("-dev") or name.startswith("gcc-")]
        assert [name for name in headers if not name.endswith("-base")] == [], image.name


def test_what_is_installed_is_what_is_locked(built: list[BakedImage]) -> None:
    for image in built:
        identity = str(Builder().inspect(image.package)["Id"])
        assert Builder().installed(identity) == packages(image), image.name


def test_users_have_the_numbers_of_the_model(built: list[BakedImage]) -> None:
    for image in built:
        if image.user is not None:
            numbers = inside(image, f"id -u {image.user.name}; id -g {image.user.name}")
            assert numbers == [str(image.user.uid), str(image.user.gid)], image.name


def test_no_identity_is_shared_by_containers(built: list[BakedImage]) -> None:
    """What packages make at installation would be the same everywhere: cookies, initiator names, host keys."""
    paths = "/var/lib/rabbitmq/.erlang.cookie /etc/iscsi/initiatorname.iscsi /etc/ssl/private/ssl-cert-snakeoil.key"
    paths += " /var/lib/dbus/machine-id /etc/openvswitch/system-id.conf /etc/ssh/ssh_host_*_key"
    for image in built:
        script = f"for path in {paths}; do [ ! -e $path ] || echo $path; done; cat /etc/machine-id"
        assert inside(image, script) == [], image.name


def test_nobody_else_can_write_the_configuration(built: list[BakedImage]) -> None:
    for image in built:
        assert all(not file.mode & 0o022 for file in image.files), image.name
