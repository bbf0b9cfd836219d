"""The Kubernetes manifests of the overlay: manifests."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import Invocation, command


@command(
    "manifests",
    "ostack-k8s manifests",
    "ostack-k8s manifests --output-dir build/manifests",
    "ostack-k8s manifests --reveal -o json | kubectl apply --dry-run=server -f -",
)
@click.option(
    "--output-dir",
    "output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file for each object instead.",
)
@click.option("--reveal", is_flag=True, help="With the values of Secrets; needs an age identity.")  # fmt: skip
def manifests(invocation: Invocation, output: Path | None, reveal: bool) -> None:
    """Print the Kubernetes manifests of the overlay.

    The objects in the order of applying, then the Jobs of a first deployment; Jobs of an upgrade belong to `deploy`.
    Values of Secrets are shown as *** unless --reveal.
    """
    from cli.output.structured import dump
    from cli.workflows.overlay import overlay_of
    from kubernetes_formula.manifests import file_name

    overlay = overlay_of(invocation.inventory, invocation.keyring if reveal else None)
    items = [*overlay.objects, *(job.object for job in overlay.jobs.get("bootstrap", ()))]
    if output:
        from reclass_model.repository import write_atomically

        mode = 0o600 if reveal else 0o644
        written = {file_name(item): item for item in items}
        for name, item in written.items():
            write_atomically(output / name, dump(item, "yaml"), mode)
        click.echo(f"Wrote {len(items)} files to {output}", err=True)
        others = sorted(file.name for file in output.glob("*.yml") if file.name not in written)
        if others:
            click.echo(f"{len(others)} more there are not of this model: {', '.join(others)}", err=True)
        if invocation.for_people:
            return
    collected = {"apiVersion": "v1", "kind": "List", "items": items}
    invocation.show(
        collected, lambda: click.echo("---\n".join(dump(item, "yaml") for item in items), nl=False)
    )
