"""Where what can be made again is kept on this machine, outside of every repository: one folder for each part."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/ostack-k8s`; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ostack-k8s"
