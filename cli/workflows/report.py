"""The report of a rollout: what changed, the timeline, requests lost while it ran; JSON, and one page of HTML.

Kept as a file on the config machine (where its directory exists), so that it outlives the cluster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError
from reclass_model.repository import write_atomically

REPORTS = Path("/srv/ostack-k8s/reports")  # made by the config machine's states


def keep(report: Mapping[str, Any], directory: Path = REPORTS) -> Path | None:
    """Write the report and its page; None on a machine that keeps none, or where this user may not."""
    if not os.access(directory, os.W_OK):
        return None
    path = directory / f"{report['rollout']}.json"
    write_atomically(path, json.dumps(report, indent=2) + "\n")
    write_page(report, path.with_suffix(".html"))
    return path


def find(rollout: str | None, directory: Path = REPORTS) -> dict[str, Any] | None:
    """A kept report, the newest when no rollout is named; None when there is none here."""
    if rollout and Path(rollout).name != rollout:
        raise OperatorError(
            f"{rollout!r} is not a rollout's name", code="E041", hint="see `ostack-k8s status`"
        )
    paths = sorted(directory.glob(f"{rollout or '*'}.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    return {"checks": [], **json.loads(paths[-1].read_text())}


def write_page(report: Mapping[str, Any], target: Path) -> None:
    """One self-contained HTML page; nothing in it is fetched from anywhere."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    template = files("cli.output").joinpath("report.html.j2").read_text()
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    write_atomically(target, page.render(report=report))
