"""Pillar (`kubernetes:control`) → the overlay. Pure: the same model gives the same objects in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes_formula.manifests import controllers, jobs, volumes
from kubernetes_formula.manifests.overlay import (
    MANAGED_BY,
    PHASES,
    Endpoint,
    Image,
    Job,
    Object,
    Overlay,
    Workload,
    followed,
    key,
)
from kubernetes_formula.manifests.program import Program, of_job, of_workload, required, without_nulls
from kubernetes_formula.manifests.sealed import Reveal, seal

#: Objects are applied in this order; within a kind by name.
_APPLY_ORDER = (
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Secret",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
    "StatefulSet",
    "DaemonSet",
    "Deployment",
    "CronJob",
)


def render(control: Mapping[str, Any], images: Mapping[str, Image], reveal: Reveal | None = None) -> Overlay:
    """The overlay of `kubernetes:control`.

    `images` are keyed by the pillar path of their role. Without `reveal` the values of Secrets are `***`; every
    name is the same either way. OperatorError E6xx for a workload that cannot be rendered.
    """
    control = without_nulls(control)
    objects: dict[str, Object] = {}
    workloads: dict[str, Workload] = {}
    found_jobs: list[Job] = []
    if not control.get("enabled", True):
        return Overlay()
    for item in _namespaces(control.get("namespace", {})):
        objects[key(item)] = item
    for name, description in sorted(control.get("workload", {}).items()):
        program = of_workload(name, description, images)
        for item in controllers.objects(
            program, description, seal(program, reveal), control.get("network", {})
        ):
            objects.setdefault(key(item), item)
        for job_name, job_description in sorted(description.get("job", {}).items()):
            job_program = of_job(job_name, job_description, program, images)
            sealed = seal(job_program, reveal)
            for item in (*volumes.persistent(job_program), *([sealed.object] if sealed else [])):
                objects.setdefault(key(item), item)
            found_jobs.append(jobs.job(job_name, job_description, job_program, sealed))
        workloads[name] = _workload(program, description)
    ordered = sorted(objects.values(), key=lambda item: (_APPLY_ORDER.index(item["kind"]), key(item)))
    by_phase = {
        phase: tuple(
            sorted(
                (job for job in found_jobs if job.phase == phase),
                key=lambda job: (job.workload, job.order, job.name),
            )
        )
        for phase in PHASES
    }
    return Overlay(tuple(ordered), workloads, {phase: found for phase, found in by_phase.items() if found})


def _namespaces(namespaces: Mapping[str, Mapping[str, Any]]) -> Iterator[Object]:
    for name, namespace in namespaces.items():
        level = namespace.get("pod_security", "restricted")
        labels = {**MANAGED_BY, "pod-security.kubernetes.io/enforce": level}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _workload(program: Program, description: Mapping[str, Any]) -> Workload:
    upgrade = description.get("upgrade", {})
    after: dict[str, str] = {}
    for each in (*description.get("job", {}).values(), upgrade):
        after |= followed(each)
    after.pop(program.name, None)
    return Workload(
        name=program.name,
        namespace=program.namespace,
        service=program.service,
        role=program.role,
        kind=description["kind"],
        image=program.image.reference,
        release=program.image.release,
        replicas=controllers.replicas(description),
        after=after,
        strategy=controllers.strategy(description),
        rollback=upgrade.get("rollback", "code"),
        impact=upgrade.get("impact", "none"),
        endpoints=tuple(_endpoints(program, description)),
    )


def _endpoints(program: Program, description: Mapping[str, Any]) -> Iterator[Endpoint]:
    for name, endpoint in sorted(description.get("endpoint", {}).items()):
        yield Endpoint(name, required(endpoint, "url", f"{program.path}:endpoint:{name}"))
