"""The images of the model: list, lock, build."""

from __future__ import annotations

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s images list")
def images() -> None:
    """List, lock and build the images."""
