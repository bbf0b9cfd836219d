"""One rollout at a time: a Lease in the cluster, renewed while the rollout runs.

A killed rollout's lease expires by itself; on the machine where it ran it is taken over at once.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
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

    def __init__(self, cluster: Cluster, seconds: int = 60) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._holder = f"{getpass.getuser()}@{socket.gethostname()} {_boot()} {os.getpid()}"
        self._held: Object | None = None
        self._lost = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """OperatorError E650 when another rollout holds it."""
        live = self._cluster.get("Lease", NAMESPACE, NAME)
        if live is not None:
            self._refuse_if_held(live)
        try:
            self._held = self._write(live)
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
            self._cluster.delete("Lease", NAMESPACE, NAME)

    def check(self) -> None:
        """OperatorError E651 when the lease was lost meanwhile: somebody else may be deploying."""
        if self._lost:
            raise OperatorError(
                f"the lease of this rollout was lost: {self._lost}",
                code="E651",
                hint="see `ostack-k8s status`, then run it again",
            )

    def _refuse_if_held(self, live: Object) -> None:
        spec = live["spec"]
        renewed = datetime.strptime(spec["renewTime"], _TIME).replace(tzinfo=UTC)
        left = renewed + timedelta(seconds=spec["leaseDurationSeconds"]) - datetime.now(UTC)
        holder = spec["holderIdentity"]
        if left > timedelta(0) and not _died_here(holder):
            raise OperatorError(
                f"another rollout is running: {holder.split()[0]}, process {holder.split()[-1]}",
                code="E650",
                hint=f"wait for it; if it was killed, its lease ends in {int(left.total_seconds()) + 1} s",
            )

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            try:
                self._held = self._write(self._held)
            except OperatorError as error:
                self._lost = error.problems[0].message
                return

    def _write(self, live: Object | None) -> Object:
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
        if live is None:
            return self._cluster.create(item)
        item["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return self._cluster.replace(item)


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
