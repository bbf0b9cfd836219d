"""The same services with Docker Compose on one machine: render, up, down, status."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s compose render")
def compose() -> None:
    """Run the services with Docker Compose on one machine."""


@command("render", "ostack-k8s compose render > compose.yml", group=compose)
def render(invocation: Invocation) -> None:
    """Print the Compose file; Secrets are files that `up` writes beside it."""
    from cli.output.structured import dump
    from cli.workflows.compose import rendered

    file = rendered(invocation.inventory)
    invocation.show(file, lambda: click.echo(dump(file, "yaml"), nl=False))


@command("up", "ostack-k8s compose up", group=compose)
def up(invocation: Invocation) -> None:
    """Write the Compose file with its secrets, and start the services."""
    from cli.workflows.compose import directory_of, require_compose, run, write

    require_compose()
    write(invocation.inventory, invocation.keyring)
    run(directory_of(invocation.repository), "up", "--detach", "--wait")
    _show(invocation)


@command("down", "ostack-k8s compose down", group=compose)
@click.option("--volumes", is_flag=True, help="Remove their data too.")
def down(invocation: Invocation, volumes: bool) -> None:
    """Stop the services and remove what belongs to them."""
    from cli.workflows.compose import directory_of, run

    run(directory_of(invocation.repository), "down", *(["--volumes"] if volumes else []))
    invocation.show({"services": []}, lambda: click.echo("The services are gone."))


@command("status", "ostack-k8s compose status -o json", group=compose)
def status(invocation: Invocation) -> None:
    """List the services that run."""
    _show(invocation)


def _show(invocation: Invocation) -> None:
    from cli.output.terminal import print_table
    from cli.workflows.compose import directory_of, services

    place: Path = directory_of(invocation.repository)
    found = services(place)
    invocation.show(
        {"services": found, "file": place / "compose.yml"},
        lambda: print_table(("service", "state"), [(s["name"], s["state"]) for s in found], styles=("bold",)),
    )
