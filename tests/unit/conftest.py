"""A generated model for the tests of the commands: made once for a file, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reclass_model import generate
from reclass_model.repository import Repository


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated model, made once."""
    top = tmp_path_factory.mktemp("model")
    answers = generate.Answers.of(
        {"cluster_name": "demo", "services": "identity", "underlay_network": "127.77.0.0/24"}
    )  # no cluster answers there
    generate.create(answers, top / "demo", top / "identity", lambda line: None)
    return top


@pytest.fixture
def repository(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of it for one test."""
    shutil.copytree(pristine / "demo", tmp_path / "demo")
    monkeypatch.setenv("OSTACK_K8S_IDENTITY", str(pristine / "identity" / "operator.age"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return Repository(tmp_path / "demo")
