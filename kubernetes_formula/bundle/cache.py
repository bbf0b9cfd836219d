"""What was built or downloaded once: files outside the repo, found by what went into them.

An entry is a folder named by the digest of its inputs; the file in it is named by the digest of its content, so that a
damaged one is noticed and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes_formula.bundle.artifact import sha256_of
from reclass_model.cache import cache_directory


@dataclass(frozen=True)
class Entry:
    """A file in the cache."""

    path: Path
    sha256: str
    reused: bool  #: it was there already


@dataclass(frozen=True)
class Cache:
    """The cache in one directory; safe for several processes."""

    root: Path

    @classmethod
    def of_user(cls) -> Cache:
        """The artifacts in this user's cache."""
        return cls(cache_directory() / "artifacts")

    def obtain(self, inputs: Mapping[str, Any], make: Callable[[Path], Path]) -> Entry:
        """The file for these inputs; `make` is given an empty folder to work in and returns the file it made there."""
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]
        folder = self.root / key
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            work = folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            for path in folder.iterdir():
                if len(path.name) == 64:
                    if sha256_of(path) == path.name:
                        return Entry(path, path.name, reused=True)
                    path.unlink()
            work.mkdir()
            try:
                made = make(work)
                sha256 = sha256_of(made)
                os.replace(made, folder / sha256)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return Entry(folder / sha256, sha256, reused=False)
