"""The Secrets of a program: files to mount and variables, named by a digest of their content.

A changed Secret is a new object, so its pods roll and the old one stays for a rollback. The digest is over the tokens'
fingerprints: names are the same whether or not the values can be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes_formula.manifests.overlay import Object
from kubernetes_formula.manifests.program import Program, required
from reclass_model.configuration import render
from reclass_model.secrets import MASK, stable

Reveal = Callable[[Any], Any]
DEFAULT_MODE = "0440"


@dataclass(frozen=True)
class SealedFile:
    """One file of a Secret, as it is mounted."""

    path: str
    key: str  #: in the Secret
    mode: int


@dataclass(frozen=True)
class Sealed:
    """A program's Secret and how its content reaches the process."""

    name: str
    files: tuple[SealedFile, ...]
    variables: tuple[str, ...]  #: environment variables, named as their keys
    object: Object


def seal(program: Program, reveal: Reveal | None) -> Sealed | None:
    """The Secret of `program` (None when it has none); without `reveal` its values are masked."""
    if not program.secret and not program.secret_environment:
        return None
    digest = hashlib.sha256(json.dumps(_content(program, stable), sort_keys=True).encode()).hexdigest()[:10]
    content = _content(program, reveal) if reveal else dict.fromkeys(_content(program, stable), MASK)
    files = tuple(
        SealedFile(path, _key(path), int(str(file.get("mode", DEFAULT_MODE)), 8))
        for path, file in sorted(program.secret.items())
    )
    full_name = f"{program.secret_owner}-{digest}"
    item: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": program.metadata(full_name),
        "immutable": True,
        "type": "Opaque",
        "stringData": content,
    }
    return Sealed(full_name, files, tuple(sorted(program.secret_environment)), item)


def _content(program: Program, reveal: Reveal) -> dict[str, str]:
    """Key → text. Values are revealed before they are formatted, so that each format quotes what it must."""
    files = {
        _key(path): render(
            required(file, "format", f"{program.path}:secret:{path}"),
            reveal(required(file, "data", f"{program.path}:secret:{path}")),
        )
        for path, file in sorted(program.secret.items())
    }
    return {
        **files,
        **{name: str(reveal(value)) for name, value in sorted(program.secret_environment.items())},
    }


def _key(path: str) -> str:
    return path.strip("/").replace("/", "_")
