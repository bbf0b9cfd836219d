"""The loose YAML of a workload or of one of its Jobs, read once into values.

A Job is described as its workload is and inherits from it what it does not say itself; both become a `Program`, from
which pods, Secrets, volumes and Compose services are rendered.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubernetes_formula.manifests.overlay import MANAGED_BY, WORKLOAD_LABEL, Image
from reclass_model.errors import OperatorError, Problem

WORKLOADS_PATH = "kubernetes:control:workload"
DEFAULT_NAMESPACE = "openstack"
DEFAULT_GRACE_SECONDS = 60
#: Seconds a serving pod goes on serving after it was told to end, until no proxy sends to it any more.
DEFAULT_PRE_STOP_SECONDS = 5


@dataclass(frozen=True)
class Program:
    """What the pods of a workload or a Job run, and what they need."""

    name: str  #: of its objects: `<workload>` or `<workload>-<job>`
    workload: str
    path: str  #: in the pillar, for errors
    namespace: str
    service: str
    role: str
    image: Image
    containers: Mapping[str, Mapping[str, Any]]
    init_containers: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, Any]
    secret: Mapping[str, Mapping[str, Any]]
    secret_environment: Mapping[str, Any]
    volume: Mapping[str, Mapping[str, Any]]
    security: Mapping[str, Any]
    host: Mapping[str, bool]  #: namespaces of the machine that it is in: network, pid, ipc
    node_selector: Mapping[str, str]
    grace_seconds: int
    pre_stop_seconds: int
    secret_owner: str  #: names the Secret: a Job that inherits it unchanged mounts its workload's
    volume_owner: Mapping[str, str]  #: volume → whose claim it mounts, likewise

    @property
    def user(self) -> int | None:
        """The uid the processes run as; None: what the image says."""
        return self._identity("user", "uid")

    @property
    def group(self) -> int | None:
        """The gid the processes run as, which also owns mounted Secrets."""
        return self._identity("group", "gid")

    @property
    def ports(self) -> dict[str, Any]:
        """The ports of all its containers, by name."""
        return {
            name: port
            for container in self.containers.values()
            for name, port in container.get("ports", {}).items()
        }

    def _identity(self, setting: str, key: str) -> int | None:
        value = self.security.get(setting, (self.image.user or {}).get(key))
        return None if value is None else int(value)

    def labels(self) -> dict[str, str]:
        """The labels of every object of this program."""
        return {
            "app": self.name,
            "app.kubernetes.io/name": self.service,
            "app.kubernetes.io/component": self.role,
            **MANAGED_BY,
            WORKLOAD_LABEL: self.workload,
        }

    def metadata(self, name: str | None = None, *, namespaced: bool = True) -> dict[str, Any]:
        """`metadata` of an object of this program, named as it is unless told otherwise."""
        place = {"namespace": self.namespace} if namespaced else {}
        return {"name": name or self.name, **place, "labels": self.labels()}


def of_workload(name: str, description: Mapping[str, Any], images: Mapping[str, Image]) -> Program:
    """The program of a workload's pods."""
    path = f"{WORKLOADS_PATH}:{name}"
    return Program(
        name=name,
        workload=name,
        path=path,
        namespace=description.get("namespace", DEFAULT_NAMESPACE),
        service=required(description, "service", path),
        role=required(description, "role", path),
        image=_image(description, path, images),
        containers=required(description, "container", path),
        init_containers=description.get("init_container", {}),
        environment=description.get("environment", {}),
        secret=description.get("secret", {}),
        secret_environment=description.get("secret_environment", {}),
        volume=description.get("volume", {}),
        security=description.get("security", {}),
        host=description.get("host", {}),
        node_selector=description.get("node_selector", {}),
        grace_seconds=int(description.get("termination_grace_seconds", DEFAULT_GRACE_SECONDS)),
        pre_stop_seconds=int(description.get("pre_stop_seconds", DEFAULT_PRE_STOP_SECONDS)),
        secret_owner=name,
        volume_owner=dict.fromkeys(description.get("volume", {}), name),
    )


def of_job(
    name: str, description: Mapping[str, Any], workload: Program, images: Mapping[str, Image]
) -> Program:
    """The program of a Job: its own description over its workload's, or alone with `inherit: false`.

    A volume that lives on one machine belongs to one replica and is not inherited.
    """
    full_name = f"{workload.name}-{name}"
    path = f"{workload.path}:job:{name}"
    image = _image(description, path, images) if "image" in description else workload.image
    inherit = description.get("inherit", True)
    security = dict(workload.security) if inherit else {}
    if image != workload.image:
        security = {setting: value for setting, value in security.items() if setting not in ("user", "group")}

    def merged(own: str, inherited: Mapping[str, Any]) -> dict[str, Any]:
        return {**(inherited if inherit else {}), **description.get(own, {})}

    secret = merged("secret", workload.secret)
    secret_environment = merged("secret_environment", workload.secret_environment)
    same_secret = (secret, secret_environment) == (workload.secret, workload.secret_environment)
    inherited_volume = {name: each for name, each in workload.volume.items() if each.get("type") != "local"}
    container = {key: description[key] for key in ("command", "resources", "patch") if key in description}
    return replace(
        workload,
        name=full_name,
        path=path,
        image=image,
        containers={name: container},
        init_containers={},
        environment=merged("environment", workload.environment),
        secret=secret,
        secret_environment=secret_environment,
        volume=merged("volume", inherited_volume),
        security={**security, **description.get("security", {})},
        host=merged("host", workload.host),
        node_selector=merged("node_selector", workload.node_selector),
        secret_owner=workload.name if same_secret else full_name,
        volume_owner={**workload.volume_owner, **dict.fromkeys(description.get("volume", {}), full_name)},
    )


def without_nulls(value: Any) -> Any:
    """Deleted keys (`~key: null`) taken out of mappings; a `patch` keeps its nulls, there they delete fields."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: each if key == "patch" else without_nulls(each)
        for key, each in value.items()
        if each is not None
    }


def required(description: Mapping[str, Any], key: str, path: str) -> Any:
    """A value that must be there; OperatorError E601 names its place in the pillar."""
    if key not in description:
        raise error("E601", f"{path} has no {key!r}", f"{path}:{key}", hint=f"set {path}:{key}")
    return description[key]


def arguments(command: str, path: str) -> list[str]:
    """A command line split as a shell splits it."""
    try:
        return shlex.split(command)
    except ValueError as wrong:
        raise error(
            "E602", f"{path} is no command line: {wrong}: {command!r}", path, hint="close the quotes"
        ) from None


def error(code: str, message: str, path: str, hint: str | None = None) -> OperatorError:
    """An error at a place in the pillar."""
    return OperatorError.of(Problem(code, message, path=path, hint=hint))


def _image(description: Mapping[str, Any], path: str, images: Mapping[str, Image]) -> Image:
    role = required(description, "image", path)
    if role not in images:
        known = ", ".join(sorted(images)) or "none"
        raise error(
            "E603",
            f"{path}:image names {role!r}, which has no image",
            f"{path}:image",
            hint=f"one of: {known}",
        )
    if description.get("configured", True):
        return images[role]
    return replace(images[role], reference=images[role].package)
