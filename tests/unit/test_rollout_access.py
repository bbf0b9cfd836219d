"""The administrator's kubeconfig from a model as `init` makes it."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import stat
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula.rollout import Cluster, kubeconfig
from reclass_model.certificates import Request, issued_by, load_certificate, load_key, new_key, to_pem
from reclass_model.errors import OperatorError
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Path]:
    place = tmp_path_factory.mktemp("access")
    create(
        Answers.of({"cluster_name": "cloud", "services": "identity", "all_in_one": True}),
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


class Who(http.server.BaseHTTPRequestHandler):
    """Answers who the client's certificate says it is."""

    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        subject = dict(pair for part in (self.connection.getpeercert() or {})["subject"] for pair in part)  # type: ignore[misc, str-unpack]
        text = json.dumps({"metadata": subject}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(model: tuple[Repository, Path], tmp_path: Path) -> Iterator[str]:
    """An API server of the model's CA, on loopback, that asks for certificates; its URL."""
    repository, identities = model
    keys = yaml.safe_load((repository.pki_dir / "authority-keys.yml").read_text())
    sealed = keys["parameters"]["pki"]["authority"]["kubernetes"]["private_key"]
    public = yaml.safe_load((repository.pki_dir / "authorities.yml").read_text())
    authority = public["parameters"]["pki"]["authority"]["kubernetes"]["certificate"]
    own = new_key()
    certificate = Request("kube-apiserver", datetime.now(UTC), 1, names=("127.0.0.1",)).signed(
        own, load_certificate(authority), load_key(Keyring(identities / "operator.age").reveal(sealed))
    )
    (tmp_path / "server.pem").write_text(to_pem(certificate) + to_pem(own))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(cadata=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Who) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def test_the_cluster_knows_who_asks_and_no_key_is_left_in_a_file(
    model: tuple[Repository, Path], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = kubeconfig(model[0], Keyring(model[1] / "operator.age"), tmp_path / "kubeconfig")
    data = yaml.safe_load(path.read_text())
    data["clusters"][0]["cluster"]["server"] = server
    path.write_text(yaml.safe_dump(data))
    found = Cluster.connect(path, patience=0).get("Node", "", "any")
    assert found and found["metadata"]["commonName"] == "ostack-k8s-admin"
    assert not list((tmp_path / "temporary").iterdir())


def test_another_clusters_server_is_not_talked_to(
    model: tuple[Repository, Path], server: str, tmp_path: Path
) -> None:
    path = kubeconfig(model[0], Keyring(model[1] / "operator.age"), tmp_path / "kubeconfig")
    data = yaml.safe_load(path.read_text())
    stranger = to_pem(Request("kubernetes", datetime.now(UTC), 1).self_signed(new_key()))
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(stranger.encode()).decode()}
    path.write_text(yaml.safe_dump({**data, "clusters": [{**data["clusters"][0], "cluster": cluster}]}))
    with pytest.raises(OperatorError, match="certificate verify failed") as caught:
        Cluster.connect(path, patience=0).get("Node", "", "any")
    assert caught.value.code == "E642"


@pytest.mark.parametrize("text", ["", "clusters: []", "current-context: x", "a: [b"])
def test_what_is_no_kubeconfig_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(OperatorError) as caught:
        Cluster.connect(tmp_path / "kubeconfig")
    assert caught.value.code == "E641"
