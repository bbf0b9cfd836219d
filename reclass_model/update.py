"""Merging a newer class library (and template) into a deployment repo.

Every repo has a *pristine* commit: what `init` or the last `update` wrote, untouched by a person. It is an ancestor of
the branch and found by its trailer. `update` renders the new library on top of it and lets git merge the two, so an
operator's edits survive and conflicts are git's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reclass_model.document import edit
from reclass_model.errors import OperatorError
from reclass_model.generate import TRAILER, Answers, files, pristine_message, write_files
from reclass_model.library import library_version, vendor
from reclass_model.repository import SETTINGS_FILE, Repository


@dataclass(frozen=True)
class Updated:
    """A merge of the library: from which version, to which, and the files that a person has to settle."""

    before: str
    after: str
    conflicts: tuple[str, ...]


def update(repository: Repository, progress: Callable[[str], None]) -> Updated:
    """Merge the library shipped here into a deployment repo.

    With conflicts the merge is left as git leaves it, for a person to settle and commit.
    Raises OperatorError E007 for uncommitted changes, E008 when there is no pristine commit to start from.
    """
    before = repository.settings.library_version
    if (repository.root / ".git" / "MERGE_HEAD").exists():
        raise OperatorError(
            "a merge is not finished",
            code="E007",
            hint="settle its conflicts and `git commit`, or `git merge --abort`; then update again",
        )
    if repository.is_dirty():
        raise OperatorError(
            "there are uncommitted changes",
            code="E007",
            hint="commit them (`git commit -a`), then update again",
        )
    base = _ask(repository, "log", "--topo-order", "-1", "--format=%H", f"--grep=^{TRAILER}: ")
    if not base:
        raise OperatorError(
            "the commit that `init` made is not in this repo's history",
            code="E008",
            hint="fetch the whole history",
        )
    with tempfile.TemporaryDirectory(prefix="ostack-k8s-update-") as directory:
        tree = Path(directory) / "pristine"
        repository.git("worktree", "add", "--quiet", "--detach", str(tree), base)
        try:
            pristine = Repository(tree)
            vendor(tree)
            write_files(tree, files(Answers.of(pristine.settings.answers)))
            edit(tree / SETTINGS_FILE, lambda document: document.update(library_version=library_version()))
            head = pristine.commit(pristine_message(f"Library {library_version()}"), [tree])
        finally:
            repository.git("worktree", "remove", "--force", str(tree))
    if head == base:
        return Updated(before, before, ())
    progress(f"merging library {library_version()} (was {before})")
    return Updated(before, library_version(), _merge(repository, head))


def _merge(repository: Repository, revision: str) -> tuple[str, ...]:
    """Merge a commit; the files in conflict."""
    try:
        repository.git(
            "merge", "--no-ff", "--quiet", "-m", f"Take library {library_version()}", revision,
            environment=repository.author(),
        )  # fmt: skip
    except OperatorError:
        conflicts = _ask(repository, "diff", "--name-only", "--diff-filter=U").splitlines()
        if not conflicts:
            raise
        return tuple(conflicts)
    return ()


def _ask(repository: Repository, *arguments: str) -> str:
    return repository.git(*arguments).decode().strip()
