"""The rendered pillars of the two topologies, as files to read. `make golden` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from reclass_model import generate
from reclass_model.generate import Answers
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import mask

EXPECTED = Path(__file__).parent / "pillars"
MACHINES = (
    "aio01.aio.local",
    "cfg01.demo.local",
    "kmst01.demo.local",
    "ctl01.demo.local",
    "cmp01.demo.local",
)


def without_keys(value: Any) -> Any:
    """What is issued anew in every repo, cut out."""
    if isinstance(value, dict):
        return {key: without_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_keys(item) for item in value]
    return "PEM" if isinstance(value, str) and value.startswith("-----BEGIN") else value


def test_every_pillar_is_as_reviewed(tmp_path: Path) -> None:
    rendered = {}
    for name, all_in_one in (("aio", True), ("demo", False)):
        answers = Answers.of({"cluster_name": name, "all_in_one": all_in_one, "services": "identity"})
        made = generate.create(answers, tmp_path / name, tmp_path / "identity", lambda line: None)
        for node in Inventory(Repository(made.path)).nodes():
            if node.name in MACHINES:
                text = yaml.safe_dump(without_keys(mask(node.parameters)), sort_keys=True, width=110)
                rendered[f"{node.name}.yml"] = text
    if os.environ.get("GOLDEN_WRITE"):
        EXPECTED.mkdir(exist_ok=True)
        for name, text in rendered.items():
            (EXPECTED / name).write_text(text)
        pytest.skip("written anew")
    assert rendered == {path.name: path.read_text() for path in EXPECTED.glob("*.yml")}
