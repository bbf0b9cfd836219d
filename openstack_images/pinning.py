"""Which package versions images get: asked of the mirror (`images lock`), and demanded by everything that builds.

Stands between what an image is (definition.py) and its lock (lock.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from openstack_images.definition import BakedImage, PackageImage
from openstack_images.lock import LOCK_COMMAND, Lock
from openstack_images.package import Builder
from reclass_model.errors import OperatorError, Problem


def lock(
    images_by_release: Mapping[str, Mapping[str, BakedImage]],
    builder: Builder,
    progress: Callable[[str], None],
) -> Lock:
    """Ask the mirror which versions these images would get today; makes the suites' smallest systems for it,
    where the builder has none that is as of today.

    OperatorError E505: a package is not of the version the model expects; E51x: builder or mirror fail.
    """
    baked = [image for images in images_by_release.values() for image in images.values()]
    wanted = [image.package for image in baked]
    locked: dict[str, dict[str, Mapping[str, str]]] = {}
    for same_suite in _grouped(wanted, lambda image: image.suite).values():
        root = same_suite[0].chain[0]
        identity = builder.current_root(root)
        if identity is None:
            progress(f"{root}: making the smallest system of the suite")
            identity = builder.import_root(root)
        else:
            progress(f"{root}: the smallest system of the suite is the builder's")
        versions = builder.installed(identity)
        locked.setdefault(root.name, {})[root.suite] = versions
        builder.tag(identity, replace(root, locked=versions))
        for group in _grouped(same_suite, lambda image: image.sources).values():
            layers = list({layer.name: layer for image in group for layer in image.chain[1:]}.values())
            progress(f"{root.suite}: resolving the packages of {', '.join(layer.name for layer in layers)}")
            for name, closure in builder.resolve(identity, layers).items():
                locked.setdefault(name, {})[root.suite] = closure
    found = Lock(locked)
    _check_versions(baked, lambda layer: found.versions(layer.name, layer.suite))
    return found


def require_locked(images: Iterable[BakedImage]) -> None:
    """Refuse to build what is not locked (E506), or locked to a version that the model forbids (E505)."""
    images = list(images)
    unlocked = [image for image in images if any(layer.locked is None for layer in image.package.chain)]
    if unlocked:
        raise OperatorError.of(
            *(
                Problem(
                    "E506",
                    f"{image.package}: its package versions are not locked",
                    path=f"{image.role}:image:{'release' if image.release else 'suite'}",
                    hint=f"run `{LOCK_COMMAND}`, commit images.lock.yml",
                )
                for image in unlocked
            )
        )
    _check_versions(images, lambda layer: layer.locked)


def _check_versions(
    images: Iterable[BakedImage], locked: Callable[[PackageImage], Mapping[str, str] | None]
) -> None:
    problems: dict[Problem, None] = {}
    for image in images:
        installed: dict[str, str] = {}
        for layer in image.package.chain:
            installed.update(locked(layer) or {})
            own = f"{image.role}:image" if layer is image.package else f"openstack:base_image:{layer.name}"
            problems.update(dict.fromkeys(_unexpected(layer, installed, own)))
    if problems:
        raise OperatorError.of(*problems)


def _unexpected(layer: PackageImage, installed: Mapping[str, str], path: str) -> list[Problem]:
    return [
        Problem(
            "E505",
            f"{layer}: package {package.name} is {installed.get(package.name, 'missing')}, "
            f"expected {package.version}…",
            path=f"{path}:packages:{package.name}:version",
            hint="the suite has another upstream version: correct its release's suite, or what is expected",
        )
        for package in layer.packages
        if package.version and not installed.get(package.name, "").startswith(package.version)
    ]


_Key = TypeVar("_Key")


def _grouped(
    images: Iterable[PackageImage], key: Callable[[PackageImage], _Key]
) -> dict[_Key, list[PackageImage]]:
    groups: dict[_Key, list[PackageImage]] = {}
    for image in images:
        groups.setdefault(key(image), []).append(image)
    return groups
