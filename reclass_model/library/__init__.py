"""The class library that ships with this version: where it lies, its version, copying it into a deployment repo.

All knowledge of services, releases and roles is in `classes/system`; `generate` and `update` vendor it verbatim.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from importlib.metadata import version
from pathlib import Path

CLASSES = Path(__file__).parent / "classes" / "system"


@cache
def library_version() -> str:
    """The package's version and a digest of the library's content, e.g. "0.1.0+3f2a…"."""
    digest = hashlib.sha256()
    for path in sorted(path for path in CLASSES.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(CLASSES)}\0".encode() + path.read_bytes() + b"\0")
    return f"{version('ostack-k8s')}+{digest.hexdigest()[:12]}"


def vendor(root: Path) -> None:
    """Put the library into a deployment repo's tree, in place of the one that is there."""
    target = root / "classes" / "system"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(CLASSES, target)
