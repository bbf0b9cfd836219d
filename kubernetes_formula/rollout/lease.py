"""One rollout at a time: a Lease in the cluster, renewed while the rollout runs.

A killed rollout's lease expires by itself; on the machine where it ran it is taken over at once.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType

from kubernetes_formula.manifests import Object
from kubernetes_formula.rollout.cluster import Cluster, Refused
from kubernetes_formula.rollout.record import NAMESPACE
from reclass_model.errors import OperatorError

NAME = "ostack-k8s-deploy"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Lease:
    """Context manager: holds the lease inside. `seconds`: how long it outlives a holder that was killed."""

    def __init__(
        self, cluster: Cluster, seconds: int = 60, progress: Callable[[str], None] = lambda line: None
    ) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._progress = progress
        self._holder = f"{getpass.getuser()}@{socket.gethostname()} {_boot()} {os.getpid()}"
        self._held: Object = {}
        self._ends = 0.0
        self._lost = ""
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """OperatorError E650 when another rollout holds it."""
        live = self._cluster.get("Lease", NAMESPACE, NAME)
        if live is not None:
            live = self._free(live)
        try:
            self._write(self._cluster, live)
        except Refused as refusal:
            if refusal.status == 409:
                raise OperatorError(
                    "another rollout has just begun", code="E650", hint="see `ostack-k8s status`"
                ) from None
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if not self._lost:
            with suppress(
                OperatorError
            ):  # it ends by itself, and is somebody else's if it was written meanwhile
                self._cluster.hurried().delete("Lease", NAMESPACE, NAME, version=_version(self._held))

    @property
    def held(self) -> bool:
        """Whether nobody else has it, as far as is known here."""
        return not self._lost

    def check(self) -> None:
        """OperatorError E651 when the lease was lost meanwhile: somebody else may be deploying.

        One that only ran out (the API was away, this machine slept) is taken again if nobody else has.
        """
        if self.held and _uptime() > self._ends:
            self._renew(self._cluster)
        if not self.held:
            raise OperatorError(
                f"the lease of this rollout was lost: {self._lost}",
                code="E651",
                hint="see `ostack-k8s status`, then run it again",
            )

    def _free(self, live: Object) -> Object | None:
        """The lease as it is to be taken over; OperatorError E650 when its holder lives."""
        holder, left = live["spec"]["holderIdentity"], self._left(live)
        if _died_here(holder):
            return live
        if left <= 0:  # by this machine's clock; its holder's may be another, so: does it renew it?
            wait = self._seconds / 2
            self._progress(
                f"the lease of {holder.split()[0]} has ended: if it is not renewed in {wait:.0f} s, it is taken"
            )
            time.sleep(wait)
            now = self._cluster.get("Lease", NAMESPACE, NAME)
            if now is None or _version(now) == _version(live):
                return now
            holder, left = now["spec"]["holderIdentity"], float(self._seconds)
        raise OperatorError(
            f"another rollout is running: {holder.split()[0]}, process {holder.split()[-1]}",
            code="E650",
            hint=f"wait for it; if it was killed, its lease ends in {int(left) + 1} s",
        )

    def _left(self, live: Object) -> float:
        spec = live["spec"]
        renewed = datetime.strptime(spec["renewTime"], _TIME).replace(tzinfo=UTC)
        return (renewed + timedelta(seconds=spec["leaseDurationSeconds"]) - datetime.now(UTC)).total_seconds()

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            with suppress(
                OperatorError
            ):  # the API is away: it is tried again next time, and before the next step
                self._renew(self._cluster.hurried())

    def _renew(self, cluster: Cluster) -> None:
        try:
            self._write(cluster, self._held)
        except Refused as refusal:
            if refusal.status not in (404, 409):
                raise
            self._lost = refusal.problems[0].message

    def _write(self, cluster: Cluster, live: Object | None) -> None:
        """Take or renew the lease, only if nobody wrote it since `live` was read."""
        item: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": self._seconds,
                "renewTime": datetime.now(UTC).strftime(_TIME),
            },
        }
        with self._writing:
            begun = _uptime()
            try:
                if live is None:
                    self._held = cluster.create(item)
                else:
                    item["metadata"]["resourceVersion"] = _version(live)
                    self._held = cluster.replace(item)
            except Refused as refusal:
                found = cluster.get("Lease", NAMESPACE, NAME) if refusal.status == 409 else None
                if found is None or found["spec"]["holderIdentity"] != self._holder:
                    raise
                self._held = found  # it was written: only the answer was lost
            self._ends = begun + self._seconds


def _version(live: Object) -> str:
    return str(live["metadata"]["resourceVersion"])


def _uptime() -> float:
    """Seconds, also those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _died_here(holder: str) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    place, boot, process = holder.split()
    if place.partition("@")[2] != socket.gethostname():
        return False
    if boot != _boot():
        return True
    try:
        os.kill(int(process), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _boot() -> str:
    """Differs after each start of the machine, when process numbers begin anew."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "-"
