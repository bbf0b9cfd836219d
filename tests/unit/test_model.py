"""Reading the model: both engines agree, values know where they come from, differences know who wrote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reclass_model.difference import changes, underlay_digest
from reclass_model.errors import OperatorError
from reclass_model.generate import Answers, create
from reclass_model.inventory import Inventory, get
from reclass_model.provenance import locate, origin, why
from reclass_model.repository import Repository

NODES = {
    "a.lab": "classes: [system.base.db, cluster.c, cluster.c.pki.a.lab]\nparameters: {_param: {address: 10.0.0.1}}\n",
    "b.lab": "classes: [system.base, cluster.c]\nparameters: {_param: {address: 10.0.0.2}}\n",
}
CLASSES = {
    "system/base/init.yml": """
applications: [linux]
parameters:
  server: {size: 1, names: [a], gone: {x: 1}, version: "${_param:release}", mode: "0640"}
  release: {one: {suite: first}, two: {suite: second}}
  image: {suite: "${release:${server:version}:suite}", label: "at ${_param:address}", all: "${server}"}
""",
    "system/base/db.yml": """
classes: [system.base]
applications: [db]
parameters:
  server: {names: [b], password: "x?{age:0123456789ab:AAAA}y"}
""",
    "cluster/c/init.yml": """
parameters:
  _param: {release: one}
  server:
    size: 2
    ~gone: null
""",
    "cluster/c/pki/a.lab.yml": "parameters: {own: {key: value}}\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / ".ostack-k8s.yml").write_text("cluster_name: c\n")
    (tmp_path / "nodes").mkdir()
    for name, text in NODES.items():
        (tmp_path / "nodes" / f"{name}.yml").write_text(text)
    for name, text in CLASSES.items():
        path = tmp_path / "classes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Repository(tmp_path)


def edit(repository: Repository, file: str, old: str, new: str) -> None:
    path = repository.root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def by_kapicorp(repository: Repository, name: str) -> dict[str, Any]:
    reclass = Path(sys.executable).parent / "reclass"
    command = [str(reclass), "-b", str(repository.root), "--nodeinfo", name, "-o", "yaml"]
    loaded = yaml.safe_load(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert isinstance(loaded, dict)
    return loaded


def assert_parity(repository: Repository, name: str) -> None:
    ours, theirs = Inventory(repository).node(name), by_kapicorp(repository, name)
    ours.parameters.pop("_reclass_")
    theirs["parameters"].pop("_reclass_")
    assert ours.parameters == theirs["parameters"]
    assert list(ours.classes) == theirs["classes"]
    assert list(ours.applications) == theirs["applications"]


@pytest.mark.parametrize("name", NODES)
def test_both_engines_agree(repository: Repository, name: str) -> None:
    assert_parity(repository, name)


def test_both_engines_agree_on_the_library(tmp_path: Path) -> None:
    answers = Answers.of({"cluster_name": "demo", "services": "identity"})
    create(answers, tmp_path / "demo", tmp_path / "identity", lambda line: None)
    repository = Repository(tmp_path / "demo")
    for name in ("cfg01.demo.local", "kmst01.demo.local", "ctl02.demo.local", "cmp01.demo.local"):
        assert_parity(repository, name)


def test_node_carries_what_the_top_file_needs(repository: Repository) -> None:
    node = Inventory(repository).node("a.lab")
    assert node.parameters["_reclass_"] == {
        "name": {"full": "a.lab"},
        "environment": "base",
        "applications": ["linux", "db"],
        "classes": ["system.base", "system.base.db", "cluster.c", "cluster.c.pki.a.lab"],
    }


def test_changed_and_new_files_are_seen(repository: Repository) -> None:
    inventory = Inventory(repository)
    inventory.node("b.lab")
    (repository.classes_dir / "new.yml").write_text("parameters: {new: 1}\n")
    edit(repository, "nodes/b.lab.yml", "cluster.c]", "cluster.c, new]")
    assert inventory.node("b.lab").parameters["new"] == 1


def test_with_parameters_overrides_every_machine(repository: Repository) -> None:
    other = Inventory(repository).with_parameters({"release": "two"})
    assert [node.parameters["image"]["suite"] for node in other.nodes()] == ["second", "second"]
    assert other.node("a.lab").parameters["server"]["mode"] == "0640"


def test_one_more_class_wins_over_the_others(repository: Repository) -> None:
    (repository.classes_dir / "new.yml").write_text("parameters: {_param: {release: two}}\n")
    inventory = Inventory(repository)
    other = inventory.with_class("new")
    assert [node.classes[-1] for node in other.nodes()] == ["new", "new"]
    assert "new" not in inventory.node("a.lab").classes


def test_unknown_machine(repository: Repository) -> None:
    with pytest.raises(OperatorError) as raised:
        Inventory(repository).node("a.lb")
    assert raised.value.code == "E003"
    assert raised.value.problems[0].hint == "did you mean `a.lab`?"


def test_get() -> None:
    assert get({"a": {"b": 1}}, "a:b") == 1
    assert get({"a": None}, "a:b", 2) == 2
    with pytest.raises(OperatorError):
        get({}, "a")


def places(settings: Any) -> list[tuple[str, int]]:
    return [(setting.file, setting.line) for setting in settings]


def test_why_names_all_that_set_a_value(repository: Repository) -> None:
    found = why(repository, "a.lab", "server:size")
    assert found.value == 2
    assert places(found.set_by) == [("classes/system/base/init.yml", 4), ("classes/cluster/c/init.yml", 5)]


def test_why_follows_references(repository: Repository) -> None:
    found = why(repository, "a.lab", "image:suite")
    assert found.value == "first"
    assert [reference.path for reference in found.references] == [
        "server:version",
        "release:one:suite",
        "_param:release",
    ]


def test_why_knows_a_replaced_mapping(repository: Repository) -> None:
    assert why(repository, "a.lab", "server:gone").set_by[-1].replaces


def test_why_below_a_reference(repository: Repository) -> None:
    assert locate(repository, "a.lab", "image:all:size") == why(repository, "a.lab", "image:all").set_by[-1]
    written = origin(repository, "a.lab", "image:all:size")
    assert written is not None and written.file == "classes/cluster/c/init.yml"


def test_why_of_nothing(repository: Repository) -> None:
    with pytest.raises(OperatorError) as raised:
        why(repository, "a.lab", "server:siz")
    assert raised.value.problems[0].hint == "did you mean `size`?"


def test_changes_say_who_wrote_them(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    after = Repository(tmp_path_factory.mktemp("after"))
    subprocess.run(["cp", "-a", f"{repository.root}/.", after.root], check=True)
    edit(after, "classes/cluster/c/init.yml", "release: one", "release: two")
    edit(after, "classes/system/base/db.yml", "0123456789ab:AAAA", "ba9876543210:AAAA")
    found = {change.path: change for change in changes(Inventory(repository), Inventory(after))}
    written = found["_param:release"]
    assert (written.before, written.after, written.nodes, written.derived) == (
        "one",
        "two",
        ("a.lab", "b.lab"),
        False,
    )
    assert (written.file, written.line) == ("classes/cluster/c/init.yml", 3)
    assert found["server:version"].derived and found["server:version"].file == "classes/cluster/c/init.yml"
    assert (found["server:password"].before, found["server:password"].after) == ("***", "***")


def test_a_rekeyed_secret_is_no_change(
    repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> None:
    after = Repository(tmp_path_factory.mktemp("after"))
    subprocess.run(["cp", "-a", f"{repository.root}/.", after.root], check=True)
    edit(after, "classes/system/base/db.yml", "0123456789ab:AAAA", "0123456789ab:BBBB")
    assert changes(Inventory(repository), Inventory(after)) == []


def test_machines_come_and_go(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    after = Repository(tmp_path_factory.mktemp("after"))
    subprocess.run(["cp", "-a", f"{repository.root}/.", after.root], check=True)
    after.node_file("b.lab").rename(after.node_file("d.lab"))
    found = changes(Inventory(repository), Inventory(after))
    assert [(change.kind, change.node, change.path) for change in found] == [
        ("add", "d.lab", ""),
        ("remove", "b.lab", ""),
    ]


def test_underlay_digest_sees_the_underlay_only() -> None:
    pillar = {"pki": {"authority": {"a": {"days": 1}}}, "keystone": {"server": {"x": 1}}}
    same = {**pillar, "keystone": {"server": {"x": 2}}}
    other = {**pillar, "pki": {"authority": {"a": {"days": 2}}}}
    assert underlay_digest(pillar) == underlay_digest(same) != underlay_digest(other)
    own, of_pods = (
        {**pillar, "pki": {"certificate": {"a": {"days": 1, **more}}}} for more in ({}, {"overlay": True})
    )
    renewed = {**pillar, "pki": {"certificate": {"a": {"days": 2, "overlay": True}}}}
    assert underlay_digest(of_pods) == underlay_digest(renewed) != underlay_digest(own)


def test_git(repository: Repository) -> None:
    repository.git("init", "-q")
    first = repository.commit("first", [repository.root])
    assert not repository.is_dirty() and repository.head() == first
    edit(repository, "classes/cluster/c/init.yml", "release: one", "release: two")
    assert repository.is_dirty()
    repository.set_reference("deployed", first)
    assert repository.reference("deployed") == first and repository.reference("other") is None
    with repository.at(first) as old:
        assert Inventory(old).node("a.lab").parameters["image"]["suite"] == "first"
        assert old.settings.cluster_name == "c"
    assert not old.root.exists()
    with pytest.raises(OperatorError) as raised:
        repository.resolve("nowhere")
    assert raised.value.code == "E006"


def test_find_looks_upward(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Repository.find(repository.nodes_dir).root == repository.root
    with pytest.raises(OperatorError) as raised:
        Repository.find(tmp_path_factory.mktemp("elsewhere"))
    assert raised.value.code == "E001"


@pytest.mark.parametrize("text", ["a: [", "- a\n", "cluster_name: 3\n", ""])
def test_broken_settings(repository: Repository, text: str) -> None:
    (repository.root / ".ostack-k8s.yml").write_text(text)
    with pytest.raises(OperatorError) as raised:
        _ = repository.settings
    assert raised.value.code == "E002"
