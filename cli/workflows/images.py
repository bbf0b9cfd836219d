"""Making images: what the model declares, with the builder and the registry that it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.workflows.overlay import images_of
from cli.workflows.places import placed
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from openstack_images.build import Build, Result
    from openstack_images.definition import BakedImage
    from openstack_images.lock import Lock
    from openstack_images.package import Builder
    from openstack_images.registry import Registry
    from reclass_model.inventory import Inventory
    from reclass_model.options import Options
    from reclass_model.secrets import Keyring

RELEASE = "openstack_version"  # the `_param` that names the release of the model


def builder_of(inventory: Inventory) -> Builder:
    """The Docker host that builds: OSTACK_K8S_BUILDER, else the checkout's own (`git config ostack-k8s.builder`, set by
    the lab), else the one that the model names for its config machine.
    """
    from openstack_images.package import Builder
    from reclass_model.inventory import get

    parameters = inventory.config_node().parameters
    named = os.environ.get("OSTACK_K8S_BUILDER") or inventory.repository.git_setting("ostack-k8s.builder")
    return Builder(
        named or get(parameters, "_param:builder", None), get(parameters, "openstack:package_mirror", None)
    )


def registry_of(parameters: Mapping[str, Any], keyring: Keyring) -> Registry:
    """The registry of the config machine's pillar, with its password and its CA."""
    from openstack_images.registry import Registry
    from reclass_model.inventory import get

    declared = keyring.reveal(get(parameters, "docker:registry"))
    authority = get(parameters, f"pki:authority:{declared['authority']}:certificate")
    return Registry(
        declared["host"],
        int(declared["port"]),
        user=declared["user"],
        password=declared["password"],
        authority=authority,
    )


@placed
def prepare_build(
    inventory: Inventory,
    keyring: Keyring | None,
    names: Collection[str],
    revision: str | None,
    progress: Callable[[str], None],
) -> Build:
    """The build of the named images (none named: all); without a keyring it is of package images only."""
    from openstack_images.build import Build

    chosen = choose(images_of(inventory), names)
    registry = registry_of(inventory.config_node().parameters, keyring) if keyring else None
    return Build(chosen, registry, builder_of(inventory), progress, revision=revision)


def build_images(
    inventory: Inventory,
    keyring: Keyring | None,
    names: Collection[str],
    progress: Callable[[str], None],
) -> Result:
    """Build what is missing of the working tree's images; with a keyring, put it into the registry too."""
    repository = inventory.repository
    revision = (
        repository.head() + ("-dirty" if repository.is_dirty() else "") if repository.is_git() else None
    )
    build = prepare_build(inventory, keyring, names, revision, progress)
    build.make()
    if keyring:
        build.publish()
    return build.result


@placed
def require_locked(inventory: Inventory) -> None:
    """Refuse images that nobody can have built, since their package versions are not pinned: OperatorError E506."""
    from openstack_images.pinning import require_locked as check

    check(images_of(inventory).values())


def choose(images: Mapping[str, BakedImage], names: Collection[str]) -> dict[str, BakedImage]:
    """The images of these names ("service-role" or "service:role"), all without a name; OperatorError E042."""
    known = {name: role for role, image in images.items() for name in (role, image.name)}
    unknown = [name for name in names if name not in known]
    if unknown:
        from difflib import get_close_matches

        near = get_close_matches(unknown[0], known, n=1)
        raise OperatorError(
            f"the model has no image {unknown[0]!r}",
            code="E042",
            hint=f"did you mean {near[0]}?" if near else "`ostack-k8s images list` shows what there is",
        )
    wanted = {known[name] for name in names} or set(images)
    return {role: image for role, image in images.items() if role in wanted}


@placed
def lock_images(inventory: Inventory, releases: Collection[str], progress: Callable[[str], None]) -> Lock:
    """Pin the versions that the mirror has today: all of the model's, or only what these releases lack.

    Preparing a release moves no pin of what runs.
    """
    from openstack_images.lock import Lock
    from openstack_images.pinning import lock

    repository = inventory.repository
    wanted = {"": images_of(inventory)}
    if releases:
        models = {release: images_of(inventory.with_parameters({RELEASE: release})) for release in releases}
        wanted = {release: _unlocked(images) for release, images in models.items()}
    found = lock(wanted, builder_of(inventory), progress)
    before = Lock.read(repository.lock_file)
    names = {*before.images, *found.images}
    merged = Lock(
        {name: {**before.images.get(name, {}), **found.images.get(name, {})} for name in sorted(names)}
    )
    merged.write(repository.lock_file)
    return merged


@placed
def options_of(
    inventory: Inventory, names: Collection[str], releases: Collection[str]
) -> dict[str, dict[str, Options | None]]:
    """Release → image → the options that it knows; None where nobody wrote that down."""
    from reclass_model.options import Catalog

    found: dict[str, dict[str, Options | None]] = {}
    for release, _, images in _of_releases(inventory, names, releases):
        catalog = Catalog.of(inventory.repository, release)
        found.setdefault(release, {}).update((image.name, catalog.options(image.name)) for image in images)
    return found


@placed
def write_options(
    inventory: Inventory,
    names: Collection[str],
    releases: Collection[str],
    directory: Path,
    progress: Callable[[str], None],
) -> dict[str, Path]:
    """Write which options the images know: release → file. Builds the package images that the builder lacks.

    Named images are added to what is written already; without a name a list is written anew.
    """
    from openstack_images.build import Build
    from openstack_images.options import read_options
    from reclass_model.inventory import get
    from reclass_model.options import Catalog

    builder = builder_of(inventory)
    written: dict[str, Path] = {}
    for release, model, images in _of_releases(inventory, names, releases):
        Build({image.role: image for image in images}, None, builder, progress).make()
        plugins = get(model.config_node().parameters, "openstack:option_plugins", {})
        entry_points = {option: plugin["entry_points"] for option, plugin in plugins.items() if plugin}
        path = directory / f"{release}.json"
        catalog = Catalog.read(path, str(path)) if names or release in written else Catalog()
        for image in images:
            progress(f"{image.package}: reading its options")
            catalog.add(image.name, read_options(image.package, builder, entry_points, progress))
        catalog.write(path)
        written[release] = path
    return written


def _of_releases(
    inventory: Inventory, names: Collection[str], releases: Collection[str]
) -> Iterator[tuple[str, Inventory, list[BakedImage]]]:
    """(release, the model with it, its images) of these releases; without any, of those that the model has."""
    for model in [inventory.with_parameters({RELEASE: release}) for release in releases] or [inventory]:
        by_release: dict[str, list[BakedImage]] = {}
        for image in choose(images_of(model), names).values():
            if image.release:
                by_release.setdefault(image.release, []).append(image)
        for release, images in by_release.items():
            yield release, model, images


def _unlocked(images: Mapping[str, BakedImage]) -> dict[str, BakedImage]:
    return {
        role: image
        for role, image in images.items()
        if any(layer.locked is None for layer in image.package.chain)
    }


def users_of(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Image role → the workloads and Jobs that run it."""
    from reclass_model.inventory import get

    found: dict[str, list[str]] = {}
    for name, workload in sorted(get(parameters, "kubernetes:control:workload", {}).items()):
        for user, description in [(name, workload), *(workload.get("job") or {}).items()]:
            role = (description or {}).get("image")
            if role:
                found.setdefault(role, []).append(user if user == name else f"{name}/{user}")
    return found
