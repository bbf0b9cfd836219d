"""Volumes of a program: what its pods mount, and the static PersistentVolumes and claims behind.

`local` is a directory of one machine (StatefulSets: one volume per machine, claimed by template), `shared` a directory
that every machine mounts; neither is ever provisioned or deleted by the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes_formula.manifests.overlay import Object
from kubernetes_formula.manifests.program import Program, error, required

LOCAL = "local"
SHARED = "shared"
HOST_PATH = "hostPath"
EMPTY_DIR = "emptyDir"


def mounts(program: Program) -> list[Object]:
    """`volumeMounts` of the program's containers."""
    return [
        {
            "name": name,
            "mountPath": _get(program, name, "mount"),
            **({"mountPropagation": volume["propagation"]} if "propagation" in volume else {}),
            **({"readOnly": True} if volume.get("read_only") else {}),
        }
        for name, volume in sorted(program.volume.items())
    ]


def pod_volumes(program: Program) -> list[Object]:
    """`volumes` of the program's pods; a StatefulSet's local volumes come from its claim templates instead."""
    found = []
    for name, volume in sorted(program.volume.items()):
        kind = _get(program, name, "type")
        if kind == EMPTY_DIR:
            source = {
                "emptyDir": {
                    **({"medium": volume["medium"]} if "medium" in volume else {}),
                    **({"sizeLimit": volume["size"]} if "size" in volume else {}),
                }
            }
        elif kind == HOST_PATH:
            source = {
                "hostPath": {
                    "path": _get(program, name, "path"),
                    "type": volume.get("host_type", "Directory"),
                }
            }
        elif kind == SHARED:
            source = {"persistentVolumeClaim": {"claimName": _shared_name(program, name)}}
        elif kind == LOCAL:
            continue
        else:
            path = f"{program.path}:volume:{name}:type"
            raise error("E604", f"{path} is {kind!r}", path, hint="emptyDir, hostPath, local or shared")
        found.append({"name": name, **source})
    return found


def claim_templates(program: Program) -> list[Object]:
    """`volumeClaimTemplates` of a StatefulSet."""
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": _claim(program, name, "ReadWriteOnce", f"{program.name}-{name}"),
        }
        for name in local_names(program)
    ]


def local_names(program: Program) -> list[str]:
    """The program's volumes that live on one machine."""
    return [name for name in sorted(program.volume) if _get(program, name, "type") == LOCAL]


def persistent(program: Program) -> Iterator[Object]:
    """The PersistentVolumes and claims of the program's `local` and `shared` volumes."""
    for name in sorted(program.volume):
        kind = _get(program, name, "type")
        if kind == LOCAL:
            for machine in _machines(program, name):
                yield _local(program, name, machine)
        elif kind == SHARED:
            yield from _shared(program, name)


def _local(program: Program, name: str, machine: str) -> Object:
    spec = {
        "local": {"path": _get(program, name, "path")},
        "storageClassName": f"{program.name}-{name}",
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "kubernetes.io/hostname", "operator": "In", "values": [machine]}
                        ]
                    }
                ]
            }
        },
    }
    return _volume(program, f"{program.name}-{name}-{machine}", name, "ReadWriteOnce", spec)


def _shared(program: Program, name: str) -> Iterator[Object]:
    full_name = _shared_name(program, name)
    spec = {
        "hostPath": {"path": _get(program, name, "path"), "type": "Directory"},
        "storageClassName": full_name,
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": program.namespace,
            "name": full_name,
        },
    }
    yield _volume(program, full_name, name, "ReadWriteMany", spec)
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": program.metadata(full_name),
        "spec": {**_claim(program, name, "ReadWriteMany", full_name), "volumeName": full_name},
    }


def _volume(program: Program, full_name: str, name: str, mode: str, spec: Mapping[str, Any]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": program.metadata(full_name, namespaced=False),
        "spec": {
            "capacity": {"storage": _get(program, name, "size")},
            "accessModes": [mode],
            "persistentVolumeReclaimPolicy": "Retain",
            **spec,
        },
    }


def _claim(program: Program, name: str, mode: str, storage_class: str) -> Object:
    return {
        "accessModes": [mode],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": _get(program, name, "size")}},
    }


def _shared_name(program: Program, name: str) -> str:
    return f"{program.volume_owner[name]}-{name}"


def _machines(program: Program, name: str) -> list[str]:
    nodes = _get(program, name, "nodes")
    machines = sorted(value if isinstance(value, str) else machine for machine, value in nodes.items())
    if not machines:
        path = f"{program.path}:volume:{name}:nodes"
        raise error("E605", f"{path} is empty", path, hint="name the machines that hold this volume")
    return machines


def _get(program: Program, name: str, key: str) -> Any:
    return required(program.volume[name], key, f"{program.path}:volume:{name}")
