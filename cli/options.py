"""The options that every command has, and what they give to it: the repository and the way to print.

Stands between click and the commands: `-C DIR` and `-o FORMAT` may be written before or after the command's name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

Function = TypeVar("Function", bound=Callable[..., Any])
FORMATS = ("human", "json", "yaml")


class Invocation:
    """One run of the command line: which repository, which output; `click` keeps it as the context's object."""

    def __init__(self) -> None:
        self.directory = "."
        self.format = "human"
        self._started = time.monotonic()

    @cached_property
    def repository(self) -> Repository:
        """The deployment repository at or above `-C DIR`; OperatorError E001 when there is none."""
        from reclass_model.repository import Repository

        return Repository.find(Path(self.directory))

    @cached_property
    def inventory(self) -> Inventory:
        """The model as it lies in the working tree."""
        from reclass_model.inventory import Inventory

        return Inventory(self.repository)

    @cached_property
    def keyring(self) -> Keyring:
        """The key that reveals secrets; OperatorError E4xx when this machine has none."""
        from reclass_model.secrets import Keyring

        return Keyring.find(self.repository)

    @property
    def for_people(self) -> bool:
        return self.format == "human"

    def show(self, data: Any, people: Callable[[], None]) -> None:
        """Print `data` for programs, or call `people`, which prints for a reader."""
        if self.for_people:
            people()
            return
        from cli.output.structured import dump

        click.echo(dump(data, self.format), nl=False)

    def progress(self, text: str) -> None:
        """One line of progress on stderr, with the seconds since the command began."""
        passed = click.style(f"{time.monotonic() - self._started:7.1f} s  ", dim=True)
        click.echo(passed + text, err=True)  # at once: several threads tell

    def confirm(self, question: str, yes: bool) -> None:
        """Go on only if a person agrees: `--yes`, or an answer on the terminal; usage error without either."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{question} There is no terminal to ask on: add --yes.")
        if not click.confirm(question, err=True):
            click.echo("Nothing was done.", err=True)
            raise click.exceptions.Exit(1)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name is not None:
        setattr(ctx.ensure_object(Invocation), parameter.name, value)


def _settle(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Take note of `-C`, and of what the repository there wants where neither a flag nor the environment says it."""
    _remember(ctx, parameter, value)
    if value is not None or ctx.parent is None:
        ctx.default_map = _wanted(Path(value or "."), ctx)
    if ctx.default_map:
        ctx.default_map = _by_parameter(ctx, ctx.default_map)


def _wanted(directory: Path, ctx: click.Context) -> dict[str, Any]:
    """The `options` of a command in the `.ostack-k8s.yml` at or above `directory`, if there is one."""
    from reclass_model.errors import OperatorError
    from reclass_model.repository import SETTINGS_FILE, Repository

    here = directory.resolve()
    file = next((path for top in (here, *here.parents) if (path := top / SETTINGS_FILE).is_file()), None)
    if file is None or b"\noptions:" not in file.read_bytes():  # most have none, and YAML takes its time
        return {}
    options: Any = Repository(file.parent).settings.options
    everywhere = {"format": options["format"]} if "format" in options else {}
    commands: list[str] = []
    while ctx.parent is not None:
        commands.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    for name in commands:
        options = options.get(name) or {}
        if not isinstance(options, dict):
            raise OperatorError(f"options: {name} is no mapping", code="E002", file=SETTINGS_FILE)
    return {**everywhere, **options}


def _by_parameter(ctx: click.Context, options: Any) -> dict[str, Any]:
    """Options as they are written on the command line → as click names them; E002 for one that there is not."""
    from reclass_model.errors import OperatorError
    from reclass_model.repository import SETTINGS_FILE

    if not isinstance(options, dict):
        raise OperatorError(f"options: {ctx.info_name} is no mapping", code="E002", file=SETTINGS_FILE)
    command = ctx.command
    known = {name: name for name in command.list_commands(ctx)} if isinstance(command, click.Group) else {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name:
            known |= {spelling.lstrip("-"): parameter.name for spelling in parameter.opts}
    for name in options:
        if name not in known:
            raise OperatorError(
                f"options: {ctx.command_path} has no {name!r}",
                code="E002",
                file=SETTINGS_FILE,
                hint=f"known: {', '.join(known)}",
            )
    return {known[name]: value for name, value in options.items()}


def directory_option(envvar: str | None = None) -> Callable[[Function], Function]:
    return click.option(
        "-C", "directory", metavar="DIR", envvar=envvar, expose_value=False, callback=_settle, is_eager=True,
        type=click.Path(exists=True, file_okay=False),
        help="The deployment repository (default: here, found upward).",
    )  # fmt: skip


def format_option(envvar: str | None = None) -> Callable[[Function], Function]:
    return click.option(
        "-o", "--format", "format", type=click.Choice(FORMATS), envvar=envvar, expose_value=False,
        callback=_remember, help="How to print on stdout (default: human).",
    )  # fmt: skip


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


class Command(click.Command):
    """A command whose help ends with examples that can be pasted."""

    examples: Sequence[str] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def command(
    name: str, *examples: str, group: click.Group | None = None, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command with its examples and the options that every command has."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        taking = pass_invocation(function)
        made = click.command(name, cls=Command, **settings)(directory_option()(format_option()(taking)))
        made.examples = examples
        if group is not None:
            group.add_command(made)
        return made

    return decorate


def complete_node(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Shell completion of a machine's name; nothing where there is no repository."""
    from reclass_model.errors import OperatorError

    try:
        names = ctx.ensure_object(Invocation).repository.node_names()
    except OperatorError:
        return []
    return [name for name in names if name.startswith(incomplete)]
