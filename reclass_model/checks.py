"""The checks of the model, `kubernetes:control:smoke`, in the order in which they are asked.

Read by what runs them and by `validate`, so that both agree on what comes before what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reclass_model.inventory import get

SMOKE = "kubernetes:control:smoke"
#: The variable that every check knows: another text in every run, for the names of what it makes.
BUILT_IN = "run"


def declared(parameters: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and description of each check, by `order`, then by name; those deleted (null) are not there."""
    found = get(parameters, SMOKE, None) or {}
    present = [(name, check) for name, check in found.items() if isinstance(check, Mapping)]
    return sorted(present, key=lambda item: (int(item[1].get("order") or 0), item[0]))
