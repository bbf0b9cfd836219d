"""`images build`: from definitions to images in the registry, doing only what is not done.

For each image, in order: is the baked image in the registry (done)? its package image? is that on the builder? Whatever
is missing is made from there on. So a run that changes nothing asks the registry once an image and no Docker host at
all, a change of configuration bakes, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from openstack_images.bake import PACKAGES, bake, package_tag
from openstack_images.definition import BakedImage, PackageImage
from openstack_images.package import Builder, local_reference
from openstack_images.pinning import require_locked
from openstack_images.push import push
from openstack_images.registry import Registry
from reclass_model.workers import Task, run_in_order

#: Images at a time. A build is one thread of dpkg most of its time, a push one of gzip.
WORKERS = 2


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    name: str
    reference: str  #: on the builder for a package image, in the registry for a baked one
    digest: str | None  #: of the manifest, for a baked image
    seconds: float
    bytes: int  #: sent to the registry


@dataclass(frozen=True)
class Result:
    """What a build made, and what it found made; by name."""

    built: tuple[Outcome, ...]  #: package images
    pushed: tuple[Outcome, ...]  #: package images
    baked: tuple[Outcome, ...]
    reused: tuple[Outcome, ...]


class Build:
    """One build of some images, in two stages: `make` them on the builder, `publish` them in the registry.

    Both do what is missing at that moment, several images at a time, and say each step of an image as it comes. What
    was complete when a stage failed or was interrupted stays, and nothing else has a tag.
    """

    def __init__(
        self,
        images: Mapping[str, BakedImage],
        registry: Registry | None,
        builder: Builder,
        progress: Callable[[str], None],
        *,
        revision: str | None = None,
        workers: int = WORKERS,
    ) -> None:
        """Without a registry: package images only. `revision`: the commit that the images are told to come from.

        OperatorError E505, E506: nothing is built of what is not locked.
        """
        require_locked(images.values())
        self._images = [images[role] for role in sorted(images)]
        self._registry, self._builder, self._progress = registry, builder, progress
        self._revision, self._workers = revision, workers
        self._built: list[Outcome] = []
        self._pushed: list[Outcome] = []
        self._baked: list[Outcome] = []
        self._reused: list[Outcome] = []

    @property
    def result(self) -> Result:
        def by_name(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
            return tuple(sorted(outcomes, key=lambda outcome: outcome.name))

        return Result(*map(by_name, (self._built, self._pushed, self._baked, self._reused)))

    def make(self) -> None:
        """Have every package image on the builder that the registry lacks. OperatorError E51x, E52x."""
        layers = self._unpublished if self._registry else _layers(image.package for image in self._images)
        self._run({name: partial(self._make, layer) for name, layer in layers.items()}, layers)

    def publish(self) -> None:
        """Have every baked image in the registry; the builder has what `make` makes. OperatorError E51x, E52x."""
        layers = self._unpublished
        work: dict[str, Callable[[], None]] = {
            name: partial(self._push, layer) for name, layer in layers.items()
        }
        work |= {image.reference: partial(self._bake, image) for image in self._missing}
        self._run(work, {**layers, **{image.reference: image for image in self._missing}})

    def _run(
        self, work: Mapping[str, Callable[[], None]], images: Mapping[str, PackageImage | BakedImage]
    ) -> None:
        def below(image: PackageImage | BakedImage) -> frozenset[str]:
            base = image.package if isinstance(image, BakedImage) else image.base
            return frozenset({local_reference(base)} & work.keys()) if base else frozenset()

        try:
            run_in_order({name: Task(run, below(images[name])) for name, run in work.items()}, self._workers)
        except BaseException:
            self._builder.stop()
            raise

    # -- what is there --------------------------------------------------------------------------------------
    @cached_property
    def _missing(self) -> list[BakedImage]:
        """The baked images that the registry lacks; asked once, in the first stage."""
        assert self._registry is not None
        missing = []
        for image in self._images:
            began = time.monotonic()
            digest = self._registry.manifest_digest(image.name, image.tag)
            if digest is None:
                missing.append(image)
            else:
                seconds = time.monotonic() - began
                self._reused.append(Outcome(image.name, image.reference, digest, seconds, 0))
        return missing

    @cached_property
    def _unpublished(self) -> dict[str, PackageImage]:
        """The package images below those that the registry lacks too, by their name on the builder."""
        return _layers(image.package for image in self._missing if not self._has(image.package))

    def _has(self, image: PackageImage) -> bool:
        assert self._registry is not None
        return self._registry.manifest_digest(PACKAGES, package_tag(image)) is not None

    # -- steps ----------------------------------------------------------------------------------------------
    def _make(self, image: PackageImage) -> None:
        if self._builder.has(image):
            self._progress(f"{image}: {local_reference(image)} is on the builder")
            return
        self._progress(f"{image}: building {local_reference(image)}")
        began = time.monotonic()
        self._builder.build(image, self._progress)
        seconds = time.monotonic() - began
        self._built.append(Outcome(image.name, local_reference(image), None, seconds, 0))
        self._progress(f"{image}: built in {seconds:.0f} s")

    def _push(self, image: PackageImage) -> None:
        assert self._registry is not None
        if self._has(image):  # a base that another image brought before
            return
        began = time.monotonic()
        sent = push(image, self._builder, self._registry, self._progress)
        seconds = time.monotonic() - began
        self._pushed.append(Outcome(image.name, local_reference(image), None, seconds, sent))
        self._progress(f"{image}: pushed {sent / 1e6:.1f} MB in {seconds:.1f} s")

    def _bake(self, image: BakedImage) -> None:
        assert self._registry is not None
        began = time.monotonic()
        result = bake(image, self._registry, self._revision)
        seconds = time.monotonic() - began
        self._baked.append(Outcome(image.name, image.reference, result.digest, seconds, result.size))
        self._progress(f"{image.name}: baked {image.tag} in {seconds:.2f} s")


def build(
    images: Mapping[str, BakedImage],
    registry: Registry | None,
    builder: Builder,
    *,
    push: bool,
    progress: Callable[[str], None],
) -> Result:
    """Both stages: with `push` baked, in the registry (then needed), else package images only."""
    run = Build(images, registry if push else None, builder, progress)
    run.make()
    if push:
        run.publish()
    return run.result


def _layers(images: Iterable[PackageImage]) -> dict[str, PackageImage]:
    """These images and all below them, each once, by their name on the builder."""
    return {local_reference(layer): layer for image in images for layer in image.chain}
