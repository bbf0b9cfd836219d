"""`ostack-k8s`: the table of commands, and where every error becomes words and an exit code.

Stands before everything else. Nothing heavy is imported here: a command's module is loaded when that command is
asked for, so `--help` and shell completion stay quick. The exit codes are the contract with scripts:
0 done, 1 a check failed, 2 wrong usage, 3 there are changes, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

INTERRUPTED = 130

try:
    import click

    from cli.options import directory_option, format_option
except KeyboardInterrupt:  # `main` is not there yet
    sys.exit(INTERRUPTED)

# section -> command -> (where it is, what it does). The help text is repeated here so that it can be printed
# without loading the command; a test holds both against each other.
SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "The model": {
        "init": ("cli.commands.repository:init", "Write a new deployment repository."),
        "update": ("cli.commands.repository:update", "Merge a newer class library into this repository."),
        "node": ("cli.commands.node:node", "Add or remove a machine."),
        "validate": ("cli.commands.model:validate", "Check the model: schemas, then rules across machines."),
        "inventory": ("cli.commands.model:inventory", "Show the rendered pillar of one machine, or all."),
        "why": ("cli.commands.model:why", "Show where a value comes from."),
        "secrets": ("cli.commands.secrets:secrets", "Read and write encrypted values of the model."),
        "pki": ("cli.commands.pki:pki", "Issue and renew the certificates of the model."),
    },
    "What the model makes": {
        "states": ("cli.commands.model:states", "List the Salt states a machine will run, in order."),
        "images": ("cli.commands.images:images", "List, lock and build the images."),
        "manifests": ("cli.commands.manifests:manifests", "Print the Kubernetes manifests of the overlay."),
        "compose": ("cli.commands.compose:compose", "Run the services with Docker Compose on one machine."),
        "bundle": ("cli.commands.bundle:bundle", "Build or verify what the machines install from."),
    },
    "A change": {
        "plan": ("cli.commands.plan:plan", "Show what a change will do."),
        "pipeline": (
            "cli.commands.pipeline:pipeline",
            "Run everything of a change that comes before deploy.",
        ),
        "deploy": ("cli.commands.rollout:deploy", "Bring the overlay to the model's state."),
        "status": ("cli.commands.rollout:status", "Show release, health, and drift from the model."),
        "rollback": ("cli.commands.rollout:rollback", "Return to the release before."),
        "finalize": ("cli.commands.rollout:finalize", "Finish an upgrade; no way back from here."),
        "run": ("cli.commands.rollout:run", "Run a Job that belongs to no rollout."),
        "smoke": ("cli.commands.rollout:smoke", "Run the checks that end a deployment."),
        "credentials": (
            "cli.commands.credentials:credentials",
            "Write the files that the cloud's clients read.",
        ),
        "report": ("cli.commands.rollout:report", "Show what a rollout did, as JSON or a page."),
    },
    "Places": {
        "lab": ("cli.commands.lab:lab", "Run the model's machines as containers on this one."),
        "completion": ("cli.commands.completion:completion", "Print the completion script of a shell."),
    },
}

COMMANDS = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Root(click.Group):
    """A group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])


@click.group(
    cls=Root,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "OSTACK_K8S",
        "max_content_width": 100,
    },
    epilog="Example: ostack-k8s init mycloud --defaults && ostack-k8s -C mycloud validate",
)
@click.version_option(package_name="ostack-k8s", message="%(prog)s %(version)s")
@directory_option(envvar="OSTACK_K8S_DIRECTORY")
@format_option(envvar="OSTACK_K8S_FORMAT")
def root() -> None:
    """OpenStack on Kubernetes on bare metal, from one git repository of reclass YAML."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    _settle_streams()
    try:
        result: Any = root.main(args=arguments, prog_name="ostack-k8s", standalone_mode=False)
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1  # as click itself leaves when it meets the closed pipe first
    except Exception as error:
        from cli.output.errors import explain

        code = _interrupted() if _follows_an_interruption(error) else explain(error)
    sys.exit(code)


def _interrupted() -> int:
    click.echo("interrupted; run the same command again", err=True)
    return INTERRUPTED


def _follows_an_interruption(error: BaseException | None) -> bool:
    """Whether this went wrong while a KeyboardInterrupt was on its way out: half a module was imported, for example."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _settle_streams() -> None:
    """All text is UTF-8, here and in what we start, whatever the locale; what was closed reads and writes nothing."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their descriptors
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
