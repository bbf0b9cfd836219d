"""The same services with Docker Compose on one machine: render, up, down, status."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s compose up")
def compose() -> None:
    """Run the services with Docker Compose on one machine."""


@command("render", "ostack-k8s compose render > compose.yml", group=compose)
def render(invocation: Invocation) -> None:
    """Print the Compose file; `up` writes it with its secrets."""
    from cli.output.structured import dump
    from cli.workflows.compose import here, rendered

    file = rendered(here(invocation.inventory))
    invocation.show(file, lambda: click.echo(dump(file, "yaml"), nl=False))


@command("up", "ostack-k8s compose up", "ostack-k8s compose up -o json", group=compose)
def up(invocation: Invocation) -> None:
    """Start the services and check that they work.

    Makes the images that this Docker host does not have, starts one of each service in order, and ends as a deployment
    does, with the checks of the model. Can be interrupted and run again; `down` removes what it made. What belongs to
    machines (DaemonSets, CronJobs) is left out, with the checks that need it.
    """
    from cli.output.report import print_checks
    from cli.workflows.compose import directory_of, here, services
    from cli.workflows.compose import up as start

    checks = start(here(invocation.inventory), invocation.keyring, invocation.progress)
    directory = directory_of(invocation.repository)
    invocation.show(
        {"services": services(directory), "checks": checks, "directory": directory},
        lambda: print_checks([asdict(check) for check in checks]),
    )
    if invocation.for_people:
        click.echo(f"The clients' files are in {directory}", err=True)
    if any(check.result == "failed" for check in checks):
        raise click.exceptions.Exit(1)


@command("down", "ostack-k8s compose down", "ostack-k8s compose down --volumes", group=compose)
@click.option("--volumes", is_flag=True, help="Remove their data too.")
def down(invocation: Invocation, volumes: bool) -> None:
    """Stop the services and remove what belongs to them; their images stay."""
    from cli.workflows.compose import down as remove
    from cli.workflows.compose import here

    remove(here(invocation.inventory), volumes)
    invocation.show({"services": []}, lambda: click.echo("The services are gone."))


@command("status", "ostack-k8s compose status", "ostack-k8s compose status -o json", group=compose)
def status(invocation: Invocation) -> None:
    """List the services and how they are.

    Exits with 1 when one is not as it should be.
    """
    from cli.output.terminal import print_table
    from cli.workflows.compose import directory_of, services

    found = services(directory_of(invocation.repository))
    invocation.show(
        {"services": found},
        lambda: print_table(
            ("service", "state", ""), [(s.name, s.state, s.detail) for s in found], styles=("bold", "", "dim")
        ),
    )
    if not all(service.settled for service in found):
        raise click.exceptions.Exit(1)
