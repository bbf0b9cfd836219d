"""The deployment repository as a whole: init, update."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import Invocation, command

if TYPE_CHECKING:
    from reclass_model.generate import Answers, Question


@command(
    "init",
    "ostack-k8s init mycloud",
    "ostack-k8s init mycloud --defaults",
    "ostack-k8s init lab --all-in-one --defaults --output /tmp/lab",
    "ostack-k8s init mycloud --defaults --services all",
)
@click.argument("name")
@click.option("--defaults", is_flag=True, help="Ask nothing: defaults for all that is not given.")
@click.option(
    "--answers",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with answers; the rest are defaults.",
)
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to (default: ./NAME).",
)
@click.option("--masters", metavar="N", type=int, help="Kubernetes masters: 1, or 3 for high availability.")
@click.option("--all-in-one", is_flag=True, default=None, help="One machine with every role.")
@click.option(
    "--services",
    metavar="WHICH",
    help="A preset of services, or names with commas between; what they need comes with them.",
)
@click.option(
    "--identity-dir", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
    help="Where the age identities go (default: ~/.config/ostack-k8s/NAME).",
)  # fmt: skip
def init(
    invocation: Invocation,
    name: str,
    defaults: bool,
    file: Path | None,
    output: Path | None,
    masters: int | None,
    all_in_one: bool | None,
    services: str | None,
    identity_dir: Path | None,
) -> None:
    """Write a new deployment repository.

    A git repository with one commit. Secrets are encrypted from the start; the identity that opens them is written
    outside of the repository, and its place is printed: keep a copy of it.
    """
    from reclass_model import generate

    if all_in_one and masters not in (None, 1):
        raise click.UsageError("--all-in-one is one machine with every role: leave out --masters.")
    flags = {"cluster_name": name, "masters": masters, "all_in_one": all_in_one, "services": services}
    written = _read(file)
    given = {key: value for key, (value, _) in written.items()}
    given |= {key: value for key, value in flags.items() if value is not None}
    if not defaults and file is None:
        given = _ask(generate.QUESTIONS, given)
    target = output or Path(name)
    answers = _checked_answers(given, file, {key: line for key, (_, line) in written.items()})
    made = generate.create(answers, target, identity_dir, lambda line: None)  # under a second

    def people() -> None:
        click.secho(f"Wrote {_near(made.path)}: {len(made.nodes)} machine(s), one commit.", fg="green")
        click.echo(
            f"The key to its secrets is {made.identity}; it exists only there: keep a copy in a safe place."
        )
        click.echo(f"Next: cd {_near(made.path)} && ostack-k8s validate")

    invocation.show({"path": made.path, "nodes": made.nodes, "identity": made.identity}, people)


@command("update", "ostack-k8s update")
def update(invocation: Invocation) -> None:
    """Merge a newer class library into this repository.

    Your edits survive: the new library is merged by git, and conflicts are git's.
    """
    from reclass_model import update as core

    merged = core.update(invocation.repository, invocation.progress)

    def people() -> None:
        if merged.conflicts:
            click.secho(f"git could not merge {len(merged.conflicts)} file(s):", fg="yellow")
            for file in merged.conflicts:
                click.echo(f"  {file}")
            click.echo("Settle them, `git add` them and `git commit`.")
        elif merged.before == merged.after:
            click.echo(f"The library is {merged.after} already.")
        else:
            click.secho(
                f"Library {merged.before} → {merged.after}. Next: ostack-k8s pki issue, validate, then plan.",
                fg="green",
            )

    invocation.show({"from": merged.before, "to": merged.after, "conflicts": merged.conflicts}, people)
    if merged.conflicts:
        raise click.exceptions.Exit(1)


def _read(file: Path | None) -> dict[str, tuple[Any, int]]:
    """The answers of a YAML file, each with its line; none without one."""
    if file is None:
        return {}
    import yaml

    from reclass_model.errors import OperatorError

    try:
        root = yaml.compose(file.read_text(), yaml.SafeLoader)
        given = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise OperatorError.unreadable(error, str(file), "E010") from None
    if not isinstance(given, dict):
        raise OperatorError("answers are a mapping, question: answer", code="E010", file=str(file), line=1)
    answers: dict[str, tuple[Any, int]] = {}
    for key, _ in root.value if root else ():
        name, line = str(key.value), key.start_mark.line + 1
        if name in answers:
            raise OperatorError(
                f"{name} is answered twice",
                code="E010",
                file=str(file),
                line=line,
                hint=f"first in line {answers[name][1]}; keep one",
            )
        answers[name] = (given[yaml.safe_load(key.value) if name not in given else name], line)
    return answers


def _checked_answers(given: dict[str, Any], file: Path | None, lines: dict[str, int]) -> Answers:
    """The answers; what is wrong with one of a file names its line."""
    from dataclasses import replace

    from reclass_model.errors import OperatorError
    from reclass_model.generate import Answers

    try:
        return Answers.of(given)
    except OperatorError as error:
        raise OperatorError.of(
            *(
                replace(problem, file=str(file), line=lines[problem.path], path=None)
                if problem.path in lines
                else replace(problem, path=None)
                for problem in error.problems
            )
        ) from None


def _ask(questions: Sequence[Question], given: dict[str, Any]) -> dict[str, Any]:
    """The answers of a person to every question that is not answered yet."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "There are questions and no terminal to ask on: add --defaults or --answers FILE."
        )
    answers: dict[str, Any] = {}
    for question in questions:
        default = question.default(answers)
        if question.key in given:
            answers[question.key] = given[question.key]
        elif not question.asked(answers):
            answers[question.key] = default
        else:
            shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
            answers[question.key] = click.prompt(
                question.prompt, shown, value_proc=_checked(question), err=True
            )
    return answers


def _checked(question: Question) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        try:
            return question.check(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    return check


def _near(path: Path) -> Path:
    """The path as one would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
