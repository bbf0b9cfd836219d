"""What machines install from: bundle build, bundle verify."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import Invocation, command
from reclass_model.cache import cache_directory

if TYPE_CHECKING:
    from kubernetes_formula.bundle import Artifact


@click.group(epilog="Example: ostack-k8s bundle build --from-source")
def bundle() -> None:
    """Build or verify what the machines install from."""


@command(
    "build",
    "ostack-k8s bundle build",
    "ostack-k8s bundle build --from-source /srv/ostack-k8s/bundle",
    group=bundle,
)
@click.argument("place", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--from-source", is_flag=True, help="Build with Go through its module proxy (about 20 minutes)."
)
@click.option("--no-record", is_flag=True, help="Do not write the checksums into the model.")
def build(invocation: Invocation, place: Path | None, from_source: bool, no_record: bool) -> None:
    """Fill a directory with the artifacts, and write their checksums into the model.

    What is there already is left alone; an interrupted build goes on.
    """
    from kubernetes_formula import bundle as core

    target = place or default_directory()
    made = core.build(target, recipe_of(invocation), from_source, invocation.progress)
    if not no_record:
        recorded = core.record(invocation.repository, made)
        invocation.progress(f"checksums are in {invocation.repository.relative(recorded)}: commit it")
    _show(invocation, made, target)


@command(
    "verify",
    "ostack-k8s bundle verify",
    "ostack-k8s bundle verify /srv/ostack-k8s/bundle --record",
    group=bundle,
)
@click.argument("place", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--record", is_flag=True, help="Write the checksums of what is there into the model.")
def verify(invocation: Invocation, place: Path | None, record: bool) -> None:
    """Check every artifact against the model's checksums and the bundle's own."""
    from cli.output.errors import print_problems
    from kubernetes_formula import bundle as core

    target = place or default_directory()
    recipe = recipe_of(invocation)
    if record:
        recorded = core.record(invocation.repository, core.inspect(target, recipe))
        invocation.progress(f"checksums are in {invocation.repository.relative(recorded)}: commit it")
        recipe = recipe_of(invocation)
    problems = core.verify(target, recipe)
    if problems:
        print_problems(problems, colour="red")
        raise click.exceptions.Exit(1)
    _show(invocation, core.inspect(target, recipe), target)


def default_directory() -> Path:
    """Where the bundle is kept on this machine, shared by all repositories."""
    return cache_directory() / "bundle"


def recipe_of(invocation: Invocation) -> Mapping[str, Any]:
    """The pillar's `bundle`: artifacts with versions, paths and checksums, of the first machine that installs any."""
    from reclass_model.errors import OperatorError
    from reclass_model.inventory import Inventory, get

    for node in Inventory(invocation.repository).nodes():
        recipe: Mapping[str, Any] = get(node.parameters, "bundle", {})
        if recipe.get("artifact"):
            return recipe
    raise OperatorError(
        "no machine of the model installs anything: no `bundle:artifact`",
        code="E104",
        hint="give a machine a role that includes class system.bundle",
    )


def _show(invocation: Invocation, artifacts: list[Artifact], directory: Path) -> None:
    from cli.output.terminal import print_table, write

    def people() -> None:
        print_table(
            ("artifact", "version", "MB", "sha256"),
            [(a.name, a.version, f"{a.bytes / 1e6:.1f}", a.sha256[:16] + "…") for a in artifacts],
            styles=("bold", "", "", "dim"),
        )
        write(f"{len(artifacts)} artifacts in {directory}", style="green")

    invocation.show({"directory": directory, "artifacts": artifacts}, people)
