"""Everything of a change that comes before a person decides: validate → plan → build → push → update.

Run by the config machine's git hook on a push, and by hand. The first stage that refuses ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TYPE_CHECKING

from reclass_model.errors import OperatorError
from reclass_model.repository import Repository

if TYPE_CHECKING:
    from reclass_model.secrets import Keyring

MODEL = Path("/srv/ostack-k8s/model")  # the Salt master's copy of the model


@dataclass(frozen=True)
class Stage:
    """One stage and how it ended."""

    name: str
    result: str  # done | refused
    seconds: float
    detail: str
    error: OperatorError | None = None


@dataclass(frozen=True)
class Change:
    """What the pipeline works on: a commit, its tree, and the repository that has it."""

    repository: Repository
    keyring: Keyring
    revision: str
    tree: Repository
    progress: Callable[[str], None]


def run_pipeline(
    repository: Repository, keyring: Keyring, revision: str, progress: Callable[[str], None]
) -> Iterator[Stage]:
    """Run the stages in order, giving each as it ends; nothing follows a refused one."""
    sha = repository.resolve(revision)
    with repository.at(sha) as tree:
        change = Change(repository, keyring, sha, tree, progress)
        for name, run in STAGES:
            started = time.monotonic()
            try:
                detail = run(change)
                error = None
            except OperatorError as refusal:
                detail, error = str(refusal), refusal
            stage = Stage(
                name, "refused" if error else "done", round(time.monotonic() - started, 3), detail, error
            )
            yield stage
            if error:
                return


def _validate(change: Change) -> str:
    from reclass_model.validation import validate

    report = validate(change.tree, history=change.repository)
    if report.errors:
        raise OperatorError("the model is not valid", problems=report.errors)
    return f"{len(change.tree.node_names())} machine(s), {len(report.warnings)} warning(s)"


def _plan(change: Change) -> str:
    from cli.workflows.revisions import deployed_revision, plan_revisions

    plan = plan_revisions(change.repository, deployed_revision(change.repository), change.revision)
    return f"{plan.digest}: {len(plan.images)} image(s), {len(plan.steps)} step(s), impact {plan.impact}"


def _build(change: Change) -> str:
    return _make_images(change, push=False)


def _push(change: Change) -> str:
    return _make_images(change, push=True)


def _make_images(change: Change, push: bool) -> str:
    from cli.workflows.images import build_images
    from reclass_model.inventory import Inventory

    result = build_images(Inventory(change.tree), change.keyring, (), push, change.progress)
    return f"{len(result.built)} built, {len(result.baked)} baked, {len(result.reused)} reused"


def _update(change: Change) -> str:
    """Bring the Salt master's copy to the commit; a machine without one has nothing to update.

    Two pushes may be in the pipeline at once, and the older one may come last: it does not take the copy back.
    """
    if not (MODEL / ".git").exists():
        return f"nothing to update: no {MODEL} on this machine"
    copy = Repository(MODEL)
    with (MODEL / ".git/ostack-k8s.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if change.repository.root != copy.root:
            copy.git("fetch", "--quiet", str(change.repository.root), change.revision)
        there = copy.head()
        if there != change.revision and copy.contains(there, change.revision):
            return f"{MODEL} stays at {there[:12]}, which is newer: git -C {MODEL} checkout --detach REV goes back"
        copy.git("checkout", "--quiet", "--force", "--detach", change.revision)
    return f"{MODEL} is at {change.revision[:12]}"


STAGES: tuple[tuple[str, Callable[[Change], str]], ...] = (
    ("validate", _validate),
    ("plan", _plan),
    ("build", _build),
    ("push", _push),
    ("update", _update),
)
