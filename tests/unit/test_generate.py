"""`init`, `node add|remove` and `update` on real repos: the tree, what is random in it, what survives."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from reclass_model import generate, library, nodes, services, update
from reclass_model.errors import OperatorError
from reclass_model.generate import Answers
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring, is_secret
from reclass_model.validation import validate


def quiet(line: str) -> None:
    """Nobody watches a test."""


Maker = Callable[..., Repository]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    for variable in ("OSTACK_K8S_IDENTITY", "OSTACK_K8S_IDENTITY_DIR"):
        monkeypatch.delenv(variable, raising=False)

    def new(directory: str = "demo", **answers: object) -> Repository:
        made = generate.create(
            Answers.of({"cluster_name": "demo", "services": "identity", **answers}),
            tmp_path / directory,
            tmp_path / "identity",
            quiet,
        )
        return Repository(made.path)

    return new


def git(repository: Repository, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=repository.root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def tree(repository: Repository) -> dict[str, str]:
    return {name: (repository.root / name).read_text() for name in git(repository, "ls-files").splitlines()}


# --- init ---


@pytest.mark.parametrize(
    ("answers", "machines"),
    [
        ({}, ["cfg01", "cmp01", "cmp02", "ctl01", "ctl02", "ctl03", "kmst01"]),
        ({"masters": 3, "computes": 0}, ["cfg01", "ctl01", "ctl02", "ctl03", "kmst01", "kmst02", "kmst03"]),
        ({"all_in_one": True}, ["aio01"]),
    ],
)
def test_topologies_render(make: Maker, answers: dict[str, object], machines: list[str]) -> None:
    repository = make(**answers)
    assert repository.node_names() == [f"{name}.demo.local" for name in machines]
    rendered = list(Inventory(repository).nodes())
    assert all(node.applications for node in rendered)
    assert sum("workload" in get(node.parameters, "kubernetes:control", {}) for node in rendered) == 1
    assert git(repository, "rev-list", "--count", "HEAD") == "1"
    assert not repository.is_dirty()


def test_same_answers_same_tree_but_for_secrets(make: Maker) -> None:
    first, second = tree(make("one")), tree(make("two"))
    assert first.keys() == second.keys()
    different = {name for name in first if first[name] != second[name]}
    assert different == {name for name in first if "/demo/pki/" in name or name.endswith("secrets.yml")}


def test_the_library_is_vendored_verbatim(make: Maker) -> None:
    vendored = make().classes_dir / "system"
    for path in library.CLASSES.rglob("*"):
        if path.is_file():
            assert (vendored / path.relative_to(library.CLASSES)).read_bytes() == path.read_bytes()


def test_the_release_stands_literally_at_the_cluster_level(make: Maker) -> None:
    text = (make(openstack_version="gazpacho").cluster_dir / "init.yml").read_text()
    assert re.search(r"^    openstack_version: gazpacho$", text, re.MULTILINE)


def test_secrets_are_encrypted_and_the_identity_opens_them(make: Maker, tmp_path: Path) -> None:
    repository = make()
    identity = tmp_path / "identity" / "operator.age"
    assert identity.stat().st_mode & 0o777 == 0o600
    assert identity.read_text().strip().splitlines()[-1] not in str(tree(repository))
    secrets = yaml.safe_load(repository.secrets_file.read_text())["parameters"]["_param"]
    assert all(is_secret(value) for value in secrets.values())
    opened = Keyring.find(repository).reveal(secrets)
    assert re.fullmatch(r"[\w-]{32}", opened["mariadb_root_password"])
    machine = Keyring(tmp_path / "identity" / "machines" / "cfg01.demo.local.age")
    assert machine.reveal(secrets) == opened
    with pytest.raises(OperatorError, match="E402"):
        Keyring(tmp_path / "identity" / "machines" / "ctl01.demo.local.age").reveal(secrets)


def test_services_bring_their_classes_files_and_secrets_and_what_they_need(make: Maker) -> None:
    for answer, brought in {
        "memcached": {"memcached"},
        "memcached, keystone": {"memcached", "mariadb", "keystone"},
    }.items():
        repository = make(answer, services=answer)
        overlay = repository.cluster_dir / "overlay"
        classes = yaml.safe_load((overlay / "init.yml").read_text())["classes"]
        assert {name.split(".")[1] for name in classes if name.startswith("system.")} == brought
        assert {path.stem for path in overlay.glob("*.yml")} == (brought & {"mariadb", "keystone"}) | {"init"}
        secrets = yaml.safe_load(repository.secrets_file.read_text())["parameters"]["_param"]
        assert {name.split("_")[0] for name in secrets} == (brought & {"mariadb", "keystone"}) | {"secret"}
        assert repository.settings.answers["services"] == answer


def test_every_preset_renders_and_is_valid(make: Maker) -> None:
    for preset in services.presets():
        assert validate(make(f"cloud-{preset}", all_in_one=True, services=preset)).errors == []


def test_an_unknown_service_is_told_with_the_nearest(make: Maker) -> None:
    with pytest.raises(OperatorError, match=r"E010.*'keyston' is no service.*did you mean `keystone`"):
        make(services="keyston")


def test_an_identity_is_used_again(make: Maker) -> None:
    assert make("one").settings.recipients == make("two").settings.recipients


def test_a_directory_with_anything_in_it_is_refused(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").write_text("precious")
    with pytest.raises(OperatorError, match=r"E007.*not empty"):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    (tmp_path / "demo" / "mine").unlink()
    assert make().node_names()


def test_an_interrupted_init_leaves_nothing(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reclass_model.pki.issue", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]


def test_every_bad_answer_is_named() -> None:
    bad = {
        "cluster_name": "Bad Name",
        "masters": 2,
        "openstack_version": "kilo",
        "pod_network": "10.0.0.0/33",
        "x": 1,
    }
    with pytest.raises(OperatorError) as caught:
        Answers.of(bad)
    text = str(caught.value)
    assert {problem.code for problem in caught.value.problems} == {"E010"}
    for words in (
        "'x'",
        "'Bad Name'",
        "2 is even",
        "'kilo' is no release of this library: epoxy, gazpacho",
        "10.0.0.0/33",
    ):
        assert words in text


def test_a_machine_finds_room_in_the_network() -> None:
    with pytest.raises(OperatorError, match=r"E010.*controllers: 200 is too many"):
        Answers.of({"controllers": 200})


def test_answers_survive_a_round_trip(make: Maker) -> None:
    repository = make(masters=3)
    assert Answers.of(repository.settings.answers).masters == 3


def test_new_secrets_for_a_copy(make: Maker, tmp_path: Path) -> None:
    repository = make()
    copy = Repository(Path(shutil.copytree(repository.root, tmp_path / "copy")))
    generate.regenerate_secrets(copy, tmp_path / "other")
    copy = Repository(copy.root)
    assert copy.settings.recipients != repository.settings.recipients
    old = yaml.safe_load(repository.secrets_file.read_text())["parameters"]["_param"]
    new = yaml.safe_load(copy.secrets_file.read_text())["parameters"]["_param"]
    assert old.keys() == new.keys()
    assert not set(old.values()) & set(new.values())
    assert len(Keyring(tmp_path / "other" / "operator.age").reveal(new)["secret_digest_key"]) == 64


# --- node add, node remove ---


def test_a_machine_comes_and_goes_without_a_trace(make: Maker) -> None:
    repository = make()
    before = tree(repository)
    members = repository.cluster_dir / "underlay" / "members.yml"
    members.write_text(members.read_text().replace("  etcd:", "  # our etcd\n  etcd:"))
    path = nodes.add(repository, "cmp03", ["kube_compute"], None, quiet)
    assert path.name == "cmp03.demo.local.yml"
    repository = Repository(repository.root)
    inventory = Inventory(repository)
    parameters = inventory.node("cmp03.demo.local").parameters
    assert get(parameters, "_param:address") == "10.10.0.12"
    assert all("certificate" in item for item in get(parameters, "pki:certificate").values())
    listed = get(inventory.node("kmst01.demo.local").parameters, "kubernetes:common:node")
    assert listed["cmp03.demo.local"]["role"] == {"compute": {}}
    assert "# our etcd" in members.read_text()
    assert "cmp03.demo.local" in repository.settings.recipients.machines
    nodes.remove(repository, "cmp03", quiet)
    assert "# our etcd" in members.read_text()
    members.write_text(members.read_text().replace("  # our etcd\n", ""))
    assert {name: text for name, text in before.items() if (repository.root / name).read_text() != text} == {}


def test_a_master_joins_etcd(make: Maker) -> None:
    repository = make()
    nodes.add(repository, "kmst02.demo.local", ["kube_master"], "10.10.0.12", quiet)
    parameters = Inventory(Repository(repository.root)).node("kmst01.demo.local").parameters
    assert sorted(get(parameters, "etcd:server:member")) == ["kmst01.demo.local", "kmst02.demo.local"]


@pytest.mark.parametrize(
    ("name", "roles", "address", "words"),
    [
        ("ctl01", ["kube_control"], None, "ctl01.demo.local is there already"),
        ("cmp03", ["compute"], None, "no role 'compute'"),
        ("cmp03", [], None, "needs a role"),
        ("cmp03", ["kube_compute"], "10.10.0.21", "10.10.0.21 is the address of ctl01.demo.local"),
        ("cmp03", ["kube_compute"], "192.0.2.1", "no host of the underlay network 10.10.0.0/24"),
        ("cmp03", ["kube_compute"], "10.10.0.255", "no host of the underlay network.*is 10.10.0.12"),
        ("cmp03", ["kube_compute"], "many", "no host of the underlay network"),
        ("Bad_name", ["kube_compute"], None, "no host name"),
        ("a..b", ["kube_compute"], None, "no host name"),
        ("../cmp03", ["kube_compute"], None, "no host name"),
        ("cfg02", ["config"], None, "cfg01.demo.local is the config machine"),
    ],
)
def test_bad_machines(make: Maker, name: str, roles: list[str], address: str | None, words: str) -> None:
    repository = make()
    with pytest.raises(OperatorError, match=f"E009.*{words}"):
        nodes.add(repository, name, roles, address, quiet)
    assert not repository.is_dirty()


def test_a_machine_that_can_have_no_certificate_leaves_nothing_behind(make: Maker) -> None:
    repository = make()
    with pytest.raises(OperatorError, match=r"E410.*shorter name"):
        nodes.add(repository, "x" * 60, ["kube_compute"], None, lambda line: None)
    assert not repository.is_dirty()
    nodes.add(repository, "cmp03", ["kube_compute"], None, lambda line: None)


def test_an_interruption_leaves_the_machines_as_they_were(make: Maker) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    repository = make()
    with pytest.raises(KeyboardInterrupt):
        nodes.add(repository, "cmp03", ["kube_compute"], None, interrupt)
    assert not repository.is_dirty()
    with pytest.raises(KeyboardInterrupt):
        nodes.remove(repository, "cmp02", interrupt)
    assert not repository.is_dirty()
    nodes.remove(repository, "cmp02", quiet)


def test_removing_nobody(make: Maker) -> None:
    with pytest.raises(OperatorError, match="E003: no machine 'cmp09'"):
        nodes.remove(make(), "cmp09", quiet)


# --- update ---


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A newer library: one default changed, one class more, one less."""
    classes = Path(shutil.copytree(library.CLASSES, tmp_path / "newer"))
    server = classes / "keystone" / "server.yml"
    server.write_text(server.read_text().replace("max_active_keys: 3", "max_active_keys: 5"))
    (classes / "more.yml").write_text("parameters: {more: true}\n")
    (classes / "lab" / "init.yml").unlink()
    return classes


@pytest.fixture
def ship(newer: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Call it: from then on the newer library is the one that this version ships."""

    def now() -> None:
        monkeypatch.setattr(library, "CLASSES", newer)
        library.library_version.cache_clear()

    yield now
    monkeypatch.undo()
    library.library_version.cache_clear()


def edit(repository: Repository, name: str, old: str, new: str) -> None:
    path = repository.root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    git(repository, "commit", "--quiet", "-am", f"Edit {name}")


def test_an_update_merges_and_edits_survive(make: Maker, ship: Callable[[], None]) -> None:
    repository = make()
    edit(repository, "classes/cluster/demo/overlay/keystone.yml", "3600", "7200")
    edit(
        repository, "classes/system/keystone/server.yml", "workers: 2", "workers: 4"
    )  # against the rules, yet kept
    nodes.add(repository, "cmp03", ["kube_compute"], None, quiet)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "One more machine")
    pristine = git(repository, "rev-list", "--max-parents=0", "HEAD")
    ship()

    updated = update.update(repository, quiet)

    assert updated.before != updated.after
    assert updated.conflicts == ()
    repository = Repository(repository.root)
    assert not repository.is_dirty()
    assert repository.settings.library_version == updated.after
    assert "cmp03.demo.local" in repository.settings.recipients.machines
    server = get(Inventory(repository).config_node().parameters, "keystone:server")
    assert (server["token"]["expiration"], server["token"]["max_active_keys"], server["workers"]) == (
        7200,
        5,
        4,
    )
    assert (repository.classes_dir / "system" / "more.yml").exists()
    assert not (repository.classes_dir / "system" / "lab" / "init.yml").exists()
    assert git(repository, "rev-parse", "HEAD^2^") == pristine
    assert git(repository, "worktree", "list").count("\n") == 0
    again = update.update(repository, quiet)
    assert (again.before, again.conflicts) == (again.after, ())


def test_a_conflict_is_gits(make: Maker, ship: Callable[[], None]) -> None:
    repository = make()
    edit(repository, "classes/system/keystone/server.yml", "max_active_keys: 3", "max_active_keys: 9")
    ship()
    assert update.update(repository, quiet).conflicts == ("classes/system/keystone/server.yml",)
    assert "<<<<<<<" in (repository.classes_dir / "system" / "keystone" / "server.yml").read_text()


def test_an_update_with_nothing_new(make: Maker) -> None:
    repository = make()
    head = repository.head()
    updated = update.update(repository, quiet)
    assert (updated.before, updated.conflicts) == (updated.after, ())
    assert repository.head() == head


def test_an_update_wants_a_clean_tree_and_its_history(make: Maker) -> None:
    repository = make()
    (repository.root / "README.md").write_text("mine\n")
    with pytest.raises(OperatorError, match=r"E007.*uncommitted"):
        update.update(repository, quiet)
    git(repository, "commit", "--quiet", "-am", "Mine")
    git(repository, "checkout", "--quiet", "--orphan", "other")
    git(repository, "commit", "--quiet", "-m", "A history without init")
    with pytest.raises(OperatorError, match="E008"):
        update.update(repository, quiet)
