"""The same workloads as Docker Compose services on one machine: development and tests without a cluster.

Every service answers to the name its Kubernetes Service would have, so that the configuration is the same. Jobs that
set a workload up are services that end: it starts when those of the `bootstrap` phase have succeeded, and what follows
it starts when those of `configure` have. Each workload runs once. What belongs to machines (DaemonSets) or waits for a
clock (CronJobs) is left out; raw Kubernetes fields (`patch`) are not seen.

As in a pod, the containers of a workload share one network, and volumes are there for the user that writes to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes_formula.manifests.jobs import RETRIES
from kubernetes_formula.manifests.overlay import Image, Object, followed
from kubernetes_formula.manifests.program import (
    Program,
    arguments,
    of_job,
    of_workload,
    required,
    without_nulls,
)
from kubernetes_formula.manifests.sealed import Reveal, Sealed, seal
from kubernetes_formula.manifests.volumes import EMPTY_DIR, HOST_PATH

_LEFT_OUT = ("DaemonSet", "CronJob")
#: Phases of the Jobs that set a workload up: before it starts, and when it serves.
_BEFORE, _AFTER = "bootstrap", "configure"
_POD_FIELDS = {
    "metadata.name": "{hostname}",
    "metadata.namespace": "{namespace}",
    "status.podIP": "0.0.0.0",
    "spec.nodeName": "localhost",
}
#: As often as Kubernetes starts a failed Job again.
_ONCE = f"on-failure:{RETRIES}"
#: The service that ends first: it gives the volumes to those who write to them.
_OWNERS = "volume-owners"
_ENDED = {"condition": "service_completed_successfully"}


@dataclass(frozen=True)
class _Part:
    """What becomes services together: a workload's pod, or a Job's."""

    program: Program
    description: Mapping[str, Any]  #: of the workload, also of its Jobs
    sealed: Sealed | None
    job: str | None = None

    @property
    def main(self) -> str:
        """The container whose network the others share: one that has ports, if any has."""
        containers = self.program.containers
        return min(containers, key=lambda name: (not containers[name].get("ports"), name))

    @property
    def init_containers(self) -> list[str]:
        """In the order in which they run."""
        containers = self.program.init_containers
        return sorted(containers, key=lambda name: (containers[name].get("order", 0), name))

    @property
    def hostname(self) -> str:
        """What the pod would be called; only a StatefulSet's is known before it runs."""
        stateful = self.description["kind"] == "StatefulSet" and self.job is None
        return f"{self.program.name}-0" if stateful else self.program.name

    @property
    def names(self) -> list[str]:
        """What it answers to: its Service's names, and those of a StatefulSet's pod."""
        domain = f"{self.program.namespace}.svc.cluster.local"
        services = [self.program.name, *sorted(self.description.get("aliases", {}))]
        found = [name for service in services for name in (service, f"{service}.{domain}")]
        if self.hostname != self.program.name:
            group = f"{self.program.name}-peers" if self.description.get("peers") else self.program.name
            found += [self.hostname, f"{self.hostname}.{group}", f"{self.hostname}.{group}.{domain}"]
        return found

    def service_name(self, container: str) -> str:
        """The name of a container's service: the program's, where it is the only one."""
        single = len(self.program.containers) == 1 and container in self.program.containers
        return self.program.name if single else f"{self.program.name}-{container}"

    def is_private(self, volume: str) -> bool:
        """Whether one container alone sees an emptyDir, which is then a tmpfs of its own."""
        alone = len(self.program.containers) == 1 and not self.program.init_containers
        return bool(self.program.volume[volume]["type"] == EMPTY_DIR and alone)

    def volume_name(self, name: str) -> str:
        """A path is one volume, whoever mounts it, as it is one directory in the cluster."""
        volume = self.program.volume[name]
        if volume["type"] == EMPTY_DIR:
            return f"{self.program.name}-{name}"
        return str(volume["path"]).strip("/").replace("/", "-")

    @property
    def named_volumes(self) -> dict[str, str]:
        """Its volumes that Compose keeps: name in the model → name there."""
        return {
            name: self.volume_name(name)
            for name, volume in self.program.volume.items()
            if volume["type"] != HOST_PATH and not self.is_private(name)
        }


def compose(
    control: Mapping[str, Any],
    images: Mapping[str, Image],
    reveal: Reveal | None = None,
    address: str = "127.0.0.1",
) -> dict[str, Any]:
    """A Compose file. Secrets are files of `secret_files`, by a path relative to it; ports are open at `address`."""
    parts = _parts(control, images, reveal)
    owners = _owners(parts)
    services = {_OWNERS: _ownership(parts, owners)} if owners else {}
    for part in parts:
        services |= _services(part, _waits(part, parts), address)
    return {
        "services": services,
        "networks": {"default": {}},
        "volumes": {name: {} for name in sorted(owners)},
        "secrets": {
            _secret_name(part.sealed, file.key): {"file": f"./{_secret_path(part.sealed, file.key)}"}
            for part in parts
            if part.sealed
            for file in part.sealed.files
        },
    }


def secret_files(
    control: Mapping[str, Any], images: Mapping[str, Image], reveal: Reveal | None = None
) -> dict[str, str]:
    """Path beside the Compose file → text. Compose keeps their owner: write them 0444 into a 0700 directory."""
    return {
        _secret_path(part.sealed, file.key): part.sealed.object["stringData"][file.key]
        for part in _parts(control, images, reveal)
        if part.sealed
        for file in part.sealed.files
    }


def left_out(control: Mapping[str, Any]) -> list[str]:
    """The workloads that have no services."""
    workloads = without_nulls(control).get("workload", {})
    return sorted(name for name, each in workloads.items() if each.get("kind") in _LEFT_OUT)


def _parts(control: Mapping[str, Any], images: Mapping[str, Image], reveal: Reveal | None) -> list[_Part]:
    found = []
    absent = left_out(control)
    for name, description in sorted(without_nulls(control).get("workload", {}).items()):
        if name in absent:
            continue
        program = of_workload(name, description, images)
        found.append(_Part(program, description, seal(program, reveal)))
        for job_name in (*_jobs(description, _BEFORE), *_jobs(description, _AFTER)):
            job_program = of_job(job_name, description["job"][job_name], program, images)
            found.append(_Part(job_program, description, seal(job_program, reveal), job_name))
    return found


def _jobs(description: Mapping[str, Any], phase: str) -> list[str]:
    """The Jobs of a phase, in order."""
    jobs = description.get("job", {})
    found = [name for name, job in jobs.items() if job.get("phase") == phase]
    return sorted(found, key=lambda name: (jobs[name].get("order", 0), name))


# --- services ---


def _services(part: _Part, waits: Object, address: str) -> Iterator[tuple[str, Object]]:
    """The services of a pod: its init containers one after the other, then its containers."""
    program = part.program
    for name in part.init_containers:
        path = f"{program.path}:init_container:{name}"
        service = _service(part, name, program.init_containers[name], path)
        yield part.service_name(name), service | {"restart": _ONCE} | _depending(waits)
        waits = {**waits, part.service_name(name): dict(_ENDED)}
    for name, container in sorted(program.containers.items()):
        path = f"{program.path}:container:{name}"
        service = _service(part, name, container, path)
        service["restart"] = "unless-stopped" if part.job is None else _ONCE
        if name == part.main:
            service |= _network(part, address)
        else:
            service["network_mode"] = f"service:{part.service_name(part.main)}"
        if part.job is None and "probe" in container:
            service["healthcheck"] = _healthcheck(container["probe"], container.get("ports", {}), path)
        yield part.service_name(name), service | _depending(waits)


def _depending(waits: Object) -> Object:
    return {"depends_on": waits} if waits else {}


def _service(part: _Part, name: str, container: Mapping[str, Any], path: str) -> Object:
    """What a container runs, as whom, and what it sees."""
    program, sealed = part.program, part.sealed
    security = {**program.security, **container.get("security", {})}
    service: Object = {
        "image": program.image.reference,
        "pull_policy": "never",
        "read_only": bool(security.get("read_only_root", True)),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": f"{program.grace_seconds}s",
    }
    if "command" in container:
        service["command"] = [_escape(word) for word in arguments(container["command"], path)]
    if "user" in security or program.user is not None:
        user = security.get("user", program.user)
        group = security.get("group", program.group)
        service["user"] = f"{user}:{user if group is None else group}"
    if security.get("capabilities"):
        service["cap_add"] = sorted(security["capabilities"])
    if security.get("privileged"):
        service["privileged"] = True
    service["environment"] = _environment(part)
    mounts, private = _mounts(part)
    if mounts:
        service["volumes"] = mounts
    if private:
        service["tmpfs"] = private
    if sealed and sealed.files:
        service["secrets"] = [
            {"source": _secret_name(sealed, file.key), "target": file.path} for file in sealed.files
        ]
    return service


def _network(part: _Part, address: str) -> Object:
    """The names that a pod answers to, and the ports that it opens outside."""
    if part.job is not None:
        return {}
    found: Object = {"hostname": part.hostname, "networks": {"default": {"aliases": part.names}}}
    published = [
        f"{address}:{port['node_port']}:{port['port']}"
        for _, port in sorted(part.program.ports.items())
        if "node_port" in port
    ]
    return found | ({"ports": published} if published else {})


def _waits(part: _Part, parts: list[_Part]) -> Object:
    """What a pod starts after: what it follows, the Jobs of its workload before it, the owners of its volumes."""
    description, workload = part.description, part.program.workload
    follows = followed(description.get("upgrade", {}))
    jobs_before = _jobs(description, _BEFORE)
    waits: Object = {}
    if part.job is not None:
        job = description["job"][part.job]
        jobs_before = _jobs(description, job["phase"])
        del jobs_before[jobs_before.index(part.job) :]
        if "after" in job or job["phase"] == _AFTER:
            follows = followed(job)
        if job["phase"] == _AFTER:
            waits |= _serving(parts, workload)
    for name, what in sorted(follows.items()):  # each start is a first one
        if what == "nothing" or name == workload:
            continue
        if what == "all":
            waits |= _serving(parts, name)
        last_of = _BEFORE if what == "bootstrap" else _AFTER
        waits |= {f"{name}-{last}": dict(_ENDED) for last in _last_job(parts, name, last_of)}
    if jobs_before:
        waits[f"{workload}-{jobs_before[-1]}"] = dict(_ENDED)
    if part.named_volumes:
        waits[_OWNERS] = dict(_ENDED)
    return waits


def _serving(parts: list[_Part], workload: str) -> Object:
    """The containers of a workload, healthy where they have a probe; nothing where it is left out."""
    return {
        part.service_name(name): {
            "condition": "service_healthy" if "probe" in container else "service_started"
        }
        for part in parts
        if part.program.name == workload
        for name, container in sorted(part.program.containers.items())
    }


def _last_job(parts: list[_Part], workload: str, phase: str) -> list[str]:
    return next((_jobs(part.description, phase) for part in parts if part.program.name == workload), [])[-1:]


# --- volumes ---


def _owners(parts: list[_Part]) -> dict[str, set[str]]:
    """Volume → the users (uid:gid) that write to it."""
    owners: dict[str, set[str]] = {}
    for part in parts:
        for volume in part.named_volumes.values():
            owners.setdefault(volume, set()).add(_owner(part.program))
    return owners


def _owner(program: Program) -> str:
    user = 0 if program.user is None else program.user
    return f"{user}:{user if program.group is None else program.group}"


def _ownership(parts: list[_Part], owners: Mapping[str, set[str]]) -> Object:
    """A new volume is root's; what the states do on a machine, a service does here before all others."""
    lines = [
        f"chown {min(users)} /volume/{name}; chmod {'0700' if len(users) == 1 else '1777'} /volume/{name}"
        for name, users in sorted(owners.items())
    ]
    return {
        "image": next(part.program.image.reference for part in parts if part.named_volumes),
        "pull_policy": "never",
        "restart": "no",
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        "user": "0:0",
        "entrypoint": ["sh", "-euc"],
        "command": ["\n".join(lines)],
        "volumes": [_volume(name, f"/volume/{name}") for name in sorted(owners)],
    }


def _volume(name: str, target: str) -> Object:
    """A volume that starts empty, whatever the image has at its place."""
    return {"type": "volume", "source": name, "target": target, "volume": {"nocopy": True}}


def _mounts(part: _Part) -> tuple[list[Object], list[str]]:
    """The volumes of a container, and the tmpfs of its own: its user's, whatever the image has at that place."""
    mounts, private = [], []
    user, group = _owner(part.program).split(":")
    for name, volume in sorted(part.program.volume.items()):
        target = required(volume, "mount", f"{part.program.path}:volume:{name}")
        if part.is_private(name):
            private.append(f"{target}:uid={user},gid={group},mode=1777,exec")
            continue
        if volume["type"] == HOST_PATH:
            mounts.append({"type": "bind", "source": volume["path"], "target": target})
        else:
            mounts.append(_volume(part.volume_name(name), target))
        if volume.get("read_only"):
            mounts[-1]["read_only"] = True
    return mounts, private


# --- what a process sees ---


def _environment(part: _Part) -> dict[str, str]:
    found = {}
    for name, value in sorted(part.program.environment.items()):
        if isinstance(value, Mapping):
            template = _POD_FIELDS.get(value.get("field", ""), "")
            text = template.format(hostname=part.hostname, namespace=part.program.namespace)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        found[name] = _escape(text)
    if part.sealed:
        found |= {name: _escape(part.sealed.object["stringData"][name]) for name in part.sealed.variables}
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


def _secret_name(sealed: Sealed, key: str) -> str:
    return f"{sealed.name}-{key}".replace(".", "-")


def _secret_path(sealed: Sealed, key: str) -> str:
    return f"secret/{sealed.name}/{key}"


def _escape(text: str) -> str:
    """Compose replaces `$VARIABLE`; a literal dollar is doubled."""
    return text.replace("$", "$$")
