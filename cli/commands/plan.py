"""The plan of a change: plan."""

from __future__ import annotations

import click

from cli.options import Invocation, command

CHANGES = 3  # exit code with --detailed-exitcode


@command(
    "plan",
    "ostack-k8s plan",
    "ostack-k8s plan --from HEAD~1 --to HEAD",
    "ostack-k8s plan --detailed-exitcode -o json",
)
@click.option("--from", "before", metavar="REV", help="Compare with this commit (default: what is deployed).")
@click.option("--to", "after", metavar="REV", default="HEAD", show_default=True, help="The commit to plan.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 3 when there are changes.")
def plan(invocation: Invocation, before: str | None, after: str, detailed_exitcode: bool) -> None:
    """Show what a change will do.

    Values with file:line, images, objects, pods that restart, machines whose states change, and the steps of a
    deploy in order. Without --from, the commit recorded in the cluster is asked for; where no cluster answers, the one
    that this repository remembers.
    """
    from cli.output.plan import print_plan
    from cli.workflows.revisions import deployed_revision, left_out, plan_revisions

    repository = invocation.repository
    if before is None:
        before = deployed_revision(repository)
    warnings = left_out(repository, after)
    made = plan_revisions(repository, before, after)
    names = (
        repository.describe(made.before) if made.before else "nothing deployed",
        repository.describe(after),
    )
    invocation.show({**made.data, "warnings": warnings}, lambda: print_plan(made, names, warnings))
    if not invocation.for_people:
        for warning in warnings:
            click.echo(f"! {warning}", err=True)
    if detailed_exitcode and made.changes_anything:
        raise click.exceptions.Exit(CHANGES)
