"""The same workloads as Docker Compose services on one machine: development and tests without a cluster.

Every service answers to the name its Kubernetes Service would have, so that the configuration is the same. Jobs of the
`bootstrap` phase are services that end; a workload starts when its own have succeeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes_formula.manifests.controllers import replicas
from kubernetes_formula.manifests.overlay import Image, Object
from kubernetes_formula.manifests.program import (
    Program,
    arguments,
    of_job,
    of_workload,
    required,
    without_nulls,
)
from kubernetes_formula.manifests.sealed import Reveal, Sealed, seal

_POD_FIELDS = {
    "metadata.name": "{service}",
    "metadata.namespace": "{namespace}",
    "status.podIP": "0.0.0.0",
    "spec.nodeName": "localhost",
}


def compose(
    control: Mapping[str, Any], images: Mapping[str, Image], reveal: Reveal | None = None
) -> dict[str, Any]:
    """A Compose file. Secrets are files of `secret_files`, by a path relative to it."""
    services: dict[str, Any] = {}
    ready = _ready(control, images)
    named_volumes: dict[str, None] = {}
    for program, description, is_job in _programs(control, images):
        sealed = seal(program, reveal)
        for name, volume in program.volume.items():
            if volume["type"] in ("local", "shared"):
                named_volumes[_volume_name(program, name)] = None
        for container in sorted(program.containers):
            services[_service_name(program, container)] = _service(
                program, description, container, sealed, ready, is_job=is_job
            )
    return {
        "services": services,
        "networks": {"default": {}},
        "volumes": {name: {} for name in sorted(named_volumes)},
        "secrets": {name: {"file": f"./{path}"} for name, path in _secret_paths(control, images)},
    }


def secret_files(
    control: Mapping[str, Any], images: Mapping[str, Image], reveal: Reveal | None = None
) -> dict[str, str]:
    """Path beside the Compose file → text. Compose keeps their owner: write them 0444 into a 0700 directory."""
    files = {}
    for program, _, _ in _programs(control, images):
        if sealed := seal(program, reveal):
            for file in sealed.files:
                files[_secret_path(sealed, file.key)] = sealed.object["stringData"][file.key]
    return files


def _programs(
    control: Mapping[str, Any], images: Mapping[str, Image]
) -> Iterator[tuple[Program, Mapping[str, Any], bool]]:
    for name, description in sorted(without_nulls(control).get("workload", {}).items()):
        program = of_workload(name, description, images)
        yield program, description, False
        for job_name, job in _bootstrap(description):
            yield of_job(job_name, job, program, images), {**job, "workload": description}, True


def _bootstrap(description: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = [
        (name, job) for name, job in description.get("job", {}).items() if job.get("phase") == "bootstrap"
    ]
    return sorted(found, key=lambda item: (item[1].get("order", 0), item[0]))


def _secret_paths(control: Mapping[str, Any], images: Mapping[str, Image]) -> list[tuple[str, str]]:
    found = {}
    for program, _, _ in _programs(control, images):
        if sealed := seal(program, None):
            found.update(
                {_secret_name(sealed, file.key): _secret_path(sealed, file.key) for file in sealed.files}
            )
    return sorted(found.items())


def _service(
    program: Program,
    description: Mapping[str, Any],
    container: str,
    sealed: Sealed | None,
    ready: Mapping[str, Object],
    *,
    is_job: bool,
) -> Object:
    described = program.containers[container]
    path = f"{program.path}:container:{container}"
    service: Object = {
        "image": program.image.reference,
        "restart": "no" if is_job else "unless-stopped",
        "read_only": bool(program.security.get("read_only_root", True)),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": f"{program.grace_seconds}s",
    }
    if "command" in described:
        service["command"] = [_escape(word) for word in arguments(described["command"], path)]
    if program.user is not None:
        service["user"] = f"{program.user}:{program.group if program.group is not None else program.user}"
    if program.security.get("capabilities"):
        service["cap_add"] = sorted(program.security["capabilities"])
    if program.security.get("privileged"):
        service["privileged"] = True
    service["environment"] = _environment(program, container, sealed)
    if mounts := _mounts(program):
        service["volumes"] = mounts
    if sealed and sealed.files:
        service["secrets"] = [
            {"source": _secret_name(sealed, file.key), "target": file.path} for file in sealed.files
        ]
    ports = described.get("ports", {})
    published = [
        f"{port['node_port']}:{port['port']}" for _, port in sorted(ports.items()) if "node_port" in port
    ]
    if published:
        service["ports"] = published
    if not is_job:
        domain = f"{program.name}.{program.namespace}.svc.cluster.local"
        service["networks"] = {"default": {"aliases": [program.name, domain]}}
        service["deploy"] = {"replicas": 1 if published else replicas(description)}
        if "probe" in described:
            service["healthcheck"] = _healthcheck(described["probe"], ports, path)
    if waits := _depends_on(program, description, ready, is_job=is_job):
        service["depends_on"] = waits
    return service


def _ready(control: Mapping[str, Any], images: Mapping[str, Image]) -> dict[str, Object]:
    """Workload → the `depends_on` of what follows it: its services, healthy where they have a probe."""
    return {
        program.name: {
            _service_name(program, name): {
                "condition": "service_healthy" if "probe" in container else "service_started"
            }
            for name, container in sorted(program.containers.items())
        }
        for program, _, is_job in _programs(control, images)
        if not is_job
    }


def _depends_on(
    program: Program, description: Mapping[str, Any], ready: Mapping[str, Object], *, is_job: bool
) -> Object:
    """A workload waits for what it follows and for its last Job; a Job for what it follows and for the Job before."""
    waits: Object = {}
    followed = description.get("after", {}) if is_job else description.get("upgrade", {}).get("after", {})
    for name in sorted(followed):
        waits |= {service: dict(condition) for service, condition in ready.get(name, {}).items()}
    whole = description["workload"] if is_job else description
    names = [f"{program.workload}-{name}" for name, _ in _bootstrap(whole)]
    before = names[: names.index(program.name)] if is_job else names
    if before:
        waits[before[-1]] = {"condition": "service_completed_successfully"}
    return waits


def _environment(program: Program, container: str, sealed: Sealed | None) -> dict[str, str]:
    found = {}
    for name, value in sorted(program.environment.items()):
        if isinstance(value, Mapping):
            template = _POD_FIELDS.get(value.get("field", ""), "")
            text = template.format(service=_service_name(program, container), namespace=program.namespace)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        found[name] = _escape(text)
    if sealed:
        found |= {name: _escape(sealed.object["stringData"][name]) for name in sealed.variables}
    return found


def _mounts(program: Program) -> list[Object]:
    found = []
    for name, volume in sorted(program.volume.items()):
        target = required(volume, "mount", f"{program.path}:volume:{name}")
        if volume["type"] == "emptyDir":
            # A tmpfs of 1777, as an emptyDir is writable for every user of the pod.
            found.append({"type": "tmpfs", "target": target, "tmpfs": {"mode": 0o1777}})
        elif volume["type"] == "hostPath":
            found.append({"type": "bind", "source": volume["path"], "target": target})
        else:
            found.append({"type": "volume", "source": _volume_name(program, name), "target": target})
    return found


def _healthcheck(probe: Mapping[str, Any], ports: Mapping[str, Mapping[str, Any]], path: str) -> Object:
    """Asked from inside of the container by bash alone: images carry no HTTP client for this."""
    if "command" in probe:
        test = ["CMD", *(_escape(word) for word in arguments(probe["command"], path))]
    else:
        port = ports[required(probe, "port", f"{path}:probe")]["port"]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        if "http" in probe:
            request = f"GET {probe['http']} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"
            script += f" && printf '{request}' >&3 && read -r _ status _ <&3 && [[ $status == [23]* ]]"
        test = ["CMD", "bash", "-c", _escape(script)]
    return {"test": test, "interval": "5s", "timeout": "5s", "retries": 3, "start_period": "300s"}


def _service_name(program: Program, container: str) -> str:
    return program.name if len(program.containers) == 1 else f"{program.name}-{container}"


def _volume_name(program: Program, name: str) -> str:
    """Shared volumes of one path are one volume, as they are one directory in the cluster."""
    return str(program.volume[name]["path"]).strip("/").replace("/", "-")


def _secret_name(sealed: Sealed, key: str) -> str:
    return f"{sealed.name}-{key}".replace(".", "-")


def _secret_path(sealed: Sealed, key: str) -> str:
    return f"secret/{sealed.name}/{key}"


def _escape(text: str) -> str:
    """Compose replaces `$VARIABLE`; a literal dollar is doubled."""
    return text.replace("$", "$$")
