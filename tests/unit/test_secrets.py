"""Secrets and certificates in a small model, with real age and real X.509."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from reclass_model import issuer, pki, secrets
from reclass_model.certificates import fits, issued_by, load_certificate, load_key, split
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

DECLARED = """
classes: [cluster.t.pki.authorities]
parameters:
  pki:
    authority: {kubernetes: {common_name: cluster}, etcd: {common_name: etcd}}
    certificate:
      etcd-server:
        authority: etcd
        common_name: member
        organization: "system:masters"
        usage: {server: {}, client: {}}
        names: {localhost: {}, address: "${_param:address}", "gone.t": null}
    keypair: {service-account: {shared: true}}
    authority_key: {kubernetes: {}}
    secret: {bootstrap: {format: bootstrap_token, shared: true}, own: {format: base64, bytes: 32, value: null}}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    identity = tmp_path / "identity"
    monkeypatch.setenv("OSTACK_K8S_IDENTITY_DIR", str(identity))
    root = tmp_path / "model"
    cluster = root / "classes/cluster/t"
    (root / "nodes").mkdir(parents=True)
    cluster.mkdir(parents=True)
    (root / "classes/system/role").mkdir(parents=True)
    (root / "classes/system/role/config.yml").write_text("parameters: {}\n")
    machines = {}
    for number, role in enumerate(("system.role.config, ", "", "")):
        name = f"n{number}.t"
        machines[name] = secrets.new_identity(identity / "machines" / f"{name}.age")
        (root / "nodes" / f"{name}.yml").write_text(
            f"classes: [{role}cluster.t, cluster.t.pki.{name}]\nparameters: {{_param: {{address: 10.0.0.{number}}}}}\n"
        )
    recipients = {
        "operators": {"operator": secrets.new_identity(identity / "operator.age")},
        "machines": machines,
    }
    (root / ".ostack-k8s.yml").write_text(yaml.safe_dump({"cluster_name": "t", "recipients": recipients}))
    (cluster / "init.yml").write_text(DECLARED)
    repository = Repository(root)
    plaintext = secrets.new_digest_key()
    key = secrets.seal(plaintext, secrets.recipients(repository, repository.secrets_file), plaintext.encode())
    repository.secrets_file.write_text(
        f"# mine\nparameters:\n  _param:\n    # the key\n    secret_digest_key: {key}\n"
    )
    return repository


@pytest.fixture
def keyring(repository: Repository) -> Keyring:
    return Keyring.find(repository)


def machine_keyring(repository: Repository, name: str) -> Keyring:
    return Keyring(repository.root.parent / "identity" / "machines" / f"{name}.age")


def own(repository: Repository, name: str) -> dict[str, Any]:
    found = Inventory(repository).node(name).parameters["pki"]
    assert isinstance(found, dict)
    return found


# --- tokens ---


def test_tokens(repository: Repository, keyring: Keyring) -> None:
    first, second = (secrets.seal("word", [keyring.public], b"key") for _ in range(2))
    url = f"mysql://user:{first}@host"
    assert first != second and secrets.stable(first) == secrets.stable(second)
    assert secrets.is_secret(url) and not secrets.is_secret("plain") and not secrets.is_secret(3)
    assert secrets.mask({"a": [url, "b", 1]}) == {"a": ["***", "b", 1]}
    assert keyring.reveal({"a": [url, "b", None]}) == {"a": ["mysql://user:word@host", "b", None]}


def test_another_digest_key_gives_another_fingerprint(keyring: Keyring) -> None:
    one, other = (secrets.seal("word", [keyring.public], key) for key in (b"one", b"other"))
    assert secrets.stable(one) != secrets.stable(other)


def code_of(raised: pytest.ExceptionInfo[OperatorError]) -> str:
    assert raised.value.problems[0].hint
    return raised.value.code


def test_not_a_recipient(repository: Repository, keyring: Keyring) -> None:
    token = secrets.seal("word", [keyring.public], b"key")
    with pytest.raises(OperatorError) as raised:
        machine_keyring(repository, "n1.t").reveal(token)
    assert code_of(raised) == "E402"


@pytest.mark.parametrize("cut", [slice(0, -8), slice(0, 40)])
def test_corrupt_secret(keyring: Keyring, cut: slice) -> None:
    token = secrets.seal("word", [keyring.public], b"key")
    with pytest.raises(OperatorError) as raised:
        keyring.reveal(token[cut] + "}")
    assert code_of(raised) == "E403"


def test_missing_identity(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTACK_K8S_IDENTITY_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr(secrets, "MACHINE_IDENTITY", tmp_path / "none")
    with pytest.raises(OperatorError) as raised:
        Keyring.find(repository)
    assert code_of(raised) == "E401"
    assert str(tmp_path / "nothing/ostack-k8s/t/operator.age") in str(raised.value)


def test_bad_recipient() -> None:
    with pytest.raises(OperatorError) as raised:
        secrets.seal("word", ["age1nonsense"], b"key")
    assert code_of(raised) == "E405"


def test_identities_are_private_and_kept(tmp_path: Path) -> None:
    public = secrets.new_identity(tmp_path / "a.age")
    assert (tmp_path / "a.age").stat().st_mode & 0o777 == 0o600
    assert secrets.new_identity(tmp_path / "a.age") == public


# --- secrets.yml ---


def test_set_get_keeps_comments(repository: Repository, keyring: Keyring) -> None:
    secrets.set_secret(repository, keyring, "db_password", "secret word")
    secrets.set_secret(repository, keyring, "other:place", "there")
    text = repository.secrets_file.read_text()
    assert "# mine" in text and "# the key" in text and "secret word" not in text
    assert secrets.get_secret(repository, keyring, "db_password") == "secret word"
    assert secrets.get_secret(repository, keyring, "other:place") == "there"
    assert secrets.get_secret(repository, machine_keyring(repository, "n0.t"), "db_password") == "secret word"
    with pytest.raises(OperatorError) as raised:
        secrets.get_secret(repository, keyring, "none")
    assert code_of(raised) == "E404"


def test_edit_seals_only_what_changed(repository: Repository, keyring: Keyring) -> None:
    for name in ("one", "two", "three"):
        secrets.set_secret(repository, keyring, name, f"old {name}")
    before = yaml.safe_load(repository.secrets_file.read_text())["parameters"]["_param"]

    def change(text: str) -> str:
        kept = [line for line in text.splitlines() if "three" not in line]
        return "\n".join(kept).replace("old two", "new two") + "\n"

    assert secrets.edit(repository, keyring, change) == ["_param:two", "_param:three"]
    after = yaml.safe_load(repository.secrets_file.read_text())["parameters"]["_param"]
    assert after["one"] == before["one"] and after["two"] != before["two"] and "three" not in after
    assert secrets.edit(repository, keyring, lambda text: text) == []


@pytest.mark.parametrize("value", ["0123456", "1e5", "yes", "2026-01-01", "~"])
def test_edit_takes_every_value_as_text(repository: Repository, keyring: Keyring, value: str) -> None:
    secrets.edit(repository, keyring, lambda text: text + f"_param:new: {value}\n")
    assert secrets.get_secret(repository, keyring, "new") == value


@pytest.mark.parametrize("text", ['new: "hunter2', "new:", "new: [hunter2]", "hunter2", ""])
def test_what_cannot_be_sealed_is_refused_without_showing_it(
    repository: Repository, keyring: Keyring, text: str
) -> None:
    before = repository.secrets_file.read_text()
    with pytest.raises(OperatorError) as caught:
        secrets.edit(repository, keyring, lambda _: text)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"
    assert repository.secrets_file.read_text() == before


def test_rekey_lets_a_new_operator_in(repository: Repository, keyring: Keyring, tmp_path: Path) -> None:
    secrets.set_secret(repository, keyring, "db_password", "word")
    pki.issue(repository, keyring)
    before = secrets.stable(repository.secrets_file.read_text())
    settings = yaml.safe_load((repository.root / ".ostack-k8s.yml").read_text())
    settings["recipients"]["operators"]["second"] = secrets.new_identity(tmp_path / "second.age")
    (repository.root / ".ostack-k8s.yml").write_text(yaml.safe_dump(settings))
    repository = Repository(repository.root)
    assert len(secrets.rekey(repository, keyring)) == 5
    second = Keyring(tmp_path / "second.age")
    assert secrets.get_secret(repository, second, "db_password") == "word"
    assert secrets.check(repository, second) == []
    assert secrets.stable(repository.secrets_file.read_text()) == before


def test_check_names_file_and_line(repository: Repository, keyring: Keyring) -> None:
    secrets.set_secret(repository, keyring, "db_password", "word")
    path = repository.secrets_file
    path.write_text(path.read_text().replace("db_password: ?{age:", "db_password: ?{age:x"))
    (problem,) = secrets.check(repository, None)
    assert (problem.code, problem.file, problem.line) == ("E403", "classes/cluster/t/secrets.yml", 6)
    assert len(secrets.check(repository, machine_keyring(repository, "n1.t"))) == 2


# --- certificates ---


def test_issue_gives_each_machine_its_own(repository: Repository, keyring: Keyring) -> None:
    assert len(pki.issue(repository, keyring)) == 5
    zero, one = own(repository, "n0.t"), own(repository, "n1.t")
    certificate = load_certificate(one["certificate"]["etcd-server"]["certificate"])
    assert issued_by(certificate, load_certificate(one["authority"]["etcd"]["certificate"]))
    assert not issued_by(certificate, load_certificate(one["authority"]["kubernetes"]["certificate"]))
    assert certificate.subject.rfc4514_string() == "CN=member,O=system:masters"
    (item,) = [item for item in pki.status(repository) if item.node == "n1.t"]
    assert item.names == ("localhost", "10.0.0.1")

    mine, other = machine_keyring(repository, "n1.t"), machine_keyring(repository, "n2.t")
    assert mine.reveal(one["keypair"]) == machine_keyring(repository, "n0.t").reveal(zero["keypair"])
    assert mine.reveal(one["secret"]["own"]["value"]) != keyring.reveal(zero["secret"]["own"]["value"])
    assert mine.reveal(one["authority_key"]["kubernetes"]["private_key"]).startswith("-----BEGIN PRIVATE KEY")
    with pytest.raises(OperatorError):
        other.reveal(one["certificate"]["etcd-server"]["private_key"])
    authority_keys = yaml.safe_load((repository.pki_dir / secrets.AUTHORITY_KEYS).read_text())["parameters"][
        "pki"
    ]
    with pytest.raises(OperatorError):
        mine.reveal(authority_keys["authority"]["etcd"]["private_key"])


def test_an_end_within_thirty_days_is_told_and_an_end_that_is_past_is_an_error() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    said = {
        days: [problem.code for problem in pki.ending("n1.t", "etcd-peer", now + timedelta(days), now)]
        for days in (-1, 29, 31)
    }
    assert said == {-1: ["E413"], 29: ["W130"], 31: []}
    (authority,) = pki.ending(None, "etcd", now + timedelta(days=300), now)
    assert "ends in 300 days" in authority.message and "rotate --authority etcd" in (authority.hint or "")


def test_public_halves_go_to_who_asks_for_them(repository: Repository, keyring: Keyring) -> None:
    cluster, role = repository.cluster_dir / "init.yml", repository.classes_dir / "system/role/config.yml"
    cluster.write_text(cluster.read_text().replace("keypair: {", "keypair: {minion: {}, "))
    role.write_text("parameters: {pki: {public_key: {minion: {}}}}\n")
    pki.issue(repository, keyring)
    known = own(repository, "n0.t")["public_key"]["minion"]
    assert known == {
        name: own(repository, name)["keypair"]["minion"]["public_key"] for name in repository.node_names()
    }
    assert len(set(known.values())) == 3
    assert "public_key" not in own(repository, "n1.t")
    repository.node_file("n2.t").unlink()
    assert pki.issue(repository, keyring) == [repository.pki_dir / "n0.t.yml"]
    assert set(own(repository, "n0.t")["public_key"]["minion"]) == {"n0.t", "n1.t"}


def test_issue_again_changes_nothing(repository: Repository, keyring: Keyring) -> None:
    pki.issue(repository, keyring)
    assert pki.issue(repository, keyring) == []


def test_issue_renews_what_runs_out(repository: Repository, keyring: Keyring) -> None:
    pki.issue(repository, keyring)
    soon = datetime.now(UTC) + timedelta(days=340)
    assert len(pki.issue(repository, keyring, now=soon)) == 3


def test_issue_follows_what_is_declared(repository: Repository, keyring: Keyring) -> None:
    pki.issue(repository, keyring)
    path = repository.node_file("n2.t")
    path.write_text(path.read_text().replace("10.0.0.2", "10.0.0.9"))
    assert pki.issue(repository, keyring) == [repository.pki_dir / "n2.t.yml"]


def test_rotate_only_what_is_named(repository: Repository, keyring: Keyring) -> None:
    pki.issue(repository, keyring)
    assert pki.rotate(repository, keyring, ["n1.t/etcd-server"]) == [repository.pki_dir / "n1.t.yml"]
    assert len(pki.rotate(repository, keyring)) == 3
    with pytest.raises(OperatorError) as raised:
        pki.rotate(repository, keyring, ["nothing"])
    assert code_of(raised) == "E411"


def authority(repository: Repository, name: str) -> list[str]:
    return split(own(repository, "n0.t")["authority"][name]["certificate"])


def test_an_authority_is_replaced_in_three_steps(repository: Repository, keyring: Keyring) -> None:
    """At each of them everything that is in use is trusted; `issue` in between changes nothing."""
    pki.issue(repository, keyring)
    (old,) = authority(repository, "etcd")
    year = datetime.now(UTC) + timedelta(days=100)

    def leaf() -> str:
        return str(own(repository, "n1.t")["certificate"]["etcd-server"]["certificate"])

    def step() -> str:
        done, _ = pki.rotate_authority(repository, keyring, "etcd", now=year)
        assert pki.issue(repository, keyring, now=year) == []
        assert leaf_key_fits()
        return done.name

    def leaf_key_fits() -> bool:
        key = keyring.reveal(own(repository, "n1.t")["certificate"]["etcd-server"]["private_key"])
        return fits(load_key(key), load_certificate(leaf()))

    before = leaf()
    assert step() == "trust"
    first, new = authority(repository, "etcd")
    assert (first, leaf()) == (old, before)
    assert load_certificate(new).subject == load_certificate(old).subject
    assert step() == "sign"
    assert authority(repository, "etcd") == [new, old]
    assert issued_by(load_certificate(leaf()), load_certificate(new))
    assert step() == "forget"
    assert authority(repository, "etcd") == [new]
    keys = yaml.safe_load((repository.pki_dir / secrets.AUTHORITY_KEYS).read_text())["parameters"]["pki"]
    assert list(keys["authority"]["etcd"]) == ["private_key"]
    assert step() == "trust"  # and so on, years later


def test_a_machine_that_signs_gets_the_key_with_the_second_step(
    repository: Repository, keyring: Keyring
) -> None:
    pki.issue(repository, keyring)

    for _ in range(3):
        pki.rotate_authority(repository, keyring, "kubernetes", now=datetime.now(UTC) + timedelta(days=100))
        sealed = own(repository, "n1.t")["authority_key"]["kubernetes"]["private_key"]
        key = load_key(machine_keyring(repository, "n1.t").reveal(sealed))
        assert fits(key, load_certificate(authority(repository, "kubernetes")[0]))


def test_a_step_that_was_killed_is_taken_again(
    repository: Repository, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each file that a step writes: what is there is consistent, and the same step follows."""
    later = datetime.now(UTC) + timedelta(days=100)
    pki.issue(repository, keyring)
    write = issuer._write
    for wanted in ("trust", "sign", "forget"):
        for allowed in range(4):
            written: list[Path] = []

            def interrupted(path: Path, content: Any) -> bool:
                if len(written) == allowed:  # noqa: B023
                    raise KeyboardInterrupt
                written.append(path)  # noqa: B023
                return write(path, content)

            monkeypatch.setattr(issuer, "_write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pki.rotate_authority(repository, keyring, "etcd", now=later)
            monkeypatch.setattr(issuer, "_write", write)
        step, _ = pki.rotate_authority(repository, keyring, "etcd", now=later)
        assert step.name == wanted
        for name in ("n0.t", "n1.t", "n2.t"):
            held = own(repository, name)["certificate"].get("etcd-server")
            signer = load_certificate(authority(repository, "etcd")[0])
            assert held is None or issued_by(load_certificate(held["certificate"]), signer)


def test_an_authority_that_there_is_not(repository: Repository, keyring: Keyring) -> None:
    pki.issue(repository, keyring)
    with pytest.raises(OperatorError, match="kubernetes, etcd") as raised:
        pki.rotate_authority(repository, keyring, "nobody")
    assert code_of(raised) == "E410"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("authority: etcd\n", "authority: nobody\n", "E410"),
        ("server: {}", "sever: {}", "E410"),
        ("format: bootstrap_token", "format: uuid", "E410"),
    ],
)
def test_a_wrong_declaration_writes_nothing(
    repository: Repository, keyring: Keyring, old: str, new: str, code: str
) -> None:
    pki.issue(repository, keyring)
    before = {path: path.read_text() for path in repository.pki_dir.iterdir()}
    path = repository.cluster_dir / "init.yml"
    path.write_text(path.read_text().replace(old, new))
    for file in ("n0.t.yml", "authority-keys.yml"):
        (repository.pki_dir / file).unlink()
        before[repository.pki_dir / file] = "parameters: {}\n"
        (repository.pki_dir / file).write_text(before[repository.pki_dir / file])
    with pytest.raises(OperatorError) as raised:
        pki.issue(repository, keyring)
    assert code_of(raised) == code
    assert {path: path.read_text() for path in repository.pki_dir.iterdir()} == before
