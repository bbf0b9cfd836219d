"""`images build`: from definitions to images in the registry, doing only what is not done.

For each image, in order: is the baked image in the registry (done)? its package image? is that on the
builder? Whatever is missing is made from there on. So a run that changes nothing asks the registry once an
image and no Docker host at all, a change of configuration bakes, and a run that was killed goes on where it
was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from openstack_images.bake import PACKAGES, bake, package_tag
from openstack_images.definition import BakedImage, PackageImage
from openstack_images.lock import require_locked
from openstack_images.package import Builder, local_reference
from openstack_images.push import push
from openstack_images.registry import Registry


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    name: str
    reference: str  #: on the builder for a package image, in the registry for a baked one
    digest: str | None  #: of the manifest, for an image in the registry
    seconds: float  #: of building; or of pushing, where needed, and baking
    bytes: int  #: sent to the registry


@dataclass(frozen=True)
class Result:
    """What a build made, and what it found made."""

    built: tuple[Outcome, ...]  #: package images
    baked: tuple[Outcome, ...]
    reused: tuple[Outcome, ...]


def build(
    images: Mapping[str, BakedImage],
    registry: Registry | None,
    builder: Builder,
    *,
    push: bool,
    progress: Callable[[str], None],
) -> Result:
    """Make these images: with `push` baked, in the registry (then needed), else package images only.

    OperatorError E505, E506 before anything is done; E51x, E52x on the way: what was complete by then stays.
    """
    require_locked(images.values())
    run = _Run(builder, progress)
    for role in sorted(images):
        if push:
            assert registry is not None
            run.publish(images[role], registry)
        else:
            run.make(images[role].package)
    return Result(tuple(run.built), tuple(run.baked), tuple(run.reused))


@dataclass
class _Run:
    builder: Builder
    progress: Callable[[str], None]
    built: list[Outcome] = field(default_factory=list)
    baked: list[Outcome] = field(default_factory=list)
    reused: list[Outcome] = field(default_factory=list)

    def publish(self, image: BakedImage, registry: Registry) -> None:
        """Have the baked image in the registry."""
        began = time.monotonic()
        digest = registry.manifest_digest(image.name, image.tag)
        if digest is not None:
            self.reused.append(Outcome(image.name, image.reference, digest, time.monotonic() - began, 0))
            return
        sent = 0
        if registry.manifest_digest(PACKAGES, package_tag(image.package)) is None:
            self.make(image.package)
            began = time.monotonic()
            sent = push(image.package, self.builder, registry, self.progress)
        result = bake(image, registry)
        seconds = time.monotonic() - began
        self.baked.append(Outcome(image.name, image.reference, result.digest, seconds, sent + result.size))
        self.progress(f"{image.name}: baked {image.tag} in {seconds:.2f} s")

    def make(self, image: PackageImage) -> None:
        """Have the package image on the builder, and what it stands on."""
        if self.builder.has(image):
            self.progress(f"{image}: {local_reference(image)} is on the builder")
            return
        if image.base is not None:
            self.make(image.base)
        self.progress(f"{image}: building {local_reference(image)}")
        began = time.monotonic()
        self.builder.build(image)
        seconds = time.monotonic() - began
        self.built.append(Outcome(image.name, local_reference(image), None, seconds, 0))
        self.progress(f"{image}: built in {seconds:.0f} s")
