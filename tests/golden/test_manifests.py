"""The manifests and the Compose file of a small pillar, as files to read. `make golden` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula.manifests import compose, file_name
from tests.golden.overlay import images_of, overlay_of, read_pillar

HERE = Path(__file__).parent / "manifests"
EXPECTED = HERE / "expected"


def rendered() -> dict[str, Any]:
    pillar = read_pillar()
    overlay = overlay_of(pillar)
    jobs = [job.object for found in overlay.jobs.values() for job in found]
    files: dict[str, Any] = {file_name(item): item for item in (*overlay.objects, *jobs)}
    return {**files, "compose.yml": compose(pillar["control"], images_of(pillar))}


def text(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=110)


def test_every_file_is_as_reviewed() -> None:
    files = {name: text(content) for name, content in rendered().items()}
    if os.environ.get("GOLDEN_WRITE"):
        EXPECTED.mkdir(exist_ok=True)
        for stale in EXPECTED.glob("*.yml"):
            stale.unlink()
        for name, content in files.items():
            (EXPECTED / name).write_text(content)
        pytest.skip("written anew")
    assert files == {path.name: path.read_text() for path in EXPECTED.glob("*.yml")}
