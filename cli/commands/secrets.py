"""Encrypted values of the model: set, get, edit, rekey, check."""

from __future__ import annotations

import sys

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s secrets check")
def secrets() -> None:
    """Read and write encrypted values of the model."""


@command(
    "set",
    "ostack-k8s secrets set smtp_password",
    "pwgen 32 1 | ostack-k8s secrets set smtp_password",
    group=secrets,
)
@click.argument("path")
def set_(invocation: Invocation, path: str) -> None:
    """Encrypt a value into secrets.yml.

    PATH is a `_param`, or written out as a:b:c. The value is asked for, or read from a pipe; it is never an argument,
    because every user of a machine sees those.
    """
    from reclass_model import secrets as core

    repository = invocation.repository
    core.set_secret(repository, invocation.keyring, path, _read_value(path))
    file = repository.relative(repository.secrets_file)
    invocation.show({"path": path, "file": file}, lambda: click.echo(f"Sealed {path} in {file}; commit it."))


@command("get", "ostack-k8s secrets get smtp_password", group=secrets)
@click.argument("path")
def get(invocation: Invocation, path: str) -> None:
    """Print one value in clear text."""
    from reclass_model import secrets as core

    value = core.get_secret(invocation.repository, invocation.keyring, path)
    invocation.show({"path": path, "value": value}, lambda: click.echo(value))


@command("edit", "ostack-k8s secrets edit", "EDITOR=vim ostack-k8s secrets edit", group=secrets)
def edit(invocation: Invocation) -> None:
    """Open all values of secrets.yml in an editor and encrypt what changed."""
    from reclass_model import secrets as core

    if not sys.stdin.isatty():
        raise click.UsageError("An editor needs a terminal; in a script use `ostack-k8s secrets set`.")
    changed = core.edit(invocation.repository, invocation.keyring, _in_editor)
    invocation.show(
        {"changed": changed},
        lambda: click.echo(f"Sealed {', '.join(changed)}; commit it." if changed else "Nothing changed."),
    )


@command("rekey", "ostack-k8s secrets rekey && git commit -am 'New operator'", group=secrets)
def rekey(invocation: Invocation) -> None:
    """Encrypt every secret anew to the recipients of .ostack-k8s.yml.

    Run it after an operator or a machine came or went. Nothing restarts: what is deployed does not depend on who may
    read it. Who has left has seen the values: change them too.
    """
    from reclass_model import secrets as core

    repository = invocation.repository
    files = [repository.relative(path) for path in core.rekey(repository, invocation.keyring)]
    invocation.show({"files": files}, lambda: click.echo(f"Sealed {len(files)} file(s) anew; commit them."))


@command("check", "ostack-k8s secrets check", group=secrets)
def check(invocation: Invocation) -> None:
    """Check that every secret is whole and that this identity opens it."""
    from cli.output.errors import print_problems
    from cli.output.structured import plain
    from reclass_model import secrets as core

    problems = core.check(invocation.repository, invocation.keyring)
    print_problems(problems, colour="red")
    invocation.show(
        {"errors": plain(problems)},
        lambda: None if problems else click.secho("Every secret is whole.", fg="green"),
    )
    if problems:
        raise click.exceptions.Exit(1)


def _read_value(name: str) -> str:
    """The clear text: from a pipe, without its last line end, or asked for."""
    if sys.stdin.isatty():
        answer: str = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    try:
        value = sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeError:
        raise click.UsageError(f"The value of {name} is not text in UTF-8: pipe it through base64.") from None
    if not value:
        raise click.UsageError(
            f"No value of {name} came: there is no terminal to ask on, and the pipe is empty."
        )
    return value


def _in_editor(text: str) -> str:
    """What a person made of `text`; unchanged when the editor was left without saving. click removes its file again."""
    return click.edit(text, extension=".yml") or text
