"""The administrator's kubeconfig from a model as `init` makes it."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula.rollout import kubeconfig
from reclass_model.certificates import issued_by, load_certificate
from reclass_model.errors import OperatorError
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Path]:
    place = tmp_path_factory.mktemp("access")
    create(
        Answers.of({"cluster_name": "cloud", "all_in_one": True}),
        place / "cloud",
        place / "identity",
        lambda line: None,
    )
    return Repository(place / "cloud"), place / "identity"


def certificate_of(path: Path) -> Any:
    user = yaml.safe_load(path.read_text())["users"][0]["user"]
    return load_certificate(base64.b64decode(user["client-certificate-data"]).decode())


@pytest.mark.parametrize("who", ["operator", "the config machine"])
def test_operators_and_the_config_machine_get_in(
    model: tuple[Repository, Path], tmp_path: Path, who: str
) -> None:
    repository, identities = model
    machine = next((identities / "machines").glob("*.age"))
    keyring = Keyring(identities / "operator.age" if who == "operator" else machine)
    path = kubeconfig(repository, keyring, tmp_path / "kubeconfig")
    data = yaml.safe_load(path.read_text())
    assert data["clusters"][0]["cluster"]["server"] == "https://10.10.0.10:6443"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    certificate = certificate_of(path)
    authority = base64.b64decode(data["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    assert issued_by(certificate, load_certificate(authority))
    assert certificate.subject.rfc4514_string() == "CN=ostack-k8s-admin,O=system:masters"
    assert certificate.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=1)


def test_a_good_one_is_kept_and_a_broken_one_made_again(
    model: tuple[Repository, Path], tmp_path: Path
) -> None:
    repository, identities = model
    keyring = Keyring(identities / "operator.age")
    path = kubeconfig(repository, keyring, tmp_path / "kubeconfig")
    first = path.read_text()
    assert kubeconfig(repository, keyring, path).read_text() == first
    path.write_text("not: [a kubeconfig")
    assert certificate_of(kubeconfig(repository, keyring, path))


def test_a_stranger_is_told_what_to_do(model: tuple[Repository, Path], tmp_path: Path) -> None:
    from reclass_model.secrets import new_identity

    new_identity(tmp_path / "stranger.age")
    with pytest.raises(OperatorError, match="cannot be opened") as caught:
        kubeconfig(model[0], Keyring(tmp_path / "stranger.age"), tmp_path / "kubeconfig")
    assert caught.value.code == "E644" and caught.value.problems[0].file
