"""Where Salt finds our pillar and runners: the entry points `salt.loader` of pyproject.toml name these functions.

Salt asks them when it starts, in the Python environment where this package is installed (the master, or a
masterless machine). Modules and states are not here: Salt syncs those itself from the formula's file root.
"""

from __future__ import annotations

from pathlib import Path

FORMULA = Path(__file__).parent / "formula"


def pillar_dirs() -> list[str]:
    """Directories with external pillars."""
    return [str(FORMULA / "_pillar")]


def runner_dirs() -> list[str]:
    """Directories with runners."""
    return [str(FORMULA / "_runners")]
