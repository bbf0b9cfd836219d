"""Workload → its controller (Deployment, StatefulSet, DaemonSet, CronJob), its Service and its disruption budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubernetes_formula.manifests import pods, volumes
from kubernetes_formula.manifests.overlay import (
    GUARDED_LABEL,
    MANAGED_BY,
    RELEASE_LABEL,
    WORKLOAD_LABEL,
    Object,
)
from kubernetes_formula.manifests.patch import merge
from kubernetes_formula.manifests.program import Program, error, required
from kubernetes_formula.manifests.sealed import Sealed

SWITCH = "switch"
ON_DELETE = "on_delete"
_ROLLOUT_DEADLINE_SECONDS = 600
_KEPT_REVISIONS = 3
#: By which Calico is asked for a certain address, not the next free one.
_ADDRESS_ANNOTATION = "projectcalico.org/loadBalancerIPs"
_HEADLESS: Object = {"clusterIP": "None", "publishNotReadyAddresses": True}


def controller(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    """The object that keeps the workload's pods running, with the workload's `patch` over its spec."""
    kind = required(description, "kind", program.path)
    if kind not in _KINDS:
        path = f"{program.path}:kind"
        raise error("E608", f"{path} is {kind!r}", path, hint=f"one of: {', '.join(sorted(_KINDS))}")
    if volumes.local_names(program) and kind != "StatefulSet":
        path = f"{program.path}:volume"
        raise error("E609", f"{program.path} is a {kind} with a local volume", path, hint="kind: StatefulSet")
    if description.get("peers") and kind != "StatefulSet":
        path = f"{program.path}:peers"
        raise error("E609", f"{program.path} is a {kind} with peers", path, hint="kind: StatefulSet")
    version, build = _KINDS[kind]
    metadata = program.metadata(_controller_name(program, description))
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {**metadata, "labels": {**metadata["labels"], **_release(program)}},
        "spec": merge(build(program, description, sealed), description.get("patch", {})),
    }


def services(program: Program, description: Mapping[str, Any]) -> Iterator[Object]:
    """The workload's Service, and the same under each of its other names; nothing when no container has a port."""
    if program.ports:
        found = _service(program, description)
        yield found
        for alias in sorted(description.get("aliases", {})):
            yield {**found, "metadata": {**found["metadata"], "name": alias}}


def _service(program: Program, description: Mapping[str, Any]) -> Object:
    ports = program.ports
    kind = description.get("type", "ClusterIP")
    spec: Object = {
        "type": "ClusterIP" if kind == "Headless" else kind,
        "selector": _selector(program, description),
        "ports": [
            {
                "name": name,
                "port": port["port"],
                "targetPort": name,
                **({"nodePort": port["node_port"]} if "node_port" in port else {}),
            }
            for name, port in sorted(ports.items())
            if not _is_internal(program, port)
        ],
    }
    if kind == "Headless":
        spec |= _HEADLESS
    metadata = program.metadata()
    if "address" in description:
        metadata["annotations"] = {_ADDRESS_ANNOTATION: json.dumps([description["address"]])}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def peers(program: Program, description: Mapping[str, Any]) -> Object | None:
    """The Service through which the pods of a StatefulSet with `peers` find each other, ready or not."""
    if not description.get("peers"):
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": program.metadata(peers_name(program)),
        "spec": {"type": "ClusterIP", "selector": {"app": program.name}, **_HEADLESS},
    }


def peers_name(program: Program) -> str:
    """The domain of a StatefulSet's pods: `<workload>-0.<workload>-peers.<namespace>.svc.…`."""
    return f"{program.name}-peers"


def network_policy(program: Program, networks: Mapping[str, str]) -> Object | None:
    """Who reaches which port of the pods; None where no port says so.

    A port without `from` is for the pods of all our namespaces and for `networks`.
    """
    if not _is_guarded(program):
        return None
    anybody = [
        {"namespaceSelector": {"matchLabels": dict(MANAGED_BY)}},
        *({"ipBlock": {"cidr": network}} for _, network in sorted(networks.items())),
    ]
    rules = [
        {
            "ports": [{"port": port["port"]}],
            "from": [
                {
                    "namespaceSelector": {"matchLabels": dict(MANAGED_BY)},
                    "podSelector": {"matchLabels": {WORKLOAD_LABEL: workload}},
                }
                for workload in sorted(port["from"])
            ]
            if "from" in port
            else anybody,
        }
        for _, port in sorted(program.ports.items())
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": program.metadata(),
        "spec": {
            "podSelector": {"matchLabels": {"app": program.name}},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def _is_guarded(program: Program) -> bool:
    return any("from" in port for port in program.ports.values())


def _is_internal(program: Program, port: Mapping[str, Any]) -> bool:
    """Whether only pods of the same workload reach it: no port of its Service."""
    return set(port.get("from", ())) == {program.workload}


def disruption_budget(program: Program, description: Mapping[str, Any]) -> Object | None:
    """At most one pod away at a time; None for a single replica, which could never be drained."""
    if replicas(description) < 2 or description["kind"] not in ("Deployment", "StatefulSet"):
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": program.metadata(),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": program.name}}},
    }


def replicas(description: Mapping[str, Any]) -> int:
    """Pods the workload wants; 1 unless it says otherwise."""
    return int(description.get("replicas", 1))


def strategy(description: Mapping[str, Any]) -> str:
    """How a change of release replaces the pods."""
    return str(description.get("upgrade", {}).get("strategy", "rolling"))


def _deployment(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    alone = replicas(description) == 1
    return {
        **_set(program, description, sealed),
        "progressDeadlineSeconds": _ROLLOUT_DEADLINE_SECONDS,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1 if alone else 0, "maxUnavailable": 0 if alone else 1},
        },
    }


def _stateful_set(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    templates = volumes.claim_templates(program)
    return {
        **_set(program, description, sealed),
        "serviceName": peers_name(program) if description.get("peers") else program.name,
        **({"podManagementPolicy": "Parallel"} if description.get("peers") else {}),
        "updateStrategy": _update(description),
        **({"volumeClaimTemplates": templates} if templates else {}),
    }


def _daemon_set(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    common = _set(program, description, sealed)
    del common["replicas"]
    return {**common, "updateStrategy": _update(description)}


def _cron_job(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    template = _template(program, pods.spec(program, sealed, serves=False) | {"restartPolicy": "Never"})
    return {
        "schedule": required(description, "schedule", program.path),
        "concurrencyPolicy": "Forbid",
        "jobTemplate": {"spec": {"backoffLimit": 1, "template": template}},
    }


def _set(program: Program, description: Mapping[str, Any], sealed: Sealed | None) -> Object:
    selector = _selector(program, description)
    spec = pods.spec(program, sealed) | {"topologySpreadConstraints": pods.spread(selector)}
    return {
        "replicas": replicas(description),
        "revisionHistoryLimit": _KEPT_REVISIONS,
        "selector": {"matchLabels": selector},
        "template": _template(program, spec),
    }


def _template(program: Program, spec: Object) -> Object:
    guarded = {GUARDED_LABEL: "true"} if _is_guarded(program) else {}
    return {"metadata": {"labels": {**program.labels(), **_release(program), **guarded}}, "spec": spec}


def _update(description: Mapping[str, Any]) -> Object:
    return {"type": "OnDelete"} if strategy(description) == ON_DELETE else {"type": "RollingUpdate"}


def _controller_name(program: Program, description: Mapping[str, Any]) -> str:
    """With `switch`, two releases stand side by side until the Service's selector is changed: each has its own name."""
    switched = strategy(description) == SWITCH and program.image.release
    return f"{program.name}-{program.image.release}" if switched else program.name


def _selector(program: Program, description: Mapping[str, Any]) -> dict[str, str]:
    switched = strategy(description) == SWITCH
    return {"app": program.name, **(_release(program) if switched else {})}


def _release(program: Program) -> dict[str, str]:
    return {RELEASE_LABEL: program.image.release} if program.image.release else {}


_Build = Callable[[Program, Mapping[str, Any], Sealed | None], Object]
_KINDS: Mapping[str, tuple[str, _Build]] = {
    "Deployment": ("apps/v1", _deployment),
    "StatefulSet": ("apps/v1", _stateful_set),
    "DaemonSet": ("apps/v1", _daemon_set),
    "CronJob": ("batch/v1", _cron_job),
}


def objects(
    program: Program, description: Mapping[str, Any], sealed: Sealed | None, networks: Mapping[str, str]
) -> Iterator[Object]:
    """All of a workload's own objects; `networks` reach its pods beside the other pods of the overlay."""
    yield from volumes.persistent(program)
    if sealed:
        yield sealed.object
    yield from services(program, description)
    for item in (
        peers(program, description),
        network_policy(program, networks),
        disruption_budget(program, description),
    ):
        if item:
            yield item
    yield controller(program, description, sealed)
