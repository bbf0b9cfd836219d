"""Pods: the template of a program's pods, hardened unless the model says otherwise.

Containers, variables and ports are sorted, so the order of classes never changes a pod. A workload's `command` replaces
the image's command; the image's entry point (its init process) stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes_formula.manifests import volumes
from kubernetes_formula.manifests.overlay import Object
from kubernetes_formula.manifests.patch import merge
from kubernetes_formula.manifests.program import Program, arguments, error, required
from kubernetes_formula.manifests.sealed import Sealed
from reclass_model.secrets import is_secret

_SECRET_VOLUME = "secret"

#: Seconds and counts. A pod leaves its Service after 10 s of bad answers and is restarted only after two minutes of it,
#: since a restart does not mend a dead database. One without a port serves nobody by name, and is asked less often.
_READINESS = {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}
_READINESS_WITHOUT_PORT = {"periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 1}
_LIVENESS = {"periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6}
#: Start-up may take as long, unless the probe says otherwise. It is asked for often, since whatever follows waits for
#: the answer; a command less often: each time a process is started in the container.
_START_SECONDS = 300
_START_PERIOD, _START_PERIOD_OF_COMMAND = 1, 2


def spec(program: Program, sealed: Sealed | None, *, serves: bool = True) -> Object:
    """`spec` of a pod of `program`; `serves=False` for a Job: no probes, no waiting before it ends."""
    shared = _shared(program, sealed)
    found: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": program.grace_seconds,
        "securityContext": _pod_security(program),
        "containers": [
            _container(program, name, container, shared, serves=serves)
            for name, container in sorted(program.containers.items())
        ],
    }
    if program.init_containers:
        found["initContainers"] = [
            _container(program, name, container, shared, serves=False)
            for name, container in sorted(
                program.init_containers.items(), key=lambda item: (item[1].get("order", 0), item[0])
            )
        ]
    found |= _host(program)
    if program.node_selector:
        found["nodeSelector"] = {label: str(value) for label, value in sorted(program.node_selector.items())}
    mounted = volumes.pod_volumes(program)
    if sealed and sealed.files:
        mounted.append({"name": _SECRET_VOLUME, "secret": _secret_source(sealed)})
    if mounted:
        found["volumes"] = mounted
    return found


def _host(program: Program) -> Object:
    """The machine's namespaces that the pod is in; in its network it still finds the cluster's names."""
    fields = {"network": "hostNetwork", "pid": "hostPID", "ipc": "hostIPC"}
    found: Object = {field: True for name, field in fields.items() if program.host.get(name)}
    return {**found, "dnsPolicy": "ClusterFirstWithHostNet"} if "hostNetwork" in found else found


def spread(selector: Mapping[str, str]) -> list[Object]:
    """Soft spreading over machines. Always there, so that a change of replicas changes no pod."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
    ]


def _container(
    program: Program, name: str, container: Mapping[str, Any], shared: Mapping[str, Any], *, serves: bool
) -> Object:
    path = f"{program.path}:container:{name}"
    found: Object = {"name": name, "image": program.image.reference, "imagePullPolicy": "IfNotPresent"}
    if "command" in container:
        found["args"] = arguments(container["command"], path)
    found |= {"securityContext": _container_security(program, container), **shared}
    if "resources" in container:
        found["resources"] = container["resources"]
    ports = container.get("ports", {})
    if ports:
        found["ports"] = [
            {"name": port, "containerPort": required(ports[port], "port", f"{path}:ports:{port}")}
            for port in sorted(ports)
        ]
    if serves and "probe" in container:
        probe = container["probe"]
        period = _START_PERIOD_OF_COMMAND if "command" in probe else _START_PERIOD
        tries = -(-int(probe.get("start_seconds", _START_SECONDS)) // period)
        start = {"periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": tries}
        readiness = _READINESS if ports else _READINESS_WITHOUT_PORT
        timings = {"startupProbe": start, "readinessProbe": readiness, "livenessProbe": _LIVENESS}
        for kind, timing in timings.items():
            found[kind] = {**_probe(probe, f"{path}:probe"), **timing}
    if serves and ports and program.pre_stop_seconds:
        found["lifecycle"] = {"preStop": {"sleep": {"seconds": program.pre_stop_seconds}}}
    patched: Object = merge(found, container.get("patch", {}))
    return patched


def _shared(program: Program, sealed: Sealed | None) -> Object:
    """What all containers of a program have in common."""
    found: Object = {}
    environment = [_variable(program, name, value) for name, value in sorted(program.environment.items())]
    mounted = volumes.mounts(program)
    if sealed:
        environment += [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": sealed.name, "key": name}}}
            for name in sealed.variables
        ]
        mounted += [
            {"name": _SECRET_VOLUME, "mountPath": file.path, "subPath": file.key, "readOnly": True}
            for file in sealed.files
        ]
    if environment:
        found["env"] = environment
    if mounted:
        found["volumeMounts"] = mounted
    return found


def _variable(program: Program, name: str, value: Any) -> Object:
    path = f"{program.path}:environment:{name}"
    if isinstance(value, Mapping):
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": required(value, "field", path)}}}
    if is_secret(str(value)):
        raise error(
            "E606", f"{path} holds a secret", path, hint=f"move it to {program.path}:secret_environment"
        )
    return {"name": name, "value": str(value).lower() if isinstance(value, bool) else str(value)}


def _probe(probe: Mapping[str, Any], path: str) -> Object:
    if "http" in probe:
        return {"httpGet": {"path": probe["http"], "port": required(probe, "port", path)}}
    if "command" in probe:
        return {"exec": {"command": arguments(probe["command"], path)}}
    if probe.get("tcp"):
        return {"tcpSocket": {"port": required(probe, "port", path)}}
    raise error(
        "E607", f"{path} does not say what to ask", path, hint="http: /path, tcp: true, or command: …"
    )


def _pod_security(program: Program) -> Object:
    found: Object = {"seccompProfile": {"type": "RuntimeDefault"}}
    if program.user != 0:
        found["runAsNonRoot"] = True
    if program.user is not None:
        found["runAsUser"] = program.user
    if program.group is not None:
        found |= {
            "runAsGroup": program.group,
            "fsGroup": program.group,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return found


def _container_security(program: Program, container: Mapping[str, Any]) -> Object:
    own = container.get("security", {})
    security = {**program.security, **own}
    root: Object = {"readOnlyRootFilesystem": bool(security.get("read_only_root", True))}
    if "user" in own:
        root |= {"runAsUser": int(own["user"]), "runAsNonRoot": int(own["user"]) != 0}
    if "group" in own:
        root["runAsGroup"] = int(own["group"])
    if security.get("privileged"):
        return {**root, "privileged": True}
    capabilities: Object = {"drop": ["ALL"]}
    if security.get("capabilities"):
        capabilities["add"] = sorted(security["capabilities"])
    return {**root, "allowPrivilegeEscalation": False, "capabilities": capabilities}


def _secret_source(sealed: Sealed) -> Object:
    return {
        "secretName": sealed.name,
        "items": [{"key": file.key, "path": file.key, "mode": file.mode} for file in sealed.files],
    }
