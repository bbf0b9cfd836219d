"""What a machine needs before Salt can run on it, put there as an installer of bare metal would.

Our code (a wheel), the machine's identity, a checkout of the model and the Salt configuration to run without a
master, with which the machine makes itself a minion. Each is put in place only where it differs.
"""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes_formula.lab import wheel
from reclass_model.errors import OperatorError
from reclass_model.repository import Repository

if TYPE_CHECKING:
    from docker.models.containers import Container

VENV = "/opt/ostack-k8s"
MODEL = "/srv/ostack-k8s/model"
BARE = "/srv/ostack-k8s/model.git"
IDENTITY = "/etc/ostack-k8s/identity"
MINION = "/etc/salt/minion"
_ARRIVING = "/srv/ostack-k8s/arriving.bundle"
_COMMANDS = ("ostack-k8s", "salt", "salt-call", "salt-key", "salt-run")


@dataclass(frozen=True)
class File:
    """A file for a machine."""

    content: bytes
    mode: int = 0o644


def put(container: Container, files: Mapping[str, File]) -> None:
    """Write files into a machine, root's, making their folders."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, file in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            tar.addfile(entry, io.BytesIO(file.content))
    container.put_archive("/", archive.getvalue())


def run(container: Container, script: str) -> str:
    """Run a shell script in a machine; its output. Raises OperatorError E813 with it when it fails."""
    code, output = container.exec_run(["sh", "-ec", script])
    text = str(output.decode(errors="replace")).strip()
    if code:
        raise OperatorError(
            f"`{script.strip()}` ended with {code} on {container.name}:\n{text}",
            code="E813",
            hint=f"docker exec -it {container.name} bash",
        )
    return text


def install(container: Container, name: str, content: bytes) -> bool:
    """Our own packages from the wheel; False when the machine has these already."""
    target, mark = f"{VENV}/{name}", f"{VENV}/wheel.sha256"
    digest = wheel.digest(content)
    if run(container, f"cat {mark} 2>/dev/null || true") == digest:
        return False
    put(container, {target: File(content)})
    links = "\n".join(f"ln -sf {VENV}/bin/{command} /usr/local/bin/{command}" for command in _COMMANDS)
    run(
        container,
        f"""
{VENV}/bin/pip install --quiet --no-deps --no-index --force-reinstall {target}
rm {target}
{links}
echo {digest} > {mark}
systemctl try-restart salt-master.service salt-minion.service 2> /dev/null || true""",
    )
    return True


def introduce(container: Container, machine: str, identity: Path) -> None:
    """The machine's identity, and the Salt configuration with which it runs its states without a master (--local)."""
    configuration = {
        "id": machine,
        "file_roots": {"base": [run(container, f"{VENV}/bin/python -c {shlex.quote(_FORMULA)}")]},
        "ext_pillar": [{"ostack_k8s": {"repository": MODEL}}],
        "minion_data_cache": False,
    }
    put(
        container,
        {
            IDENTITY: File(identity.read_bytes(), 0o600),
            MINION: File(json.dumps(configuration, indent=2).encode()),
        },
    )
    run(container, f"chmod 700 {Path(IDENTITY).parent}")


_FORMULA = "from kubernetes_formula.salt_loader import FORMULA; print(FORMULA)"


def deliver(container: Container, repository: Repository) -> bool:
    """The model's HEAD as the machine's checkout (and in the bare repo it has, if any); False when it is there."""
    head = repository.head()
    if run(container, f"git -C {MODEL} rev-parse HEAD 2>/dev/null || true") == head:
        return False
    packed = subprocess.run(
        ["git", "-C", str(repository.root), "bundle", "create", "--quiet", "-", "HEAD", "main"],
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        raise OperatorError(
            f"git bundle: {packed.stderr.decode(errors='replace').strip()}",
            code="E813",
            file=str(repository.root),
        )
    put(container, {_ARRIVING: File(packed.stdout)})
    run(
        container,
        f"""
git config --global --get-all safe.directory > /dev/null || git config --global safe.directory '*'
test -d {MODEL}/.git || git clone --quiet {_ARRIVING} {MODEL}
git -C {MODEL} fetch --quiet {_ARRIVING} main
git -C {MODEL} checkout --quiet -B main FETCH_HEAD
test ! -d {BARE} || git -C {BARE} fetch --quiet {_ARRIVING} +main:main
rm {_ARRIVING}""",
    )
    return True
