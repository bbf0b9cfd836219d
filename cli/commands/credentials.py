"""The operator's way into the cloud: the files that its clients read."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import Invocation, command


@command(
    "credentials",
    "ostack-k8s credentials && . ~/.config/ostack-k8s/mycloud/openrc && openstack token issue",
    "ostack-k8s credentials --output ~/clouds -o json",
)
@click.option(
    "--output",
    "output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to (default: beside the age identity that opens the secrets, ~/.config/ostack-k8s/CLUSTER).",
)
def credentials(invocation: Invocation, output: Path | None) -> None:
    """Write the files that the cloud's clients read.

    They hold the administrator's password, and nobody else can read them. What is in them is declared in the model,
    under kubernetes:control:credentials.
    """
    from cli.workflows.credentials import write_credentials

    place = output or invocation.keyring.path.parent
    files = write_credentials(invocation.inventory, invocation.keyring, place)

    def people() -> None:
        for file in files:
            click.echo(file)

    invocation.show({"files": files}, people)
