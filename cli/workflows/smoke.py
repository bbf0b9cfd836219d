"""The checks that end a deployment: HTTP requests that the model declares under `kubernetes:control:smoke`.

What a service must answer is knowledge of the class library; here is only the asking: one request after the other,
each may use what an earlier answer gave, and what they made is removed at the end, whatever happened.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reclass_model.checks import BUILT_IN, declared
from reclass_model.endpoints import authority
from reclass_model.errors import OperatorError
from reclass_model.inventory import get, selects
from reclass_model.variables import fill, used

if TYPE_CHECKING:
    import requests

    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring

REQUEST_SECONDS = 30.0
PAUSE_SECONDS = 1.0  # between two times of asking, where a check waits
GONE = 404

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One request and whether it was answered as the model says."""

    name: str
    result: str  # ok | failed | skipped
    seconds: float
    detail: str


@dataclass(frozen=True)
class _Answer:
    """What one time of asking gave."""

    detail: str
    good: bool = False
    hopeless: bool = False  #: asking again cannot help
    captured: Mapping[str, str] = field(default_factory=dict)


def run_checks(
    inventory: Inventory, keyring: Keyring, progress: Progress, *, without: Collection[str] = ()
) -> list[Check]:
    """Every check in order, then what removes the traces of those that were made, the latest first.

    A failed one stops only those that need what it would have given. Left out are checks whose `when` is empty, and
    those that need more machines than there are or one of `without`: workloads that do not run here.
    """
    parameters = inventory.config_node().parameters
    workloads = _Workloads(inventory, without)
    run = _Run(parameters, keyring, progress)
    asked: list[tuple[str, Mapping[str, Any]]] = []
    with run.connected():
        try:
            for name, request in declared(parameters):
                if request.get("when") not in ("", False) and workloads.suffice(request.get("needs") or {}):
                    asked.append((name, request))
                    run.ask(name, request)
        finally:
            for name, request in reversed(asked):
                cleanup = request.get("cleanup")
                if cleanup and used(cleanup) <= run.variables.keys():
                    run.ask(f"{name} (cleanup)", cleanup, removes=True)
    return run.checks


class _Workloads:
    """Where the workloads run that checks need."""

    def __init__(self, inventory: Inventory, without: Collection[str]) -> None:
        self._inventory, self._without = inventory, without

    def suffice(self, needs: Mapping[str, Mapping[str, Any] | None]) -> bool:
        """Whether all of {<workload>: {machines: <at least>}} are here."""
        if set(self._without) & needs.keys():
            return False
        counted = {name: need["machines"] for name, need in needs.items() if need and "machines" in need}
        return all(self._machines(name) >= wanted for name, wanted in counted.items())

    def _machines(self, name: str) -> int:
        """How many machines can run the workload."""
        workload = get(self._inventory.config_node().parameters, f"kubernetes:control:workload:{name}")
        return sum(selects(workload, labels) for labels in self._labels)

    @cached_property
    def _labels(self) -> list[Mapping[str, Any] | None]:
        """Of all machines, rendered only if a check asks."""
        return [node.labels for node in self._inventory.nodes()]


class _Run:
    """One pass over the checks: the variables so far, and the results."""

    def __init__(self, parameters: Mapping[str, Any], keyring: Keyring, progress: Progress) -> None:
        self._parameters, self._keyring, self._progress = parameters, keyring, progress
        self.variables = {BUILT_IN: secrets.token_hex(4)}
        self.checks: list[Check] = []

    @contextmanager
    def connected(self) -> Iterator[None]:
        """While the session is there. It trusts the model's CA beside those that this system trusts."""
        import requests
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        with requests.Session() as self._session, tempfile.NamedTemporaryFile("w", suffix=".pem") as trusted:
            trusted.write(Path(DEFAULT_CA_BUNDLE_PATH).read_text() + (authority(self._parameters) or ""))
            trusted.flush()
            self._trusted = trusted.name
            yield

    def ask(self, name: str, request: Mapping[str, Any], *, removes: bool = False) -> None:
        """One check: until it is answered as it says, hopeless, or its time is over."""
        began = time.monotonic()
        request = {key: value for key, value in request.items() if key != "cleanup"}
        if missing := sorted(used(request) - self.variables.keys()):
            self._note(Check(name, "skipped", 0.0, f"no check before gave {', '.join(missing)}"))
            return
        filled = fill(request, self.variables, self._keyring.reveal)
        end = began + float(filled.get("within", 0))
        while True:
            answer = self._once(filled, removes=removes)
            if answer.good or answer.hopeless or time.monotonic() + PAUSE_SECONDS > end:
                break
            time.sleep(PAUSE_SECONDS)
        self.variables |= answer.captured
        result = "ok" if answer.good else "failed"
        self._note(Check(name, result, round(time.monotonic() - began, 3), answer.detail))

    def _note(self, check: Check) -> None:
        self.checks.append(check)
        self._progress(f"{check.name}: {check.result} in {check.seconds:.1f} s")

    def _once(self, request: Mapping[str, Any], *, removes: bool) -> _Answer:
        import requests

        method, url, status = request.get("method", "GET"), request["url"], int(request.get("status", 200))
        try:
            answer = self._session.request(
                method,
                url,
                headers=request.get("headers"),
                json=request.get("body"),
                data=_content(request["upload"]) if "upload" in request else None,
                verify=self._trusted,
                timeout=REQUEST_SECONDS,
            )
        except requests.RequestException as error:
            return _Answer(f"{method} {url}: {error}")
        detail = f"{method} {url} answered {answer.status_code}"
        if removes and answer.status_code == GONE:
            return _Answer(detail, good=True)
        document = _document(answer)
        for path, value in request.get("never", {}).items():
            if _find(document, path) == value:
                return _Answer(f"{detail}, {path} is {value}", hopeless=True)
        if answer.status_code != status:
            words = " ".join(answer.text.split())[:200] if answer.status_code >= 400 else ""
            return _Answer(f"{detail}, expected {status}" + (f": {words}" if words else ""))
        for path, wanted in request.get("expect", {}).items():
            if wrong := _differs(_find(document, path), wanted):
                return _Answer(f"{detail}, {path} {wrong}")
        captured = {}
        for name, place in request.get("capture", {}).items():
            value = (
                answer.headers.get(place["header"]) if "header" in place else _find(document, place["json"])
            )
            if value is None:
                return _Answer(f"{detail} without {place.get('header') or place['json']}")
            captured[name] = str(value)
        return _Answer(detail, good=True, captured=captured)


def _content(upload: Mapping[str, str]) -> bytes:
    """What is sent as it is."""
    if "text" in upload:
        return upload["text"].encode()
    if "base64" in upload:
        return base64.b64decode(upload["base64"])
    try:
        return Path(upload["file"]).read_bytes()
    except OSError as error:
        raise OperatorError(
            f"a check uploads {upload['file']}, which cannot be read: {error.strerror}", code="E044"
        ) from None


def _document(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _find(document: Any, path: str) -> Any:
    """The value at "servers.0.status"; None where there is none."""
    for key in path.split("."):
        if isinstance(document, list) and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        elif isinstance(document, Mapping) and key in document:
            document = document[key]
        else:
            return None
    return document


def _differs(value: Any, wanted: Any) -> str | None:
    """How a value is not as wanted; None when it is."""
    if isinstance(wanted, Mapping):
        text = value if isinstance(value, str) else json.dumps(value)
        return None if re.search(wanted["match"], text) else f"does not match {wanted['match']!r}"
    return None if value == wanted else f"is {json.dumps(value)[:100]}, expected {json.dumps(wanted)}"
