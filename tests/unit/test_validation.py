"""Broken models, each as data in tests/cases: the code, the file and line, and the hint that an operator gets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reclass_model.errors import Problem
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository
from reclass_model.validation import validate

CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.yml"))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("model")
    create(
        Answers.of({"cluster_name": "demo", "services": "identity"}),
        top / "demo",
        top / "identity",
        lambda line: None,
    )
    return top / "demo"


@pytest.fixture
def repository(pristine: Path, tmp_path: Path) -> Iterator[Repository]:
    shutil.copytree(pristine, tmp_path / "demo", symlinks=True)
    yield Repository(tmp_path / "demo")


def change(repository: Repository, edits: list[dict[str, Any]]) -> None:
    for edit in edits:
        path = repository.root / edit["file"]
        path.parent.mkdir(exist_ok=True)
        text = path.read_text() if path.exists() else ""
        for old, new in edit.get("replace", {}).items():
            assert old in text, f"{old!r} is not in {edit['file']}"
            text = text.replace(old, new, 1)
        path.write_text(text + edit.get("append", ""))


def line_text(repository: Repository, problem: Problem) -> str:
    assert problem.file is not None and problem.line is not None, problem
    return (repository.root / problem.file).read_text().splitlines()[problem.line - 1]


def test_a_fresh_model_is_right(repository: Repository) -> None:
    assert validate(repository).errors == []


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_bad_model(path: Path, repository: Repository) -> None:
    case = yaml.safe_load(path.read_text())
    if "deployed" in case:
        change(repository, case["deployed"])
        repository.set_reference("deployed", repository.commit("deployed", [repository.classes_dir]))
    change(repository, case["edit"])
    report, expected = validate(repository), case["expect"]
    told = report.warnings if expected["code"].startswith("W") else report.errors
    found = [
        problem
        for problem in told
        if (problem.code, problem.file) == (expected["code"], expected["file"])
        and expected.get("message", "") in problem.message
    ]
    assert found, f"told: {[str(problem) for problem in told]}"
    if not expected["code"].startswith("W"):
        assert {problem.code for problem in told} == {expected["code"]}, [str(problem) for problem in told]
    problem = found[0]
    assert expected.get("hint", "") in (problem.hint or "")
    if "line" in expected:
        assert expected["line"] in line_text(repository, problem)


def test_the_same_problem_on_many_machines_is_told_once(repository: Repository) -> None:
    init = repository.cluster_dir / "init.yml"
    init.write_text(init.read_text().replace("10.244.0.0/16", "10.254.0.0/17"))
    errors = [problem for problem in validate(repository).errors if problem.code == "E202"]
    assert len(errors) == 1


def test_validate_writes_nothing(repository: Repository) -> None:
    validate(repository)
    status = subprocess.run(
        ["git", "-C", repository.root, "status", "--porcelain"], capture_output=True, check=True
    )
    assert status.stdout == b""


@pytest.mark.parametrize(
    ("version", "code"), [("1.37.2", ""), ("1.38.0", "E302"), ("1.35.4", "E303")], ids=str
)
def test_kubernetes_is_held_against_the_commit_before_where_nothing_was_deployed(
    repository: Repository, version: str, code: str
) -> None:
    init = repository.cluster_dir / "init.yml"
    init.write_text(
        init.read_text().replace('kubernetes_version: "1.36.3"', f'kubernetes_version: "{version}"')
    )

    def refused() -> set[str]:
        return {problem.code for problem in validate(repository).errors} & {"E302", "E303"}

    assert refused() == ({code} if code else set())
    repository.commit("another Kubernetes", [init])
    assert refused() == ({code} if code else set())
