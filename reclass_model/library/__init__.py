"""The class library that ships with this version: where it lies, its version, copying it into a deployment repo.

All knowledge of services, releases and roles is in `classes/system`; `generate` and `update` vendor it verbatim;
the vendored copy and this code must be of one version.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import SETTINGS_FILE, Repository

CLASSES = Path(__file__).parent / "classes" / "system"


@cache
def library_version() -> str:
    """The package's version and a digest of the library's content, e.g. "0.1.0+3f2a…"."""
    digest = hashlib.sha256()
    for path in sorted(path for path in CLASSES.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(CLASSES)}\0".encode() + path.read_bytes() + b"\0")
    return f"{version('ostack-k8s')}+{digest.hexdigest()[:12]}"


def mismatch(repository: Repository) -> Iterator[Problem]:
    """A problem unless the repo's vendored library is the one that ships here, whose keys our code and states read."""
    vendored = repository.settings.library_version
    if vendored != library_version():
        yield Problem(
            "E011",
            f"the class library is {vendored or 'of no version'}, this ostack-k8s has {library_version()}",
            file=SETTINGS_FILE,
            hint="`ostack-k8s update` takes this one into the repo; else install the ostack-k8s that it was made with",
        )


def require_match(repository: Repository) -> None:
    """Raises OperatorError E011 unless the repo's vendored library is the one that ships here."""
    if problems := list(mismatch(repository)):
        raise OperatorError.of(*problems)


def vendor(root: Path) -> None:
    """Put the library into a deployment repo's tree, in place of the one that is there."""
    target = root / "classes" / "system"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(CLASSES, target)
