"""Which commits a plan compares: what is deployed, and what shall be."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from cli.workflows.plan import Plan, plan_between

if TYPE_CHECKING:
    from reclass_model.repository import Repository

DEPLOYED = "deployed"  # refs/ostack-k8s/deployed, written by `deploy` where it ran


def plan_revisions(repository: Repository, before: str | None, after: str) -> Plan:
    """The plan from one commit to another; None: from nothing. OperatorError E006 for an unknown commit."""
    with ExitStack() as exported:
        old = repository.resolve(before) if before else None
        new = repository.resolve(after)
        old_tree = exported.enter_context(repository.at(old)) if old else None
        new_tree = exported.enter_context(repository.at(new))
        return plan_between(old_tree, new_tree, (old, new))


def deployed_revision(repository: Repository) -> str | None:
    """The commit that the cluster says it runs, else the one remembered here, else None: nothing is deployed."""
    return repository.reference(DEPLOYED)
