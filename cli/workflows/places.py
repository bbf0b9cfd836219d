"""File and line for errors of the core that only name a pillar path: where an operator has to look.

Images, manifests and plans are made from a pillar and know nothing of files; here they meet the model again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def placed(
    function: Callable[Concatenate[Inventory, Arguments], Result],
) -> Callable[Concatenate[Inventory, Arguments], Result]:
    """A function of an inventory whose errors say where in that inventory's files the value was written."""

    @wraps(function)
    def placing(inventory: Inventory, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(inventory, *args, **kwargs)
        except OperatorError as error:
            raise OperatorError.of(*(place(problem, inventory) for problem in error.problems)) from error
        except (AttributeError, KeyError, TypeError, ValueError):
            from reclass_model.validation import validate

            if problems := validate(inventory.repository).errors:  # what a schema refuses may be of any type
                raise OperatorError.of(*problems) from None
            raise

    return placing


def place(problem: Problem, inventory: Inventory) -> Problem:
    """The problem with the line that its path's value comes from (of its machine, else the config machine)."""
    from reclass_model.provenance import origin

    if problem.file:  # in the tree of a commit, which lies in a temporary directory
        return replace(problem, file=inventory.repository.relative(Path(problem.file)))
    if not problem.path:
        return problem
    machine = problem.node or inventory.config_node().name
    found = origin(inventory.repository, machine, problem.path)
    return replace(problem, node=machine, file=found.file, line=found.line) if found else problem
