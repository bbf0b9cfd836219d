"""The checks that end a deployment: HTTP requests that the model declares under `kubernetes:control:smoke`.

What a service must answer is knowledge of the class library; here is only the asking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Check:
    """One request and whether it was answered as the model says."""

    name: str
    result: str  # ok | failed
    seconds: float
    detail: str


def run_checks(inventory: Inventory, keyring: Keyring, progress: Callable[[str], None]) -> list[Check]:
    """Every check, in the order of their names; a failed one does not stop the others."""
    from reclass_model.inventory import get

    declared = get(inventory.config_node().parameters, "kubernetes:control:smoke", {})
    checks = []
    for name, request in sorted(declared.items()):
        if request is None:
            continue
        check = _ask(name, keyring.reveal(request))
        progress(f"{check.name}: {check.result} ({check.detail})")
        checks.append(check)
    return checks


def _ask(name: str, request: Mapping[str, Any]) -> Check:
    import requests

    started = time.monotonic()
    expected = int(request.get("status", 200))
    try:
        answer = requests.request(
            request.get("method", "GET"),
            request["url"],
            json=request.get("body"),
            headers=request.get("headers"),
            timeout=TIMEOUT_SECONDS,
        )
        result = "ok" if answer.status_code == expected else "failed"
        detail = f"{request['url']} answered {answer.status_code}"
        if result == "failed":
            detail += f", expected {expected}"
    except requests.RequestException as error:
        result, detail = "failed", f"{request['url']}: {error}"
    return Check(name, result, round(time.monotonic() - started, 3), detail)
