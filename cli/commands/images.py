"""The images of the model: list, lock, build."""

from __future__ import annotations

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
            "used_by": users.get(role, []),
            "present": registry.present(image.reference) if registry else None,
            "locked": all(layer.locked is not None for layer in image.package.chain),
        }
        for role, image in sorted(images_of(invocation.inventory).items())
    ]

    def people() -> None:
        words = {True: "yes", False: "no", None: "no answer" if present else "not asked"}
        print_table(
            ("image", "release", "reference", "locked", "in registry", "used by"),
            [
                (
                    str(row["name"]),
                    str(row["release"] or "-"),
                    str(row["reference"]),
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
            f"Pinned {len(locked.images)} image(s) in {file}; look at `git diff`, then commit."
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
    no Docker is contacted at all. Can be interrupted and run again.
    """
    from cli.output.terminal import print_table
    from cli.workflows.images import build_images

    result = build_images(invocation.inventory, invocation.keyring, names, push, invocation.progress)
    data: dict[str, Any] = {"built": result.built, "baked": result.baked, "reused": result.reused}

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
