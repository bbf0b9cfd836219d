"""Reading the model: validate, inventory, why, states."""

from __future__ import annotations

import click

from cli.options import Invocation, command, complete_node


@command("validate", "ostack-k8s validate", "ostack-k8s -C mycloud validate -o json")
@click.option("--live", is_flag=True, help="Also ask the machines, through the Salt master.")
def validate(invocation: Invocation, live: bool) -> None:
    """Check the model: schemas, then rules across machines.

    With --live (on the config machine) also the machines: system, kernel, memory, disks, clocks, names, MTU, ports in
    both directions, programs that are not ours; and whether what runs is what the model says (a warning).
    """
    from cli.output.errors import print_problems
    from cli.output.structured import plain
    from reclass_model.validation import validate as check

    report = check(invocation.repository)
    warnings = [*report.warnings]
    errors = [*report.errors]
    if live:
        from cli.workflows.live import live_problems
        from reclass_model.validation import is_error

        found = live_problems(invocation.inventory, invocation.progress)
        errors += [problem for problem in found if is_error(problem)]
        warnings += [problem for problem in found if not is_error(problem)]

    def people() -> None:
        print_problems(warnings, colour="yellow")
        print_problems(errors, colour="red")
        machines = len(invocation.repository.node_names())
        click.secho(
            f"{machines} machine(s): {len(errors)} error(s), {len(warnings)} warning(s)",
            fg="red" if errors else "green",
        )

    invocation.show({"errors": plain(errors), "warnings": plain(warnings)}, people)
    if errors:
        raise click.exceptions.Exit(1)


@command(
    "inventory",
    "ostack-k8s inventory",
    "ostack-k8s inventory ctl01.mycloud.local",
    "ostack-k8s inventory cfg01.mycloud.local --reveal -o json",
)
@click.argument("node", required=False, shell_complete=complete_node)
@click.option("--reveal", is_flag=True, help="Decrypt secrets; needs an age identity.")
def inventory(invocation: Invocation, node: str | None, reveal: bool) -> None:
    """Show the rendered pillar of one machine, or all."""
    from cli.output import pillar
    from cli.output.structured import stream
    from reclass_model.pillar import delivered, revision_of
    from reclass_model.secrets import mask

    model = invocation.inventory
    if invocation.for_people and node is None:
        pillar.print_machines(model.nodes())
        return
    show = invocation.keyring.reveal if reveal else mask
    revision = revision_of(invocation.repository)
    machines = [model.node(node)] if node is not None else model.nodes()
    rendered = (
        (
            machine.name,
            {
                "classes": machine.classes,
                "applications": machine.applications,
                "parameters": show(delivered(machine, revision)),
            },
        )
        for machine in machines
    )
    for text in stream(rendered, "yaml" if invocation.for_people else invocation.format):
        click.echo(text, nl=False)


@command("why", "ostack-k8s why cfg01.mycloud.local _param:openstack_version")
@click.argument("node", shell_complete=complete_node)
@click.argument("path")
def why(invocation: Invocation, node: str, path: str) -> None:
    """Show where a value comes from.

    PATH is written as in Salt: kubernetes:common:version. Every file:line that set it is shown in order, the last one
    wins, then the references that it passed.
    """
    from cli.output import pillar
    from reclass_model import provenance
    from reclass_model.secrets import mask

    answer = provenance.why(invocation.repository, node, path)
    data = {
        "value": mask(answer.value),
        "set_by": [{"file": s.file, "line": s.line, "value": mask(s.value)} for s in answer.set_by],
        "references": [
            {
                "path": r.path,
                "set_by": [{"file": s.file, "line": s.line, "value": mask(s.value)} for s in r.set_by],
            }
            for r in answer.references
        ],
    }
    invocation.show(data, lambda: pillar.print_why(path, data))


@command(
    "states",
    "ostack-k8s states kmst01.mycloud.local",
    "ostack-k8s states aio01.mycloud.local -o json",
    "sudo ostack-k8s states kmst01.mycloud.local --test",
)
@click.argument("node", shell_complete=complete_node)
@click.option(
    "--test", "trial", is_flag=True, help="What they would change on this very machine (test=True; root)."
)
def states(invocation: Invocation, node: str, trial: bool) -> None:
    """List the Salt states a machine will run, in order."""
    from cli.output.terminal import print_table
    from cli.workflows.states import low_states, try_states

    if trial:
        tried = try_states(invocation.repository, node)
        rows = [
            (s.id, s.function, "would change" if s.changes else "as it is", _line(s.comment)) for s in tried
        ]
        invocation.show(
            {"states": tried},
            lambda: print_table(("state", "function", "test=True", ""), rows, styles=("bold",)),
        )
        return
    found = low_states(invocation.repository, node)
    invocation.show(
        {"states": found},
        lambda: print_table(
            ("#", "state", "function", "requires"),
            [(str(i), s.id, s.function, ", ".join(s.requires)) for i, s in enumerate(found, 1)],
        ),
    )


def _line(text: str, width: int = 80) -> str:
    """The first line of what Salt says."""
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= width else first[: width - 1] + "…"
