"""Which commits a plan compares: what is deployed, and what shall be."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from cli.workflows.plan import Plan, plan_between
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from reclass_model.repository import Repository

DEPLOYED = "deployed"  # refs/ostack-k8s/deployed, written by `deploy` where it ran
PATIENCE_SECONDS = 0.0  # a plan asks once: it is not worth the wait for a cluster that may not be there


def plan_revisions(repository: Repository, before: str | None, after: str) -> Plan:
    """The plan from one commit to another; None: from nothing. OperatorError E006 for an unknown commit."""
    with ExitStack() as exported:
        old = repository.resolve(before) if before is not None else None
        new = repository.resolve(after)
        old_tree = exported.enter_context(repository.at(old)) if old else None
        new_tree = exported.enter_context(repository.at(new))
        return plan_between(old_tree, new_tree, (old, new))


def left_out(repository: Repository, after: str) -> list[str]:
    """What a person may think is in a plan of this commit, and is not."""
    if after == "HEAD" and repository.is_dirty():
        return ["the working tree has changes that are not committed; they are not in this plan"]
    return []


def deployed_revision(repository: Repository) -> str | None:
    """The commit that the cluster says it runs; where none answers, the one remembered here; None: nothing."""
    from kubernetes_formula.rollout import Cluster, deployed, kubeconfig
    from reclass_model.secrets import Keyring

    try:
        path = kubeconfig(repository, Keyring.find(repository))
        found = deployed(Cluster.connect(path, patience=PATIENCE_SECONDS))
    except OperatorError:  # no key here, no cluster yet, or not reachable from here
        return repository.reference(DEPLOYED)
    revision = found.revision if found else None
    if revision and not repository.knows(revision):
        raise OperatorError(
            f"the commit that is deployed, {revision[:12]}, is not in {repository.root}",
            code="E006",
            hint="it was deployed from another checkout: push it there, fetch it here; or `plan --from REV`",
        )
    return revision
