"""Two overlays → what differs, object by object. Pure; `plan` decides from it what to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes_formula.manifests import Object, Overlay, key
from kubernetes_formula.manifests.overlay import CONTROLLERS

#: Never deleted by a rollout: they hold data, or everything else.
KEPT_KINDS = ("Namespace", "PersistentVolume", "PersistentVolumeClaim")
#: Named by their content: a new one is another object, the old one stays for a rollback.
GENERATION_KINDS = ("Secret", "ConfigMap")

#: What may change of a live StatefulSet; anything else makes it a new one, which takes over the pods of the old.
_MUTABLE = (
    "spec.replicas",
    "spec.template",
    "spec.updateStrategy",
    "spec.revisionHistoryLimit",
    "spec.minReadySeconds",
)

CREATE, CHANGE, DELETE = "create", "change", "delete"


@dataclass(frozen=True)
class ObjectChange:
    """One object that a rollout creates, changes or deletes."""

    kind: str
    namespace: str
    name: str
    action: str  #: create | change | delete
    fields: tuple[str, ...] = ()  #: paths of what differs: "spec.template.spec.containers.0.image"

    @property
    def key(self) -> str:
        """As `kubernetes_formula.manifests.key`."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def restarts(self) -> bool:
        """Whether pods are replaced; where an unfinished rollout left it open what is there (`spec`), they may be."""
        return self.replaces or (
            self.kind in CONTROLLERS
            and any(field == "spec" or field.startswith("spec.template.") for field in self.fields)
        )

    @property
    def replaces(self) -> bool:
        """Whether the API takes the change only as a new object."""
        return self.kind == "StatefulSet" and any(
            field.startswith("spec.") and not field.startswith(_MUTABLE) for field in self.fields
        )


def object_changes(deployed: Overlay | None, desired: Overlay) -> list[ObjectChange]:
    """What to do to come from `deployed` (None: nothing is there) to `desired`.

    Secrets are compared by name alone, which follows their content, so masked and revealed overlays compare the same.
    """
    before = deployed.by_key() if deployed else {}
    after = desired.by_key()
    found = []
    for name, item in after.items():
        if name not in before:
            found.append(_change(item, CREATE))
        elif item["kind"] not in GENERATION_KINDS and (fields := tuple(differences(before[name], item))):
            found.append(_change(item, CHANGE, fields))
    gone = [item for name, item in before.items() if name not in after]
    return found + [
        _change(item, DELETE) for item in gone if item["kind"] not in (*KEPT_KINDS, *GENERATION_KINDS)
    ]


def _change(item: Object, action: str, fields: tuple[str, ...] = ()) -> ObjectChange:
    kind, namespace, name = key(item).split("/")
    return ObjectChange(kind, namespace, name, action, fields)


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields that differ, "spec.replicas"."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}.{index}")
    elif before != after:
        yield path
