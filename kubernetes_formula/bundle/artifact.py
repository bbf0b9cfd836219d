"""What the model says is in the bundle (`Wanted`) and what lies there (`Artifact`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError


@dataclass(frozen=True)
class Wanted:
    """One entry of the pillar's `bundle:artifact`."""

    name: str
    version: str  #: without the leading v
    path: str  #: relative to the bundle
    image: str | None  #: for an image archive: the name it is imported under
    sha256: str | None  #: the model's checksum, if it has one


@dataclass(frozen=True)
class Artifact:
    """One file of the bundle."""

    name: str
    version: str
    path: str
    sha256: str
    bytes: int


def wanted(recipe: Mapping[str, Any]) -> list[Wanted]:
    """The artifacts of a pillar's `bundle`, in its order; nulls are skipped.

    Raises OperatorError E701 when there is none or one is incomplete.
    """
    entries = {name: entry for name, entry in (recipe.get("artifact") or {}).items() if entry is not None}
    if not entries:
        raise OperatorError(
            "the model names no artifacts (bundle:artifact is empty)",
            code="E701",
            hint="include class system.bundle",
        )
    for name, entry in entries.items():
        for key in ("version", "path"):
            if not entry.get(key):
                raise OperatorError(f"bundle:artifact:{name}:{key} is not set", code="E701")
    sums = recipe.get("checksum") or {}
    return [
        Wanted(name, str(entry["version"]), entry["path"], entry.get("image"), sums.get(entry["path"]))
        for name, entry in entries.items()
    ]


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
