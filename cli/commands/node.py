"""Machines of the model: add, remove."""

from __future__ import annotations

import click

from cli.options import Invocation, command, complete_node


@click.group(epilog="Example: ostack-k8s node add cmp03.mycloud.local --role kube_compute")
def node() -> None:
    """Add or remove a machine."""


@command("add", "ostack-k8s node add cmp03.mycloud.local --role kube_compute", group=node)
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, help="config, kube_master, kube_control, …; repeat it."
)
@click.option("--address", metavar="IP", help="Address in the underlay network (default: the next free one).")
def add(invocation: Invocation, name: str, roles: tuple[str, ...], address: str | None) -> None:
    """Write a machine's file, its keys, and the member lists it belongs to."""
    from reclass_model import nodes

    path = invocation.repository.relative(
        nodes.add(invocation.repository, name, roles, address, invocation.progress)
    )
    invocation.show(
        {"path": path},
        lambda: click.echo(f"Wrote {path}; look at `git add --all && git diff --cached`, then commit."),
    )


@command("remove", "ostack-k8s node remove cmp03.mycloud.local", group=node)
@click.argument("name", shell_complete=complete_node)
def remove(invocation: Invocation, name: str) -> None:
    """Take a machine out of the model and of every member list."""
    from reclass_model import nodes

    path = invocation.repository.relative(nodes.remove(invocation.repository, name, invocation.progress))
    invocation.show(
        {"path": path},
        lambda: click.echo(f"Removed {path}; look at `git add --all && git diff --cached`, then commit."),
    )
