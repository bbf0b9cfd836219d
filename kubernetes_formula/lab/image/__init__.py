"""The node image: what a freshly installed bare-metal machine would have, as an image of a container engine.

Two layers, each found by the digest of its inputs and made only when missing: the distribution with its packages
(`mmdebstrap`, no registry involved) and /opt/ostack-k8s with the third-party Python packages. Pip's configuration,
cache and CA bundle of this machine are used while building, and none of them stays in the image.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from kubernetes_formula.lab import wheel
from reclass_model.errors import OperatorError
from reclass_model.repository import write_atomically

if TYPE_CHECKING:
    import docker

NAME = "ostack-k8s-lab-node"
BASE = "ostack-k8s-lab-base"
GUEST = "/usr/share/ostack-k8s/guest.img"
_ERROR_LINES = 15
_PIP_FILES = {  # pip's own settings that name files of this machine → where the build sees them
    "PIP_CERT": "/run/pip/ca.crt",
    "PIP_CONFIG_FILE": "/run/pip/pip.conf",
    "PIP_FIND_LINKS": "/run/pip/wheels",
}


def ensure(engine: docker.DockerClient, progress: Callable[[str], None]) -> str:
    """The reference of the node image, built if the engine lacks it.

    Raises OperatorError E803 (mmdebstrap missing), E804 (a build step failed).
    """
    recipe = _recipe()
    base = f"{BASE}:{_digest(recipe)}"
    requirements = wheel.dependencies("salt")
    node = f"{NAME}:{_digest([base, requirements, recipe['python']])}"
    if not _exists(engine, node):
        if not _exists(engine, base):
            progress(f"building {base} with mmdebstrap ({recipe['suite']}, about a minute)")
            _build_base(engine, recipe, base)
        progress(f"building {node} (Python packages of the machines, about three minutes the first time)")
        _add_python(engine, recipe["python"], requirements, base, node)
    engine.images.get(node).tag(NAME, "latest")
    return node


def copy_guest(engine: docker.DockerClient, reference: str, target: Path) -> None:
    """Write the disk for instances, which the node image carries, to a file that everybody may read."""
    container = engine.containers.create(reference, ["true"])  # never started
    try:
        chunks, _ = container.get_archive(GUEST)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            content = archive.extractfile(PurePath(GUEST).name)
            assert content is not None, f"{GUEST} is a file"
            write_atomically(target, content.read())
    finally:
        container.remove(force=True)


def _recipe() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("node.yml").read_text()
    recipe: dict[str, Any] = yaml.safe_load(text)
    return recipe


def _digest(value: Any) -> str:
    return hashlib.sha256(yaml.safe_dump(value).encode()).hexdigest()[:12]


def _exists(engine: docker.DockerClient, reference: str) -> bool:
    import docker

    try:
        engine.images.get(reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def _build_base(engine: docker.DockerClient, recipe: dict[str, Any], reference: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise OperatorError(
            "mmdebstrap is not installed; the lab's machines are made with it",
            code="E803",
            hint="apt-get install mmdebstrap",
        )
    with tempfile.TemporaryDirectory(prefix="ostack-k8s-node-") as folder:
        tree, archive = Path(folder, "tree"), Path(folder, "base.tar")
        for name, content in recipe["files"].items():
            path = tree / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        command = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(recipe['packages'])}",
        ]
        command += [f"--aptopt={option}" for option in recipe["apt"]]
        command += [f"--dpkgopt={option}" for option in recipe["dpkg"]]
        command += [f"--customize-hook=copy-in {path} /" for path in sorted(tree.iterdir())]
        command += [f'--customize-hook=chroot "$1" {line}' for line in recipe["after"]]
        command += [recipe["suite"], str(archive)]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(recipe["epoch"])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise OperatorError(
                f"mmdebstrap ended with {done.returncode}:\n{_tail(done.stderr)}",
                code="E804",
                hint="to see it all, run: " + " ".join(f"'{word}'" for word in command),
            )
        repository, _, tag = reference.partition(":")
        engine.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def _add_python(
    engine: docker.DockerClient,
    steps: list[str],
    requirements: tuple[str, ...],
    base: str,
    reference: str,
) -> None:
    """Run the steps in a container of `base` and commit it; environment and mounts stay with the container."""
    import docker

    environment, mounts = _pip_of_this_machine(docker.types.Mount)
    container = engine.containers.create(base, ["sleep", "infinity"], network_mode="host", mounts=mounts)
    try:
        container.start()
        for step in steps:
            command = step.format(requirements=" ".join(f"'{name}'" for name in requirements))
            code, output = container.exec_run(["sh", "-ec", command], environment=environment)
            if code:
                raise OperatorError(
                    f"`{command}` ended with {code}:\n{_tail(output.decode(errors='replace'))}",
                    code="E804",
                    hint="can this machine reach its package index? try: pip download salt",
                )
        repository, _, tag = reference.partition(":")
        container.commit(repository, tag, conf={"Cmd": ["/lib/systemd/systemd"]})
    finally:
        container.remove(force=True)


def _pip_of_this_machine(mount: Any) -> tuple[dict[str, str], list[Any]]:
    """Environment and read-only mounts with which pip in the container works as pip here does."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    sources = {name: Path(os.environ[name]) for name in _PIP_FILES if name in os.environ}
    sources.setdefault("PIP_CERT", Path("/etc/ssl/certs/ca-certificates.crt"))
    for path in (Path.home() / ".config/pip/pip.conf", Path("/etc/pip.conf")):
        if path.exists():
            sources.setdefault("PIP_CONFIG_FILE", path)
    mounts = []
    for name, source in sources.items():
        if source.exists():
            environment[name] = _PIP_FILES[name]
            mounts.append(mount(_PIP_FILES[name], str(source.resolve()), type="bind", read_only=True))
        else:
            environment.pop(name, None)
    cache = Path.home() / ".cache" / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    mounts.append(mount("/run/pip/cache", str(cache), type="bind"))
    return environment | {"PIP_CACHE_DIR": "/run/pip/cache"}, mounts


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_ERROR_LINES:])
