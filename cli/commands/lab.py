"""The model's machines as containers on this one: lab up, down, status, exec, fault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import Invocation, command, complete_node

if TYPE_CHECKING:
    from kubernetes_formula.lab import LabState


@click.group(epilog="Example: ostack-k8s lab up")
def lab() -> None:
    """Run the model's machines as containers on this one."""


docker_option = click.option(
    "--docker-host", metavar="URL", help="The Docker host (default: the client's own)."
)


def _roles(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(None, (role.strip() for value in values for role in value.split(","))))


@command("up", "ostack-k8s lab up", "ostack-k8s lab up --only kube_master,storage", group=lab)
@click.option(
    "--only", "roles", multiple=True, metavar="ROLE[,ROLE...]", callback=_roles,
    help="Only machines of these roles (and the config machine; masters for pods), and no services.",
)  # fmt: skip
@click.option(
    "--bundle", "place", metavar="DIR", envvar="OSTACK_K8S_BUNDLE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A filled bundle (default: built from source, about 20 minutes once).",
)  # fmt: skip
@click.option("--start-docker", is_flag=True, help="Start a Docker daemon of our own; `lab down` stops it.")
@click.option("--no-deploy", is_flag=True, help="Stop when the machines are applied, before the services.")
@click.option("--rehearse", is_flag=True, help="Also prove that state.apply test=True tells the truth.")
@docker_option
def up(
    invocation: Invocation,
    roles: tuple[str, ...],
    place: Path | None,
    start_docker: bool,
    no_deploy: bool,
    rehearse: bool,
    docker_host: str | None,
) -> None:
    """Start the machines and deploy them as production is deployed.

    From a repository derived from this one, with secrets of its own; commands against the lab use that one
    (`ostack-k8s -C MODEL …`). Interrupted, or when the model changed, run it again and it goes on.
    """
    from cli.workflows.lab import overlay_actions
    from kubernetes_formula import lab as core

    services = not (roles or no_deploy)
    state = core.up(
        invocation.repository,
        only=roles,
        docker_host=docker_host,
        start_docker=start_docker,
        bundle=place,
        rehearse=rehearse,
        overlay=overlay_actions(invocation.progress) if services else [],
        progress=invocation.progress,
    )
    if roles and not no_deploy:
        invocation.progress(
            "no services: they want all machines, which `ostack-k8s lab up` without --only brings up"
        )
    for difference in state.differences:
        invocation.progress(f"differs from bare metal: {difference}")
    _show(invocation, state)
    if invocation.for_people:
        click.echo(
            f"\nNext: ostack-k8s -C {state.model} status\n      kubectl --kubeconfig {state.kubeconfig} get pods -A"
        )


@command("down", "ostack-k8s lab down", group=lab)
@docker_option
def down(invocation: Invocation, docker_host: str | None) -> None:
    """Remove the machines, their data and the derived repository."""
    from kubernetes_formula import lab as core

    core.down(invocation.repository, docker_host=docker_host)
    invocation.show({"nodes": []}, lambda: click.echo("The lab is gone."))


@command("status", "ostack-k8s lab status", group=lab)
@docker_option
def status(invocation: Invocation, docker_host: str | None) -> None:
    """Show the machines and their health: container, systemd, Salt minion, applied commit, BGP, node."""
    from kubernetes_formula import lab as core

    state = core.status(invocation.repository, docker_host=docker_host)
    _show(invocation, state)
    if not state.nodes:
        click.echo("No machine is there: `ostack-k8s lab up` starts them.", err=True)


@command("exec", "ostack-k8s lab exec aio01.mycloud.local -- kubectl get nodes", group=lab)
@click.argument("node", shell_complete=complete_node)
@click.argument("arguments", nargs=-1, required=True, metavar="-- CMD...")
@docker_option
def exec_(invocation: Invocation, node: str, arguments: tuple[str, ...], docker_host: str | None) -> None:
    """Run a command in a machine; its exit code is ours."""
    from kubernetes_formula import lab as core

    raise click.exceptions.Exit(core.execute(invocation.repository, node, arguments, docker_host=docker_host))


@command("fault", "ostack-k8s lab fault kill ctl02.mycloud.local", group=lab)
@click.argument("kind")
@click.argument("node", shell_complete=complete_node)
@docker_option
def fault(invocation: Invocation, kind: str, node: str, docker_host: str | None) -> None:
    """Do something bad to a machine: kill, pause, partition, restart."""
    from kubernetes_formula import lab as core

    machine = core.fault(kind, invocation.repository, node, docker_host=docker_host)
    invocation.show({"nodes": [machine]}, lambda: click.echo(f"{machine.name} is {machine.state}"))


def _show(invocation: Invocation, state: LabState) -> None:
    from cli.output.terminal import print_table, write

    def people() -> None:
        print_table(
            ("machine", "address", "state", "systemd", "minion", "applied", "bgp", "node"),
            [
                (m.name, m.address, m.state, m.system, m.minion, m.applied or "not yet", m.bgp, m.node)
                for m in state.nodes
            ],
            styles=("bold", "", "cyan"),
        )
        for machine in state.nodes:
            for session in machine.down:
                write(f"{machine.name}: no BGP session with {session}", style="yellow")

    invocation.show(state, people)
