"""`validate`: is this model right? Files, then rendering, then schemas, then what crosses machines, then releases
and their options.

Every problem names the file and line to mend; the same problem on many machines is told once. Needs no key and writes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reclass_model.errors import OperatorError, Problem
from reclass_model.inventory import Inventory, Node
from reclass_model.library import mismatch
from reclass_model.repository import Repository
from reclass_model.secrets import check
from reclass_model.sources import Sources
from reclass_model.validation.cluster import Cluster
from reclass_model.validation.contract import Contracts
from reclass_model.validation.files import file_problems
from reclass_model.validation.issued import unissued
from reclass_model.validation.option import option_problems
from reclass_model.validation.release import kubernetes_problems, release_problems

DEPLOYED = "deployed"  #: the reference (Repository.reference) to what runs now


@dataclass(frozen=True)
class Report:
    """What is wrong with a model, and what may be."""

    errors: list[Problem]
    warnings: list[Problem]

    @property
    def ok(self) -> bool:
        return not self.errors


def validate(repository: Repository, history: Repository | None = None) -> Report:
    """Check the whole model. Raises OperatorError only where there is no model to check (E00x).

    `history`: the repo in git that knows what is deployed, where `repository` is the exported tree of a commit.
    """
    sources = Sources(repository)
    found = [*mismatch(repository), *file_problems(sources), *check(repository, None)]
    if not any(is_error(problem) for problem in found):
        found += _pillar_problems(repository, sources, history or repository)
    merged = _told_once(found)
    return Report(
        errors=[problem for problem in merged if is_error(problem)],
        warnings=[problem for problem in merged if not is_error(problem)],
    )


def is_error(problem: Problem) -> bool:
    return problem.code.startswith("E")


def _pillar_problems(repository: Repository, sources: Sources, history: Repository) -> list[Problem]:
    found: list[Problem] = []
    wanting: list[Problem] = []  # told when all else is right: `pki issue` has to render the model too
    contracts, cluster = Contracts(repository, sources), Cluster(repository, sources)
    try:
        for node in Inventory(repository).nodes():
            found += contracts.problems(node)
            cluster.add(node)
            wanting += unissued(node, repository, sources)
    except OperatorError as error:  # rules across machines would speak of machines that are not there
        return [*found, *error.problems]
    found += cluster.problems()
    if cluster.config is not None:
        deployed = _config_machine(history, history.reference(DEPLOYED)) if history.is_git() else None
        found += release_problems(deployed, cluster.config, repository, sources)
        # Machines leave no note in git: before the first deploy the commit before is what they may have.
        before = deployed or _config_machine(history, _commit_before(repository, history))
        runs = "which runs now" if deployed else "of the commit before, which machines may run"
        found += kubernetes_problems(before, cluster.config, repository, sources, runs)
        told = {problem.place for problem in found}  # a schema's words for the same value are better
        options = option_problems(cluster.config, repository, sources)
        found += [problem for problem in options if problem.place not in told]
    return found if any(map(is_error, found)) else [*found, *wanting]


def _commit_before(repository: Repository, history: Repository) -> str | None:
    """What a change in `repository` was made to: HEAD where it is not (yet) in HEAD, else the one before."""
    if not history.is_git():
        return None
    revision = "HEAD" if repository is not history or history.is_dirty() else "HEAD^"
    return revision if history.knows(revision) else None


def _config_machine(repository: Repository, revision: str | None) -> Node | None:
    """The config machine at a commit; None without one, or when that model cannot be read any more."""
    if revision is None:
        return None
    try:
        with repository.at(revision) as old:
            return Inventory(old).config_node()
    except OperatorError:
        return None


def _told_once(problems: Iterable[Problem]) -> list[Problem]:
    """The same thing wrong at the same place is one problem, whatever the number of machines it reaches."""
    grouped: dict[tuple[object, ...], list[Problem]] = {}
    for problem in problems:
        place = (problem.file, problem.line) if problem.file else (problem.node,)
        grouped.setdefault((problem.code, problem.message, problem.path, *place), []).append(problem)
    merged = []
    for group in grouped.values():
        others = {problem.node for problem in group} - {group[0].node}
        more = f" (and on {len(others)} more machines)" if others else ""
        merged.append(replace(group[0], message=group[0].message + more))
    return sorted(merged, key=lambda problem: (problem.code, problem.file or "", problem.line or 0))
