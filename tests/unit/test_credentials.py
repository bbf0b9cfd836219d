"""The files of the operator's own clients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.main import main
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring


def run(repository: Repository, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as left:
        main(["-C", str(repository.root), "-o", "json", "credentials", *arguments])
    captured = capsys.readouterr()
    assert left.value.code == code, captured.err
    return captured.out or captured.err


def test_they_open_the_cloud_and_nobody_else_can_read_them(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "clients"
    files = [Path(name) for name in json.loads(run(repository, capsys, "--output", str(place)))["files"]]
    assert [file.name for file in files] == ["ca.pem", "clouds.yaml", "openrc"]
    assert {file.stat().st_mode & 0o777 for file in files} == {
        0o600
    } and place.stat().st_mode & 0o777 == 0o700

    parameters = Inventory(repository).config_node().parameters
    password = Keyring.find(repository).reveal(get(parameters, "_param:keystone_admin_password"))
    cloud = yaml.safe_load((place / "clouds.yaml").read_text())["clouds"]["openstack"]
    assert cloud["auth"]["password"] == password and cloud["auth"]["auth_url"].endswith(":30500/v3")
    assert Path(cloud["cacert"]).read_text() == get(parameters, "pki:authority:services:certificate")
    told = subprocess.run(
        ["sh", "-c", f". {place}/openrc; env"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert f"OS_PASSWORD={password}" in told and f"OS_CACERT={place}/ca.pem" in told


def test_they_are_not_written_where_git_would_carry_them_away(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "E047" in run(repository, capsys, "--output", str(repository.root / "clouds"), code=1)
    assert not (repository.root / "clouds").exists()
