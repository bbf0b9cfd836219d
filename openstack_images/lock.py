"""The exact package versions of every image: `images.lock.yml` of a deployment repo, and how it is made.

The lock says, for each image name and suite, which versions its layer installs over the layer below. It is
committed, so an image is the same set of packages for everybody, and its tag is known without asking a
mirror. A build needs it; a plan does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from openstack_images.definition import BakedImage, PackageImage
from openstack_images.package import Builder
from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import write_atomically

LOCK_COMMAND = "ostack-k8s images lock"
_HEADER = (
    f"# The exact package versions of every image, written by `{LOCK_COMMAND}`. Commit it; do not edit it.\n"
)


@dataclass(frozen=True)
class Lock:
    """Image name → suite → package → version."""

    images: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    def versions(self, name: str, suite: str) -> Mapping[str, str] | None:
        """What the layer of this image and suite installs; None when that is not locked."""
        return self.images.get(name, {}).get(suite)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """The lock in that file, empty when there is none. OperatorError E504 when it cannot be read."""
        import yaml

        try:
            content: Any = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise OperatorError.unreadable(
                error, str(path), "E504", f"remove it and run `{LOCK_COMMAND}`"
            ) from None
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, dict) or not all(isinstance(suites, dict) for suites in images.values()):
            raise OperatorError(
                "not a lock of images",
                code="E504",
                file=str(path),
                hint=f"remove it and run `{LOCK_COMMAND}`",
            )
        return cls(images)

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        import yaml

        plain = {
            name: {suite: dict(packages) for suite, packages in suites.items()}
            for name, suites in self.images.items()
        }
        text = _HEADER + yaml.safe_dump({"images": plain}, sort_keys=True, default_flow_style=False)
        write_atomically(path, text)


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
