"""Bringing a commit of the model to the cluster: connect, deploy, roll back, finalize, and the report of each.

The steps and their order are kubernetes_formula's; here the model's overlay and the cluster's record are handed to it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.workflows.revisions import DEPLOYED
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from cli.workflows.plan import Plan
    from kubernetes_formula.rollout import Cluster, RolloutRecord
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

Report = dict[str, Any]
Progress = Callable[[str], None]


def connect(repository: Repository, keyring: Keyring) -> Cluster:
    """The model's cluster, with an administrator's certificate that lasts a day."""
    from kubernetes_formula.rollout import Cluster, kubeconfig

    return Cluster.connect(kubeconfig(repository, keyring))


def deploy(
    repository: Repository, keyring: Keyring, plan: Plan, progress: Progress, repair: bool = False
) -> Report:
    """Run the rollout of `plan.after` and then the checks; its report. `repair`: also what drifted since the last one.

    OperatorError when a step fails: run it again and it goes on. A failed check is in the report.

    OperatorError E506 when the commit has no lock of its images, E046 when machines that it needs are not applied
    yet; then nothing is begun.
    """
    from cli.workflows.images import require_locked
    from cli.workflows.machines import require_applied
    from cli.workflows.overlay import overlay_of
    from cli.workflows.report import keep
    from cli.workflows.smoke import run_checks
    from kubernetes_formula import rollout
    from reclass_model.endpoints import authority
    from reclass_model.inventory import Inventory, get

    cluster = connect(repository, keyring)
    with repository.at(plan.after) as tree:
        inventory = Inventory(tree)
        require_locked(inventory)
        overlay = overlay_of(inventory, keyring)
        require_applied(cluster, inventory, overlay)
        report = _reported(
            cluster,
            plan,
            lambda: rollout.deploy(
                cluster,
                overlay,
                revision=plan.after,
                authority=authority(inventory.config_node().parameters),
                progress=progress,
                releases=get(inventory.config_node().parameters, "openstack:release", {}),
                repair=repair,
            ),
        )
        if report["result"] == "done":
            _remember(repository, report)
            report["checks"] = [asdict(check) for check in run_checks(inventory, keyring, progress)]
            keep(report)
    return report


def return_or_end(
    action: str, repository: Repository, keyring: Keyring, inventory: Inventory, progress: Progress
) -> Report:
    """Run a `rollback` or a `finalize`; its report."""
    from kubernetes_formula import rollout
    from reclass_model.endpoints import authority

    cluster = connect(repository, keyring)
    run = rollout.rollback if action == "rollback" else rollout.finalize
    trusted = authority(inventory.config_node().parameters)
    report = _reported(cluster, None, lambda: run(cluster, authority=trusted, progress=progress))
    if report["result"] == "done":
        _remember(repository, report)
    return report


def _remember(repository: Repository, report: Report) -> None:
    """Note here what is deployed, for plans where the cluster does not answer; not a commit that is not known here."""
    with suppress(OperatorError):
        repository.set_reference(DEPLOYED, report["to"])


def recorded(cluster: Cluster, repository: Repository, identity: str | None) -> Report | None:
    """The report of a rollout from the cluster's own record, the newest when none is named; None without one.

    What a deploy changed is planned anew, where this repository knows both commits.
    """
    from cli.workflows.revisions import plan_revisions
    from kubernetes_formula.rollout import Records

    records = Records(cluster)
    record = records.find(identity) if identity else records.latest()
    if record is None:
        return None
    before, plan = _before(cluster, record), None
    if record.action == "deploy":
        with suppress(OperatorError):
            plan = plan_revisions(repository, before, record.revision)
    return report_of(record, before, plan)


def _before(cluster: Cluster, record: RolloutRecord) -> str | None:
    """The commit that was deployed before a rollout."""
    from kubernetes_formula.rollout import Records

    previous = Records(cluster).before(record)
    return previous.revision if previous else None


def report_of(record: RolloutRecord, before: str | None, plan: Plan | None) -> Report:
    """What happened, as plain data: the record's steps and downtime, and the plan that it carried out.

    A deploy adds the checks that it ends with.
    """
    from kubernetes_formula.rollout import critical_path, duration

    data = record.as_dict()
    return {
        "rollout": data.pop("id"),
        "action": data.pop("action"),
        "result": data.pop("state"),
        "from": before,
        "to": data.pop("revision"),
        "seconds": duration(record.steps),
        "critical_path": [asdict(link) for link in critical_path(record.steps)],
        "steps": data.pop("steps"),
        "downtime": data.pop("downtime"),
        **data,
        "plan": plan.data if plan else None,
        "checks": [],
    }


def _reported(cluster: Cluster, plan: Plan | None, run: Callable[[], RolloutRecord]) -> Report:
    """Run it and keep its report, also of a failure."""
    from cli.workflows.report import keep
    from kubernetes_formula.rollout import Records

    try:
        record = run()
    except OperatorError as error:
        last = None
        if not error.code.startswith("E64"):
            with suppress(OperatorError):  # what ended the rollout is what to tell
                last = Records(cluster.hurried()).latest()
        if last and last.state == "failed":
            keep(report_of(last, plan.before if plan else None, plan))
        raise
    report = report_of(record, plan.before if plan else _before(cluster, record), plan)
    keep(report)
    return report
