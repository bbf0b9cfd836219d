"""The pipeline: run."""

from __future__ import annotations

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s pipeline run HEAD")
def pipeline() -> None:
    """Run everything of a change that comes before deploy."""


@command("run", "ostack-k8s pipeline run", "ostack-k8s pipeline run v1.4 -o json", group=pipeline)
@click.argument("revision", default="HEAD")
def run(invocation: Invocation, revision: str) -> None:
    """Validate, plan, build, push, update the Salt master; stops before deploy.

    The git hook on the config machine runs this on every push. The first stage that refuses ends it with exit code 1.
    """
    from cli.output.errors import print_problems
    from cli.workflows.pipeline import run_pipeline

    stages = []
    for stage in run_pipeline(invocation.repository, invocation.keyring, revision, invocation.progress):
        stages.append(stage)
        colour = "red" if stage.error else "green"
        click.secho(f"{stage.name:<9} {stage.result:<8}", fg=colour, nl=False, err=True)
        click.echo(f"{stage.seconds:7.1f} s  {'' if stage.error else stage.detail}", err=True)
        if stage.error:
            print_problems(stage.error.problems, colour="red")
    refused = any(stage.error for stage in stages)
    data = [{"name": s.name, "result": s.result, "seconds": s.seconds, "detail": s.detail} for s in stages]
    invocation.show({"stages": data}, lambda: None if refused else click.echo("Next: ostack-k8s deploy"))
    if refused:
        raise click.exceptions.Exit(1)
