"""Certificates of the model: issue, rotate, status."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from cli.options import Invocation, command


@click.group(epilog="Example: ostack-k8s pki status")
def pki() -> None:
    """Issue and renew the certificates of the model."""


@command("issue", "ostack-k8s pki issue", group=pki)
def issue(invocation: Invocation) -> None:
    """Issue what the machines' roles declare and is not there, or ends within 30 days."""
    from reclass_model import pki as core

    written = core.issue(invocation.repository, invocation.keyring, progress=invocation.progress)
    _show(invocation, written)


@command(
    "rotate", "ostack-k8s pki rotate ctl01.mycloud.local", "ostack-k8s pki rotate etcd-server", group=pki
)
@click.argument("names", nargs=-1)
def rotate(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Issue certificates anew, with new keys.

    NAMES are machines, certificates, or MACHINE/CERTIFICATE; without any, all of them.
    """
    from reclass_model import pki as core

    written = core.rotate(invocation.repository, invocation.keyring, names, progress=invocation.progress)
    _show(invocation, written)


@command("status", "ostack-k8s pki status", "ostack-k8s pki status -o json", group=pki)
def status(invocation: Invocation) -> None:
    """List every certificate with its end, those that end first at the top."""
    from cli.output.terminal import print_table

    rows = _certificates(invocation)
    invocation.show(
        {"certificates": rows},
        lambda: print_table(
            ("certificate", "machine", "signed by", "ends", "days"),
            [
                (
                    str(row["name"]),
                    str(row["node"] or ""),
                    str(row["authority"]),
                    str(row["not_after"] or "not issued"),
                    "" if row["days"] is None else str(row["days"]),
                )
                for row in rows
            ],
            styles=("bold",),
        ),
    )


def _show(invocation: Invocation, written: list[Path]) -> None:
    files = [invocation.repository.relative(path) for path in written]

    def people() -> None:
        for file in files:
            click.echo(f"Wrote {file}")
        click.echo("Commit them, then apply the machines' states." if files else "Nothing to issue.")

    invocation.show({"files": files, "certificates": _certificates(invocation)}, people)


def _certificates(invocation: Invocation) -> list[dict[str, str | int | None]]:
    from reclass_model import pki as core

    now = datetime.now(UTC)
    found = sorted(
        core.status(invocation.repository), key=lambda c: (c.not_after or now, c.node or "", c.name)
    )
    return [
        {
            "name": c.name,
            "node": c.node,
            "authority": c.authority,
            "not_after": c.not_after.isoformat() if c.not_after else None,
            "days": (c.not_after - now).days if c.not_after else None,
        }
        for c in found
    ]
