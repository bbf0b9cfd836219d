"""The overlay as values: what `render` gives, what a rollout compares, applies and records.

Objects are plain dicts as the Kubernetes API takes them; the rest is what an object cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Object = dict[str, Any]

#: Deployed together, removed together: the label every object of ours carries.
MANAGED_BY = {"app.kubernetes.io/managed-by": "ostack-k8s"}
WORKLOAD_LABEL = "ostack-k8s.io/workload"
RELEASE_LABEL = "ostack-k8s.io/release"
#: Pods with a NetworkPolicy of their own: that of their whole namespace leaves them out.
GUARDED_LABEL = "ostack-k8s.io/guarded"

#: Kinds of objects that keep pods running.
CONTROLLERS = ("StatefulSet", "DaemonSet", "Deployment", "CronJob")

#: Phases of Jobs, in the order in which a rollout runs them; it leaves `manual` to a person.
PHASES = (
    "check",
    "snapshot",
    "bootstrap",
    "expand",
    "migrate",
    "configure",
    "contract",
    "online",
    "manual",
)

#: Short names in the names of manifest files.
_FILE_KINDS = {"Service": "svc"}


@dataclass(frozen=True)
class Image:
    """What a pod needs to know of an image."""

    reference: str  #: host:port/name:tag
    release: str | None = None  #: OpenStack release, None for infrastructure
    user: Mapping[str, Any] | None = None  #: {name, uid, gid} as in the pillar
    package: str = ""  #: host:port/name:tag of its packages alone, without the role's configuration


@dataclass(frozen=True)
class Endpoint:
    """An address that clients outside of the cluster use, measured during a rollout."""

    name: str
    url: str  #: answers below 400


@dataclass(frozen=True)
class Job:
    """A Job of a workload, run by the rollout in its phase."""

    workload: str
    name: str  #: as in the pillar: "db-sync"
    phase: str  #: one of PHASES
    order: int
    object: Object
    after: Mapping[str, str] | None = None  #: as of a Workload; None: what its workload follows


@dataclass(frozen=True)
class Workload:
    """What the rollout knows of a workload beside its objects."""

    name: str
    namespace: str
    service: str
    role: str
    kind: str
    image: str
    release: str | None
    replicas: int
    #: Workload that must be healthy before this one (and its Jobs) → how much of it a first start waits for: `all` of
    #: it, its `bootstrap` Jobs, or `nothing`.
    after: Mapping[str, str] = field(default_factory=dict)
    strategy: str = "rolling"  #: rolling | switch | recreate | on_delete, for a change of release
    rollback: str = "code"  #: code | snapshot
    impact: str = "none"  #: of replacing its pods: none | api | data_plane
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """All of the overlay: objects in apply order, and the Jobs by phase."""

    objects: tuple[Object, ...] = ()
    workloads: dict[str, Workload] = field(default_factory=dict)
    jobs: dict[str, tuple[Job, ...]] = field(default_factory=dict)

    def by_key(self) -> dict[str, Object]:
        """The objects by `key`, in apply order."""
        return {key(item): item for item in self.objects}

    def jobs_of(self, workload: str, *phases: str) -> list[Job]:
        """The Jobs of one workload in these phases, in the order in which they run."""
        return [job for phase in phases for job in self.jobs.get(phase, ()) if job.workload == workload]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the record in the cluster."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Overlay:
        """The inverse of `as_dict`."""
        workloads = {
            name: Workload(
                **{
                    **value,
                    "endpoints": tuple(Endpoint(**each) for each in value["endpoints"]),
                }
            )
            for name, value in data["workloads"].items()
        }
        jobs = {phase: tuple(Job(**job) for job in found) for phase, found in data["jobs"].items()}
        return cls(tuple(data["objects"]), workloads, jobs)


def followed(description: Mapping[str, Any]) -> dict[str, str]:
    """`after` of a workload's `upgrade` or of a Job: workload → all, bootstrap or nothing (see Workload)."""
    return {
        name: str(entry.get("at_first", "all"))
        for name, entry in sorted(description.get("after", {}).items())
    }


def key(item: Mapping[str, Any]) -> str:
    """`Kind/namespace/name`; the namespace is empty for cluster-scoped objects."""
    metadata = item["metadata"]
    return f"{item['kind']}/{metadata.get('namespace', '')}/{metadata['name']}"


def owner(item: Mapping[str, Any]) -> str:
    """The workload an object belongs to, or nothing."""
    return str(item["metadata"].get("labels", {}).get(WORKLOAD_LABEL, ""))


def file_name(item: Mapping[str, Any]) -> str:
    """The manifest's file: `<service>-<role>-<kind>-<name>.yml`, `<kind>-<name>.yml` for what belongs to no service."""
    labels = item["metadata"].get("labels", {})
    kind = _FILE_KINDS.get(item["kind"], item["kind"].lower())
    parts = [labels.get("app.kubernetes.io/name"), labels.get("app.kubernetes.io/component"), kind]
    return "-".join([*(part for part in parts if part), item["metadata"]["name"]]) + ".yml"
