"""What a change will do, before it does it: a pure comparison of two commits of the model.

Values, images, objects, pods, machines, and the steps that `deploy` will run, in its order. Needs no key, no registry
and no cluster, so it gives the same answer, and the same digest, on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.workflows.places import placed

if TYPE_CHECKING:
    from kubernetes_formula.manifests import Overlay
    from kubernetes_formula.rollout.changes import ObjectChange
    from kubernetes_formula.rollout.plan import Step
    from openstack_images.definition import BakedImage
    from reclass_model.difference import Change
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository

IMPACTS = ("none", "api", "data_plane")  # from the harmless to the one that customers' servers notice
MIGRATING = ("expand", "migrate")
POD_OWNERS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class ImageChange:
    """An image that the change makes: `build` needs Docker, `bake` only the registry, `remove` is no longer used."""

    name: str
    action: str
    reference: str | None
    before: str | None
    package: str | None  # tag of the package image below it


@dataclass(frozen=True)
class PodChange:
    """Pods that start, restart or stop."""

    kind: str
    namespace: str
    name: str
    action: str  # start | restart | scale | stop
    before: int | None  # replicas; None for one on each machine
    after: int | None


@dataclass(frozen=True)
class NodeChange:
    """A machine whose Salt states will change something."""

    name: str
    action: str  # install | apply | remove
    paths: tuple[str, ...]  # pillar paths that differ


@dataclass(frozen=True)
class Plan:
    """Everything a change does. The digest covers the content, not the commits: the same change has one digest."""

    before: str | None  # full sha; None: nothing is deployed
    after: str
    values: tuple[Change, ...]
    images: tuple[ImageChange, ...]
    reused: int  # images that stay as they are
    objects: tuple[ObjectChange, ...]
    pods: tuple[PodChange, ...]
    nodes: tuple[NodeChange, ...]
    steps: tuple[Step, ...]
    impact: str
    finalize: tuple[Step, ...]  # what waits for `finalize`
    no_return: str | None  # the step after which the old release cannot come back; None: nothing is upgraded

    @property
    def content(self) -> dict[str, Any]:
        """What the digest covers, as plain data in the order of the contract."""
        from cli.output.structured import plain

        names = ("values", "images", "objects", "pods", "nodes", "steps", "impact", "finalize", "no_return")
        return {name: plain(getattr(self, name)) for name in names}

    @property
    def digest(self) -> str:
        """The first 12 hex digits of SHA-256 over the content."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def changes_anything(self) -> bool:
        return any((self.images, self.objects, self.nodes, self.steps))

    @property
    def data(self) -> dict[str, Any]:
        """The plan for programs."""
        return {"digest": self.digest, "from": self.before, "to": self.after, **self.content}


def plan_between(
    before: Repository | None,
    after: Repository,
    revisions: tuple[str | None, str] = (None, ""),
) -> Plan:
    """Compare two states of the model; `before` None means that nothing is deployed yet.

    Raises OperatorError when either cannot be rendered.
    """
    from cli.workflows.overlay import images_of, overlay_of
    from kubernetes_formula.rollout.changes import object_changes
    from kubernetes_formula.rollout.plan import finalization, released
    from reclass_model.difference import changes
    from reclass_model.inventory import Inventory

    new = Inventory(after)
    old = Inventory(before) if before else None
    values = tuple(changes(old, new)) if old else ()
    images, reused = _images(images_of(old) if old else {}, images_of(new))
    desired = overlay_of(new, None)
    deployed = overlay_of(old, None) if old else None
    steps = _steps(new, deployed, desired)
    upgraded = released(deployed, desired)
    return Plan(
        before=revisions[0],
        after=revisions[1],
        values=values,
        images=images,
        reused=reused,
        objects=tuple(object_changes(deployed, desired)),
        pods=_pods(deployed, desired),
        nodes=_nodes(old, new, values),
        steps=steps,
        impact=max((step.impact for step in steps), key=IMPACTS.index, default="none"),
        finalize=finalization(upgraded, desired),
        no_return=_no_return(desired, upgraded, steps),
    )


@placed
def _steps(after: Inventory, deployed: Overlay | None, desired: Overlay) -> tuple[Step, ...]:
    """What `deploy` will do, in order; OperatorError E62x where the releases forbid it."""
    from kubernetes_formula.rollout.plan import plan
    from reclass_model.inventory import get

    return plan(deployed, desired, get(after.config_node().parameters, "openstack:release", {}))


def _no_return(desired: Overlay, upgraded: Collection[str], steps: Sequence[Step]) -> str | None:
    """Where the way back ends: the first migration that only a snapshot undoes, else `finalize`."""
    if not upgraded:
        return None
    lost = {name for name in upgraded if desired.workloads[name].rollback == "snapshot"}
    first = next((step.name for step in steps if step.workload in lost and step.phase in MIGRATING), None)
    return first or "finalize"


def _images(
    before: Mapping[str, BakedImage], after: Mapping[str, BakedImage]
) -> tuple[tuple[ImageChange, ...], int]:
    known = {image.reference for image in before.values()}
    packages = {image.package.digest for image in before.values()}
    found = []
    for role, image in sorted(after.items()):
        if image.reference in known:
            continue
        previous = before.get(role)
        found.append(
            ImageChange(
                name=image.package.name,
                action="bake" if image.package.digest in packages else "build",
                reference=image.reference,
                before=previous.reference if previous else None,
                package=image.package.tag,
            )
        )
    made = len(found)
    for role, image in sorted(before.items()):
        if role not in after:
            found.append(ImageChange(image.package.name, "remove", None, image.reference, None))
    return tuple(found), len(after) - made


def _pods(deployed: Overlay | None, desired: Overlay) -> tuple[PodChange, ...]:
    old, new = _owners(deployed.objects if deployed else ()), _owners(desired.objects)
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        action = _pod_action(before, after)
        if action:
            counts = [owner.get("replicas") if owner else 0 for owner in (before, after)]
            found.append(PodChange(*key, action, *counts))
    return tuple(found)


def _pod_action(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str | None:
    if before is None or after is None:
        return "start" if after else "stop"
    if before["template"] != after["template"]:
        return "restart"
    return "scale" if before.get("replicas") != after.get("replicas") else None


def _owners(objects: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """What keeps pods running: (kind, namespace, name) → spec."""
    return {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item["spec"]
        for item in objects
        if item["kind"] in POD_OWNERS
    }


def _nodes(before: Inventory | None, after: Inventory, values: Sequence[Change]) -> tuple[NodeChange, ...]:
    """Machines whose part of the pillar that Salt reads differs; only those with a changed value are compared."""
    from reclass_model.difference import underlay_digest

    names = after.repository.node_names()
    if before is None:
        return tuple(NodeChange(name, "install", ()) for name in names)
    known = before.repository.node_names()
    found = [NodeChange(name, "remove", ()) for name in known if name not in names]
    touched = {name for change in values for name in change.nodes}
    for name in names:
        if name not in known:
            found.append(NodeChange(name, "install", ()))
        elif name in touched:
            digests = {underlay_digest(side.node(name).parameters) for side in (before, after)}
            if len(digests) > 1:
                paths = tuple(change.path for change in values if name in change.nodes)
                found.append(NodeChange(name, "apply", paths))
    return tuple(found)
