"""What the cluster is like now: each workload's health, the latest rollout, and what differs from the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from kubernetes_formula.manifests import Object, Overlay, key
from kubernetes_formula.manifests.overlay import CONTROLLERS, MANAGED_BY, RELEASE_LABEL
from kubernetes_formula.rollout.changes import GENERATION_KINDS, differences
from kubernetes_formula.rollout.cluster import Cluster
from kubernetes_formula.rollout.health import health, troubles
from kubernetes_formula.rollout.record import Records

#: Parts of a live object that the API server writes.
_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


@dataclass(frozen=True)
class WorkloadStatus:
    """One workload as it runs."""

    name: str
    kind: str
    release: str | None  #: the one that runs, whatever the model says by now
    ok: bool
    message: str  #: counts, and what keeps pods from running


@dataclass(frozen=True)
class Drift:
    """One object that is not as the model says."""

    kind: str
    namespace: str
    name: str
    difference: str  #: missing | unknown | changed
    fields: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """As `kubernetes_formula.manifests.key`."""
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Status:
    """The answer of `status`."""

    workloads: tuple[WorkloadStatus, ...]
    rollout: dict[str, Any] | None  #: the latest record, without object sets
    drift: tuple[Drift, ...]

    def as_dict(self) -> dict[str, Any]:
        """For `-o json`."""
        return {
            "workloads": [asdict(each) for each in self.workloads],
            "rollout": self.rollout,
            "drift": [asdict(each) for each in self.drift],
        }


def status(cluster: Cluster, desired: Overlay) -> Status:
    """Compare the cluster with `desired` (Secrets may be masked: they are compared by name)."""
    record = Records(cluster).latest()
    workloads = tuple(
        _workload_status(cluster, item) for item in desired.objects if item["kind"] in CONTROLLERS
    )
    return Status(workloads, record.as_dict() if record else None, tuple(drift(cluster, desired)))


def _workload_status(cluster: Cluster, item: Object) -> WorkloadStatus:
    kind, namespace, name = key(item).split("/")
    live = cluster.get(kind, namespace, name)
    found = health(live)
    why = (
        []
        if found.ok
        else troubles(cluster.list("Pod", namespace, {"app": item["metadata"]["labels"]["app"]}))
    )
    message = "; ".join([found.message, *map(str, why)])
    release = live["metadata"]["labels"].get(RELEASE_LABEL) if live else None
    return WorkloadStatus(name, kind, release, found.ok, message)


def drift(cluster: Cluster, desired: Overlay) -> Iterator[Drift]:
    """Each object that is missing, changed (also by hand), or unknown to the model. Nothing is written."""
    for item in desired.objects:
        kind, namespace, name = key(item).split("/")
        live = cluster.get(kind, namespace, name)
        if live is None:
            yield Drift(kind, namespace, name, "missing")
        elif kind not in GENERATION_KINDS:
            # The server says what applying would change, with its own defaults; nothing is written.
            fields = tuple(differences(_comparable(live), _comparable(cluster.apply(item, dry_run=True))))
            if fields:
                yield Drift(kind, namespace, name, "changed", fields)
    known = desired.by_key()
    for namespace in sorted({workload.namespace for workload in desired.workloads.values()}):
        for kind in (*CONTROLLERS, "Service"):
            for live in cluster.list(kind, namespace, MANAGED_BY):
                if key(live) not in known:
                    yield Drift(kind, namespace, live["metadata"]["name"], "unknown")


def _comparable(live: Object) -> Object:
    metadata = {name: value for name, value in live["metadata"].items() if name not in _SERVER_FIELDS}
    return {**live, "metadata": metadata, "status": None}
