"""The overlay in the cluster: deploy, status, rollback, finalize, smoke, report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import Invocation, command, yes_option

if TYPE_CHECKING:
    from cli.workflows.deployment import Report
    from kubernetes_formula.rollout import RolloutRecord


@command(
    "deploy",
    "ostack-k8s deploy",
    "ostack-k8s deploy --dry-run",
    "ostack-k8s deploy v1.4 --plan 3f2a91c04b7d --yes -o json",
    "ostack-k8s deploy --repair",
)
@click.argument("revision", default="HEAD")
@click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")
@click.option(
    "--plan", "digest", metavar="DIGEST", help="Only if the plan is still this one, which was reviewed."
)
@click.option("--repair", is_flag=True, help="Also bring back what differs in the cluster: see `status`.")
@yes_option
def deploy(
    invocation: Invocation, revision: str, dry_run: bool, digest: str | None, repair: bool, yes: bool
) -> None:
    """Bring the overlay to the model's state.

    Shows the plan, asks, runs its steps, and ends with the checks of `smoke`. What starts anew runs side by side, what
    touches running services one at a time. Every step is recorded in the cluster: killed at any moment and run
    again, it goes on. Refuses what a plan refuses.

    A plan compares commits. What somebody changed or deleted in the cluster itself, only `status` knows, and --repair.
    """
    from cli.output.plan import print_plan
    from cli.workflows import deployment
    from cli.workflows.revisions import deployed_revision, left_out, plan_revisions
    from reclass_model.errors import OperatorError

    repository = invocation.repository
    before = deployed_revision(repository)
    plan = plan_revisions(repository, before, revision)
    if digest and digest != plan.digest:
        raise OperatorError(
            f"the plan is {plan.digest} now, not {digest}: something changed since it was reviewed",
            code="E043",
            hint=f"read `ostack-k8s plan --to {revision}`, then deploy with --plan {plan.digest}",
        )
    if invocation.for_people:
        names = (
            repository.describe(before) if before else "nothing deployed",
            repository.describe(plan.after),
        )
        print_plan(plan, names, left_out(repository, revision))
    if dry_run:
        invocation.show({"rollout": None, "steps": plan.steps, "plan": plan.data}, lambda: None)
        return
    invocation.confirm("Run it?", yes)
    _show(invocation, deployment.deploy(repository, invocation.keyring, plan, invocation.progress, repair))


@command("rollback", "ostack-k8s rollback", "ostack-k8s rollback --yes -o json")
@yes_option
def rollback(invocation: Invocation, yes: bool) -> None:
    """Return to the release before.

    Applies the objects that were there before the latest deploy. Possible until `finalize`; from then on a deploy of
    the release that was left is refused until the model agrees (`git revert`).
    """
    from kubernetes_formula.rollout import rollback_steps

    _run(invocation, "rollback", "Return to what was there before?", yes, rollback_steps)


@command("finalize", "ostack-k8s finalize", "ostack-k8s finalize --yes -o json")
@yes_option
def finalize(invocation: Invocation, yes: bool) -> None:
    """Finish an upgrade; no way back from here.

    Runs the migrations that remove what the old release needed, and those that run beside the service.
    """
    from kubernetes_formula.rollout import finalize_steps

    _run(invocation, "finalize", "Finish the upgrade? There is no rollback after it.", yes, finalize_steps)


def _run(invocation: Invocation, action: str, question: str, yes: bool, steps_of: Any) -> None:
    """Show the steps, ask, run them."""
    from cli.workflows import deployment

    repository, keyring = invocation.repository, invocation.keyring
    upcoming: RolloutRecord = steps_of(deployment.connect(repository, keyring))
    for number, each in enumerate(upcoming.steps, 1):
        click.echo(f"{number:>3}. {each.step.name}   {each.step.detail}", err=True)
    invocation.confirm(question, yes)
    report = deployment.return_or_end(action, repository, keyring, invocation.inventory, invocation.progress)
    _show(invocation, report)


def _show(invocation: Invocation, report: Report) -> None:
    from cli.output.report import print_report

    invocation.show(report, lambda: print_report(report))
    if report["result"] != "done" or any(check["result"] == "failed" for check in report["checks"]):
        raise click.exceptions.Exit(1)


@command("status", "ostack-k8s status", "ostack-k8s status -o json")
def status(invocation: Invocation) -> None:
    """Show release, health, and drift from the model.

    Where the Salt master is also the machines' BGP sessions that are not up, under `network` (null: not asked).
    Exits with 1 when a workload is not healthy, or a session is not up.
    """
    from cli.output.errors import print_problems
    from cli.output.report import print_status
    from cli.output.structured import plain
    from cli.workflows import deployment
    from cli.workflows.live import network_problems
    from cli.workflows.overlay import overlay_of
    from kubernetes_formula.rollout import status as ask
    from reclass_model.errors import OperatorError

    cluster = deployment.connect(invocation.repository, invocation.keyring)
    found = ask(cluster, overlay_of(invocation.inventory, None))
    try:
        network = network_problems(invocation.inventory)
    except OperatorError as error:  # only root may ask, and the cluster was asked
        network = None
        invocation.progress(f"BGP sessions were not asked for: {error}")

    def people() -> None:
        print_status(found)
        print_problems(network or (), colour="red")

    invocation.show({**found.as_dict(), "network": plain(network)}, people)
    if network or not all(workload.ok for workload in found.workloads):
        raise click.exceptions.Exit(1)


@command(
    "run",
    "ostack-k8s run database-server restore",
    "ostack-k8s run database-server restore SNAPSHOT=20261126T101500Z.sql --yes",
)
@click.argument("workload")
@click.argument("job")
@click.argument("variables", nargs=-1, metavar="[NAME=VALUE]...")
@yes_option
def run(invocation: Invocation, workload: str, job: str, variables: tuple[str, ...], yes: bool) -> None:
    """Run a Job that belongs to no rollout.

    One of a workload's Jobs of the phase `manual`, as it was deployed, with its variables set; prints what it prints.
    """
    from cli.workflows import deployment
    from kubernetes_formula.rollout import run_job

    if wrong := [each for each in variables if "=" not in each]:
        raise click.UsageError(f"{wrong[0]!r} is not NAME=VALUE")
    told = dict(each.split("=", 1) for each in variables)
    cluster = deployment.connect(invocation.repository, invocation.keyring)
    invocation.confirm(f"Run the Job {job} of {workload} now?", yes)
    printed = run_job(cluster, workload, job, told, progress=invocation.progress)
    invocation.show({"workload": workload, "job": job, "output": printed}, lambda: click.echo(printed))


@command("smoke", "ostack-k8s smoke", "ostack-k8s smoke -o json")
def smoke(invocation: Invocation) -> None:
    """Run the checks that end a deployment.

    They are declared in the model, under kubernetes:control:smoke. Exits with 1 when one fails.
    """
    from cli.output.report import print_checks
    from cli.workflows.smoke import run_checks

    checks = run_checks(invocation.inventory, invocation.keyring, invocation.progress)
    invocation.show({"checks": checks}, lambda: print_checks([asdict(check) for check in checks]))
    if any(check.result == "failed" for check in checks):
        raise click.exceptions.Exit(1)


@command("report", "ostack-k8s report", "ostack-k8s report --html report.html")
@click.argument("rollout", required=False)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one self-contained page.",
)
def report(invocation: Invocation, rollout: str | None, page: Path | None) -> None:
    """Show what a rollout did, as JSON or a page.

    The newest one, or ROLLOUT. From the config machine's reports where they are, else from the cluster's record.
    """
    from cli.output.report import print_report
    from cli.workflows import deployment
    from cli.workflows import report as kept
    from reclass_model.errors import OperatorError

    found = kept.find(rollout)
    if found is None:
        cluster = deployment.connect(invocation.repository, invocation.keyring)
        found = deployment.recorded(cluster, invocation.repository, rollout)
    if found is None:
        what = f"no rollout {rollout!r} is known" if rollout else "nothing was ever deployed"
        raise OperatorError(what, code="E041", hint="`ostack-k8s status` shows the latest")
    if page:
        kept.write_page(found, page)
        click.echo(f"Wrote {page}", err=True)
    known = found
    invocation.show(known, lambda: print_report(known))
