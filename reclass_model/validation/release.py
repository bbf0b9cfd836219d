"""May these images, and this Kubernetes, follow what runs now? Unknown, skipped and earlier releases are refused.

The releases of images and what each may be upgraded from are data (`openstack:release`); Kubernetes goes forward,
one minor version at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reclass_model.errors import Problem
from reclass_model.inventory import Node, get
from reclass_model.provenance import origin
from reclass_model.repository import Repository
from reclass_model.sources import Sources, nearest

RELEASES = "openstack:release"
KUBERNETES = "bundle:artifact:kube-apiserver:version"


def image_releases(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Role ("<service>:<role>") → the release of its image; images without a release are left out."""
    return {
        f"{system}:{role}": value["image"]["release"]
        for system, roles in parameters.items()
        if isinstance(roles, Mapping) and not system.startswith("_")
        for role, value in roles.items()
        if isinstance(value, Mapping)
        and isinstance(value.get("image"), Mapping)
        and value["image"].get("release")
    }


def release_problems(
    before: Node | None, after: Node, repository: Repository, sources: Sources
) -> Iterator[Problem]:
    """What forbids the images of the config machine `after` where those of `before` run (None: nothing runs)."""
    releases = {name: value for name, value in (get(after.parameters, RELEASES, None) or {}).items() if value}
    running = image_releases(before.parameters) if before else {}
    for image, release in image_releases(after.parameters).items():
        if found := _refusal(running.get(image), release, releases):
            code, message, hint = found
            path = f"{image}:image:release"
            place = origin(repository, after.name, path, sources=sources)
            file, line = (place.file, place.line) if place else (None, None)
            yield Problem(code, f"{image}: {message}", after.name, path, file, line, hint)


def kubernetes_problems(
    before: Node | None, after: Node, repository: Repository, sources: Sources, runs: str
) -> Iterator[Problem]:
    """What forbids going from the Kubernetes of the config machine `before` to that of `after`.

    `runs`: how it is known that the one before is there, for people.
    """
    old, new = (str(get(node.parameters, KUBERNETES, None) or "") if node else "" for node in (before, after))
    if found := _step_refusal(old, new, runs):
        code, message, hint = found
        place = origin(repository, after.name, KUBERNETES, sources=sources)
        file, line = (place.file, place.line) if place else (None, None)
        yield Problem(code, f"Kubernetes: {message}", after.name, KUBERNETES, file, line, hint)


def _step_refusal(old: str, new: str, runs: str) -> tuple[str, str, str] | None:
    """(code, message, hint) of why Kubernetes `new` may not follow `old`; None when it may, or is no version."""
    try:
        was, now = ([int(part) for part in version.split("-")[0].split(".")] for version in (old, new))
    except ValueError:
        return None  # the schema speaks of that
    if now < was:
        return (
            "E303",
            f"{new} is older than {old}, {runs}",
            f"Kubernetes does not go back: {old} or newer",
        )
    if now[0] != was[0] or now[1] > was[1] + 1:
        hint = f"a version {was[0]}.{was[1] + 1} comes between; one minor version at a time"
        return "E302", f"{old}, {runs}, cannot go straight to {new}", hint
    return None


def _refusal(
    old: str | None, new: str, releases: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str, str] | None:
    """(code, message, hint) of why `new` may not follow `old`; None when it may."""
    if new not in releases:
        return "E301", f"unknown release {new!r}", nearest(new, releases) or f"known: {', '.join(releases)}"
    allowed = [name for name, value in (releases[new].get("upgrade_from") or {}).items() if value is not None]
    if old is None or old == new or old in allowed:
        return None
    if old in releases and releases[old].get("order", 0) > releases[new].get("order", 0):
        hint = (
            "until `finalize`, `ostack-k8s rollback` goes back to the release before; after it nothing does"
        )
        return "E303", f"{new} is older than {old}, which runs now", hint
    return (
        "E302",
        f"{old}, which runs now, cannot go straight to {new}",
        f"it may follow {', '.join(allowed) or 'none'}",
    )
