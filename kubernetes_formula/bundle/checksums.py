"""The bundle's checksums: its own list (SHA256SUMS), the model's, and how the one gets into the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubernetes_formula.bundle.artifact import Artifact, Wanted, sha256_of, wanted
from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import Repository, write_atomically

SUMS = "SHA256SUMS"
CONTENTS = "bundle.json"
REBUILD = "run `ostack-k8s bundle build` again: it replaces what is not right"
RECORDED = "underlay/bundle.yml"
HEADER = """\
---
# What each artifact of the bundle must hash to, by its path (which names the version).
# Written by `ostack-k8s bundle build` and `bundle verify --record`.
"""


def write_sums(directory: Path, artifacts: Sequence[Artifact]) -> None:
    """Enter artifacts in the bundle's SHA256SUMS; the lines of other files stay."""
    sums = read_sums(directory) | {artifact.path: artifact.sha256 for artifact in artifacts}
    write_atomically(directory / SUMS, "".join(f"{sums[path]}  {path}\n" for path in sorted(sums)))


def read_sums(directory: Path) -> dict[str, str]:
    """Path → SHA-256 of the bundle's SHA256SUMS (`sha256sum -c` reads it too); empty when there is none."""
    try:
        lines = (directory / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {path: sha256 for sha256, _, path in (line.partition("  ") for line in lines)}


def verify(directory: Path, expected: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a bundle: each file that is missing, damaged, or not what the model's checksum says.

    `expected` is a pillar's `bundle`.
    """
    _, problems = _survey(directory, wanted(expected))
    return problems


def inspect(directory: Path, recipe: Mapping[str, Any]) -> list[Artifact]:
    """The model's artifacts as they lie in the bundle. OperatorError when one is missing or not what SHA256SUMS says.

    The model's own checksums are left aside: this is what `record` is given.
    """
    entries = [Wanted(entry.name, entry.version, entry.path, entry.image, None) for entry in wanted(recipe)]
    artifacts, problems = _survey(directory, entries, recorded=False)
    if problems:
        raise OperatorError.of(*problems)
    return artifacts


def record(repository: Repository, artifacts: Sequence[Artifact]) -> Path:
    """Enter the artifacts' checksums, by path, in the cluster level of the model; the file's path.

    Those of other paths stay: versions that are not used now, or not yet, keep theirs.
    """
    target = repository.cluster_dir / RECORDED
    document = yaml.safe_load(target.read_text(encoding="utf-8")) if target.is_file() else None
    bundle = ((document or {}).get("parameters") or {}).get("bundle") or {}
    sums = (bundle.get("checksum") or {}) | {artifact.path: artifact.sha256 for artifact in artifacts}
    text = yaml.safe_dump({"parameters": {"bundle": {"checksum": dict(sorted(sums.items()))}}}, width=1 << 16)
    write_atomically(target, HEADER + text)
    return target


def _survey(
    directory: Path, entries: Sequence[Wanted], recorded: bool = True
) -> tuple[list[Artifact], list[Problem]]:
    sums = read_sums(directory)
    artifacts: list[Artifact] = []
    problems: list[Problem] = []
    for entry in entries:
        path = directory / entry.path
        pillar = f"bundle:artifact:{entry.name}"
        if not path.is_file():
            problems.append(Problem("E708", f"{path} is missing", path=pillar, hint=REBUILD))
            continue
        found = sha256_of(path)
        artifacts.append(Artifact(entry.name, entry.version, entry.path, found, path.stat().st_size))
        if sums.get(entry.path) != found:
            said = f"{SUMS} says {sums[entry.path]}" if entry.path in sums else f"{SUMS} does not name it"
            problems.append(Problem("E709", f"{path} has sha256 {found}, {said}", path=pillar, hint=REBUILD))
        elif recorded and entry.sha256 is None:
            hint = "run `ostack-k8s bundle verify --record`"
            problems.append(
                Problem("E710", f"the model has no checksum for {entry.name}", path=pillar, hint=hint)
            )
        elif recorded and entry.sha256 != found:
            hint = f"{REBUILD}; if the bundle is right, run `ostack-k8s bundle verify --record`"
            problems.append(
                Problem(
                    "E706",
                    f"{path} has sha256 {found}, the model says {entry.sha256}",
                    path=pillar,
                    hint=hint,
                )
            )
    return artifacts, problems
