"""Certificates of the model: issue, rotate, status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import Invocation, command

if TYPE_CHECKING:
    from reclass_model.errors import Problem
    from reclass_model.inventory import Node

Row = dict[str, str | int | None]
SAME = "the model's"


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
    "rotate",
    "ostack-k8s pki rotate ctl01.mycloud.local",
    "ostack-k8s pki rotate etcd-server",
    "ostack-k8s pki rotate --authority kubernetes",
    group=pki,
)
@click.argument("names", nargs=-1)
@click.option("--authority", metavar="NAME", help="Take the next step of replacing this authority.")
def rotate(invocation: Invocation, names: tuple[str, ...], authority: str | None) -> None:
    """Issue certificates anew, with new keys.

    NAMES are machines, certificates, or MACHINE/CERTIFICATE; without any, all of them.

    An authority is replaced in three steps, each brought to all machines before the next: they trust the new one, its
    certificates replace the old one's, the old one is trusted no more. Nothing stops working on the way.
    """
    from reclass_model import pki as core
    from reclass_model.issuer import STEPS

    repository, keyring = invocation.repository, invocation.keyring
    if authority is None:
        _show(invocation, core.rotate(repository, keyring, names, progress=invocation.progress))
        return
    if names:
        raise click.UsageError(
            "With --authority all certificates that it signs are issued anew: name no others."
        )
    step, written = core.rotate_authority(repository, keyring, authority, progress=invocation.progress)
    _show(invocation, written)
    number = STEPS.index(step) + 1
    click.echo(f"Step {number} of {len(STEPS)}: once this is on all machines, {step.done}.", err=True)
    if step != STEPS[-1]:
        click.echo(
            "Commit; salt-run state.orch ostack.underlay; `validate --live`; then this command again.",
            err=True,
        )


@command("status", "ostack-k8s pki status", "ostack-k8s pki status --live -o json", group=pki)
@click.option("--live", is_flag=True, help="Also ask the machines, through the Salt master.")
def status(invocation: Invocation, live: bool) -> None:
    """List every certificate with its end, those that end first at the top.

    With --live (on the config machine) also whether each machine has the model's certificate. Exits with 1 when one
    does not, and when a certificate has ended or will within 30 days, an authority within a year.
    """
    from cli.output.errors import print_problems
    from cli.output.structured import plain
    from cli.output.terminal import print_table

    rows = _certificates(invocation)
    if live:
        from cli.workflows.live import live_certificates

        nodes = {node.name: node for node in invocation.inventory.nodes()}
        compare(rows, nodes, live_certificates(invocation.inventory))
    problems = list(_ending(rows))

    def people() -> None:
        print_table(
            ("certificate", "machine", "signed by", "ends", "days", *(("on the machine",) if live else ())),
            [
                (
                    str(row["name"]),
                    str(row["node"] or ""),
                    str(row["authority"]),
                    str(row["not_after"] or "not issued"),
                    "" if row["days"] is None else str(row["days"]),
                    *((str(row["live"] or ""),) if live else ()),
                )
                for row in rows
            ],
            styles=("bold",),
        )
        print_problems(problems, colour="red")

    invocation.show({"certificates": rows, "problems": plain(problems)}, people)
    if problems or any(row.get("live") not in (None, SAME) for row in rows):
        raise click.exceptions.Exit(1)


def _show(invocation: Invocation, written: list[Path]) -> None:
    files = [invocation.repository.relative(path) for path in written]

    def people() -> None:
        for file in files:
            click.echo(f"Wrote {file}")
        click.echo("Commit them, then apply the machines' states." if files else "Nothing to issue.")

    invocation.show({"files": files, "certificates": _certificates(invocation)}, people)


def compare(rows: list[Row], nodes: Mapping[str, Node], found: Mapping[str, Mapping[str, str]]) -> None:
    """Give each row `live`, what its machine has in words, and `live_not_after`; None where nothing installs it."""
    from reclass_model.certificates import end_of
    from reclass_model.inventory import get

    for row in rows:
        node, name = str(row["node"]), str(row["name"])
        row["live"] = row["live_not_after"] = None
        if row["node"] is None:
            continue  # an authority: the machines have copies of its certificate, under many names
        if node not in found:
            row["live"] = "no answer"
        elif name in found[node]:
            there = found[node][name].strip()
            end = end_of(there)
            row["live_not_after"] = end.isoformat() if end else None
            same = (
                there == str(get(nodes[node].parameters, f"pki:certificate:{name}:certificate", "")).strip()
            )
            row["live"] = "missing" if not there else SAME if same else "another"


def _ending(rows: list[Row]) -> Iterator[Problem]:
    """What ends within 30 days: what the machine has, where that is known, else the model's."""
    from reclass_model import pki as core

    now = datetime.now(UTC)
    for row in rows:
        if end := row.get("live_not_after") or row["not_after"]:
            node = str(row["node"]) if row["node"] else None
            yield from core.ending(node, str(row["name"]), datetime.fromisoformat(str(end)), now)


def _certificates(invocation: Invocation) -> list[Row]:
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
