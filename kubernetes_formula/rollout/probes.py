"""How available the APIs were during a rollout: each endpoint is asked more than ten times a second.

From where deploy runs; each request is a new connection, as a new client's would be.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from kubernetes_formula.manifests import Overlay

#: Seconds between two requests; shorter than a tenth, so that ten a second are reached.
INTERVAL = 0.08
TIMEOUT = 5.0
#: Requests of one endpoint that may be under way at once: slow answers do not slow the measuring.
_PARALLEL = 8


@dataclass
class Measurement:
    """What became of the requests to one endpoint."""

    requests: int = 0
    failed: int = 0
    longest_gap_s: float = 0.0  #: longest time without a successful answer
    seconds: float = 0.0  #: measured for so long

    def as_dict(self) -> dict[str, float]:
        """For the record and `-o json`."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "longest_gap_s": round(self.longest_gap_s, 3),
            "seconds": round(self.seconds, 3),
        }


def endpoints(overlay: Overlay | None) -> dict[str, str]:
    """Endpoint → URL; none when nothing is deployed yet."""
    workloads = overlay.workloads.values() if overlay else ()
    return {endpoint.name: endpoint.url for workload in workloads for endpoint in workload.endpoints}


class Probes:
    """Context manager: measures inside; `results` afterwards.

    `authority`: certificates (PEM) of CAs that are trusted beside those that this system trusts.
    """

    def __init__(self, urls: Mapping[str, str], authority: str | None = None) -> None:
        trust = ssl.create_default_context()
        if authority:
            trust.load_verify_locations(cadata=authority)
        self._probes = [_Probe(name, url, trust) for name, url in sorted(urls.items())]

    def __enter__(self) -> Probes:
        for probe in self._probes:
            probe.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for probe in self._probes:
            probe.stopping.set()
        for probe in self._probes:
            probe.stop()

    def results(self) -> dict[str, dict[str, float]]:
        """Endpoint → measurement."""
        return {probe.name: probe.measurement.as_dict() for probe in self._probes}


class _Probe:
    def __init__(self, name: str, url: str, trust: ssl.SSLContext) -> None:
        self.name = name
        self.measurement = Measurement()
        self._url, self._trust = url, trust
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._free = threading.Semaphore(_PARALLEL)
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix=f"probe-{name}")
        self._thread = threading.Thread(target=self._run, name=f"probe-{name}", daemon=True)
        self._begun = self._succeeded = time.monotonic()

    def start(self) -> None:
        self._begun = self._succeeded = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join()
        self._pool.shutdown()
        now = time.monotonic()
        self._gap(now)
        self.measurement.seconds = now - self._begun

    def _run(self) -> None:
        due = time.monotonic()
        while not self.stopping.wait(max(0.0, due - time.monotonic())):
            due += INTERVAL
            if self._free.acquire(
                blocking=False
            ):  # else none is sent: they would queue up for longer than the outage
                self._pool.submit(self._ask)

    def _ask(self) -> None:
        try:
            failure = request(self._url, self._trust)
        finally:
            self._free.release()
        with self._lock:
            self.measurement.requests += 1
            if failure:
                self.measurement.failed += 1
            else:
                now = time.monotonic()
                self._gap(now)
                self._succeeded = now

    def _gap(self, now: float) -> None:
        self.measurement.longest_gap_s = max(self.measurement.longest_gap_s, now - self._succeeded)


def request(url: str, trust: ssl.SSLContext) -> str:
    """Ask once, on a new connection. What went wrong, empty when the answer was good (status below 400)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=trust)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
    )
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status < 400 else f"HTTP status {answer.status}"
    except (OSError, http.client.HTTPException) as wrong:
        return str(wrong) or type(wrong).__name__
    finally:
        connection.close()


def combined(measured: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The measurements of a rollout that ran in several goes, as one."""
    total: dict[str, dict[str, float]] = {}
    for results in measured:
        for name, result in results.items():
            before = total.get(name)
            total[name] = (
                {
                    field: max(before[field], value)
                    if field == "longest_gap_s"
                    else round(before[field] + value, 3)
                    for field, value in result.items()
                }
                if before
                else dict(result)
            )
    return total
