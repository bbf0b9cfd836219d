"""Errors in words: what is wrong, where (file:line), what to do; never a traceback on the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import click

from reclass_model.cache import cache_directory
from reclass_model.errors import OperatorError, Problem

FAILED = 1


def explain(error: Exception) -> int:
    """Print `error` on stderr and return the exit code."""
    if isinstance(error, OperatorError):
        print_problems(error.problems, colour="red")
    elif refusal := _of_docker(error):
        print_problems([refusal], colour="red")
    elif isinstance(error, OSError):
        click.secho(_of_the_system(error), fg="red", err=True)
        click.echo("      Nothing half-written was kept; mend it and run the same command again.", err=True)
    else:
        click.secho(f"This is a fault of ostack-k8s: {type(error).__name__}: {error}", fg="red", err=True)
        click.echo(f"      The trace is in {_write_trace(error)}; please report it.", err=True)
    return FAILED


def _of_docker(error: Exception) -> Problem | None:
    """What Docker refused, in its words; its client is only there if something asked it."""
    errors = sys.modules.get("docker.errors")
    if errors is None or not isinstance(error, errors.DockerException):
        return None
    words = getattr(error, "explanation", None) or str(error)
    hint = "`docker ps --all` and Docker's log show more; mend it and run the same command again"
    return Problem("E816", f"Docker refused: {words}", hint=hint)


def _of_the_system(error: OSError) -> str:
    """What the operating system refused, and where."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # a tree that could not be copied
        return str(error.args[0][0][-1])
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def place_of(file: str | None, line: int | None) -> str:
    """`file:line`, as far as they are known."""
    return f"{file}:{line}" if file and line else file or ""


def print_problems(problems: Iterable[Problem], colour: str) -> None:
    """One line for each problem, and one for its hint; what several in a row have in common is said after the last."""
    told = list(problems)
    for problem, following in zip_longest(told, told[1:]):
        place = place_of(problem.file, problem.line)
        click.secho(problem.code, fg=colour, bold=True, nl=False, err=True)
        click.echo(f" {place}: {problem.message}" if place else f" {problem.message}", err=True)
        about = ", ".join(part for part in (problem.node, problem.path) if part)
        if about:
            click.secho(f"      in {about}", dim=True, err=True)
        if problem.hint and not (following and following.hint == problem.hint):
            click.echo(f"      {click.style('hint:', fg='cyan')} {problem.hint}", err=True)


def _write_trace(error: Exception) -> Path:
    name = f"trace-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = f"command: {sys.argv[1:]}\n" + "".join(traceback.format_exception(error))
    for directory in (cache_directory(), Path(tempfile.gettempdir())):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / name
            path.write_text(text)
            return path
        except OSError:
            continue
    return Path("(nowhere: no directory can be written)")
