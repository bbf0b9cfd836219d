"""Fill a bundle: get each artifact from its maker (source or upstream) through the cache, and put it in its place."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kubernetes_formula.bundle.artifact import Artifact, Wanted, sha256_of, wanted
from kubernetes_formula.bundle.cache import Cache
from kubernetes_formula.bundle.checksums import CONTENTS, write_sums
from kubernetes_formula.bundle.source import Source
from kubernetes_formula.bundle.upstream import Upstream
from reclass_model.errors import OperatorError
from reclass_model.repository import write_atomically


class Maker(Protocol):
    """Where artifacts come from."""

    def check(self, wanted: Wanted) -> None:
        """Raise OperatorError when this artifact cannot be made here."""

    def inputs(self, wanted: Wanted) -> dict[str, Any]:
        """All that decides the artifact's bytes (JSON values)."""

    def make(self, wanted: Wanted, work: Path, progress: Callable[[str], None]) -> Path:
        """Make it in the empty folder `work`; the file's path."""


def build(
    directory: Path, recipe: Mapping[str, Any], source: bool, progress: Callable[[str], None]
) -> list[Artifact]:
    """Fill `directory` with the artifacts of a pillar's `bundle`; what is there already is left alone.

    Raises OperatorError E701…E707. Can be interrupted and run again.
    """
    maker: Maker = Source() if source else Upstream(recipe.get("upstream") or "https://")
    entries = wanted(recipe)
    for entry in entries:
        maker.check(entry)
    try:
        return _fill(directory, entries, maker, Cache.of_user(), progress)
    except OSError as error:
        raise OperatorError(
            f"cannot write the bundle: {error}",
            code="E707",
            hint="mend that and run the same again: it goes on",
        ) from error


def _fill(
    directory: Path, entries: list[Wanted], maker: Maker, cache: Cache, progress: Callable[[str], None]
) -> list[Artifact]:
    artifacts = []
    for number, entry in enumerate(entries, 1):
        progress(f"{entry.name} {entry.version} ({number} of {len(entries)})")
        started = time.monotonic()
        cached = cache.obtain(maker.inputs(entry), partial(maker.make, entry, progress=progress))
        target = directory / entry.path
        _place(cached.path, cached.sha256, target)
        artifact = Artifact(entry.name, entry.version, entry.path, cached.sha256, target.stat().st_size)
        artifacts.append(artifact)
        write_sums(directory, [artifact])
        done = "reused" if cached.reused else f"made in {time.monotonic() - started:.1f} s"
        progress(f"{entry.name} {done}, {artifact.bytes / 1e6:.1f} MB")
    _write_contents(directory / CONTENTS, artifacts)
    return artifacts


def _write_contents(path: Path, artifacts: list[Artifact]) -> None:
    """Enter artifacts in the bundle's list; those of other paths (another version) stay."""
    listed = json.loads(path.read_text())["artifacts"] if path.is_file() else []
    ours = {artifact.path for artifact in artifacts}
    kept = [entry for entry in listed if entry["path"] not in ours]
    contents = json.dumps({"artifacts": [*map(asdict, artifacts), *kept]}, indent=2)
    write_atomically(path, contents + "\n")


def _place(cached: Path, sha256: str, target: Path) -> None:
    if target.is_file() and sha256_of(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copy(cached, part)
    os.replace(part, target)
