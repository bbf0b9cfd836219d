"""The images of the model: list, lock, build; what is in them, and which options they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s images list")
def images() -> None:
    """List, lock and build the images."""


@command("list", "ostack-k8s images list", "ostack-k8s images list --present -o json", group=images)
@click.option("--present", is_flag=True, help="Ask the registry which ones it has; needs an age identity.")
def list_(invocation: Invocation, present: bool) -> None:
    """List every image with its tag, known from the model alone."""
    from cli.output.terminal import print_table
    from cli.workflows.images import registry_of, users_of
    from cli.workflows.overlay import images_of

    parameters = invocation.inventory.config_node().parameters
    registry = registry_of(parameters, invocation.keyring) if present else None
    users = users_of(parameters)
    rows: list[dict[str, Any]] = [
        {
            "name": image.name,
            "role": role,
            "release": image.release,
            "digest": image.digest,
            "reference": image.reference,
            "user": f"{image.user.name}:{image.user.uid}" if image.user else None,
            "used_by": users.get(role, []),
            "present": registry.present(image.reference) if registry else None,
            "locked": all(layer.locked is not None for layer in image.package.chain),
        }
        for role, image in sorted(images_of(invocation.inventory).items())
    ]

    def people() -> None:
        words = {True: "yes", False: "no", None: "no answer" if present else "not asked"}
        print_table(
            ("image", "release", "reference", "runs as", "locked", "in registry", "used by"),
            [
                (
                    str(row["name"]),
                    str(row["release"] or "-"),
                    str(row["reference"]),
                    str(row["user"] or "root"),
                    "yes" if row["locked"] else "no",
                    words[row["present"]],
                    ", ".join(row["used_by"]),
                )
                for row in rows
            ],
            styles=("bold", "", "cyan"),
        )
        if not all(row["locked"] for row in rows):
            click.echo(
                "Not locked: pin the package versions with `ostack-k8s images lock` before you build.",
                err=True,
            )

    if registry and any(row["present"] is None for row in rows):
        click.echo(f"The registry {registry.address} does not answer.", err=True)
    invocation.show({"images": rows}, people)


@command("lock", "ostack-k8s images lock", "ostack-k8s images lock --release gazpacho", group=images)
@click.option(
    "--release",
    "releases",
    multiple=True,
    help="Pin only what this release lacks; repeat it (default: all, anew).",
)
def lock(invocation: Invocation, releases: tuple[str, ...]) -> None:
    """Pin the package versions of the images, as the mirror has them today.

    Writes images.lock.yml; commit it. Nothing is built before its versions are pinned.
    """
    from cli.workflows.images import lock_images

    locked = lock_images(invocation.inventory, releases, invocation.progress)
    file = invocation.repository.relative(invocation.repository.lock_file)
    invocation.show(
        {"locked": locked.images, "file": file},
        lambda: click.echo(
            f"Pinned {len(locked.images)} image(s) in {file}; look at `git add --all && git diff --cached`, commit."
        ),
    )


@command(
    "build", "ostack-k8s images build", "ostack-k8s images build --push", "ostack-k8s images build NAME --push",
    group=images,
)  # fmt: skip
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--push", is_flag=True, help="Push them and bake into the registry what changed.")
def build(invocation: Invocation, names: tuple[str, ...], push: bool) -> None:
    """Build the package images that are missing.

    With --push, what the registry does not have is pushed and the configuration baked into it. When it has everything,
    no Docker is contacted at all. Two images are made at a time. Can be interrupted and run again.
    """
    from cli.output.terminal import print_table
    from cli.workflows.images import build_images

    keyring = invocation.keyring if push else None
    result = build_images(invocation.inventory, keyring, names, invocation.progress)
    data: dict[str, Any] = {
        "built": result.built,
        "pushed": result.pushed,
        "baked": result.baked,
        "reused": result.reused,
    }

    def people() -> None:
        print_table(
            ("", "image", "seconds", "MB"),
            [
                (what, outcome.reference, f"{outcome.seconds:.1f}", f"{outcome.bytes / 1e6:.1f}")
                for what, outcomes in data.items()
                for outcome in outcomes
            ],
            styles=("bold", "cyan"),
        )

    invocation.show(data, people)


@command("sbom", "ostack-k8s images sbom NAME -o json", group=images)
@click.argument("name")
def sbom(invocation: Invocation, name: str) -> None:
    """Show every package in an image and its version.

    -o json gives a CycloneDX document, the same that lies beside the image in the registry.
    """
    from cli.output.terminal import print_table
    from cli.workflows.images import choose, require_locked
    from cli.workflows.overlay import images_of
    from openstack_images.sbom import bill_of_materials, packages

    require_locked(invocation.inventory)
    (image,) = choose(images_of(invocation.inventory), [name]).values()
    invocation.show(
        bill_of_materials(image),
        lambda: print_table(("package", "version"), packages(image).items(), styles=("bold",)),
    )


@command(
    "options", "ostack-k8s images options NAME", "ostack-k8s images options NAME --read --release gazpacho",
    group=images,
)  # fmt: skip
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--release", "releases", multiple=True, help="Of this release; repeat it (default: the model's)."
)
@click.option("--read", is_flag=True, help="Ask the packages, and write the lists.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path),
    help="--read: where to write <release>.json (default: options/ at cluster level).",
)  # fmt: skip
def options(
    invocation: Invocation,
    names: tuple[str, ...],
    releases: tuple[str, ...],
    read: bool,
    output: Path | None,
) -> None:
    """List the oslo.config options that the images know, and what each takes.

    `validate` warns of options that are not on these lists. The class library brings those of its own services; for
    services and releases that it does not know, --read asks the package images (building those that are missing).
    """
    from cli.output.terminal import print_table
    from cli.workflows.images import options_of, write_options
    from reclass_model.options import DIRECTORY

    repository = invocation.repository
    if read:
        directory = output or repository.cluster_dir / DIRECTORY
        written = write_options(invocation.inventory, names, releases, directory, invocation.progress)
        files = {release: repository.relative(path) for release, path in written.items()}
        invocation.show(
            {"files": files}, lambda: click.echo(f"Wrote {', '.join(files.values())}; look at `git diff`.")
        )
        return
    found = options_of(invocation.inventory, names, releases)
    rows = [
        (image, release, f"[{section}] {name}", takes)
        for release, images in found.items()
        for image, known in images.items()
        for section, options in sorted((known.sections if known else {}).items())
        for name, takes in sorted(options.items())
    ]
    invocation.show(
        {
            "options": {
                release: {image: known and known.sections for image, known in of.items()}
                for release, of in found.items()
            }
        },
        lambda: print_table(("image", "release", "option", "takes"), rows, styles=("bold", "", "cyan")),
    )
