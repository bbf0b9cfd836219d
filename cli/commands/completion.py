"""Completion of commands, options and machine names in bash, zsh and fish."""

from __future__ import annotations

import click

from cli.options import Invocation, command


@command("completion", 'eval "$(ostack-k8s completion bash)"', "ostack-k8s completion fish | source")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(invocation: Invocation, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from cli.main import root

    kind = get_completion_class(shell)
    assert kind is not None, "the choice above lists only shells that click knows"
    click.echo(kind(root, {}, "ostack-k8s", "_OSTACK_K8S_COMPLETE").source())
