"""The lab without a container engine: what machines are made from, what Salt's answer means, our own wheel."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.main import root
from cli.output.errors import explain
from kubernetes_formula import lab, outcome
from kubernetes_formula.lab import derivation, engine, machines, switches, underlay, wheel
from kubernetes_formula.lab.place import Place
from reclass_model import nodes
from reclass_model.errors import OperatorError
from reclass_model.generate import Answers, create
from reclass_model.inventory import Inventory, Node
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring, is_secret
from reclass_model.validation import validate

PLACE = Place("demo")


def node(name: str, address: str, *roles: str) -> Node:
    classes = tuple(f"system.role.{role}" for role in roles)
    runs = ("kubernetes.pool",) if {"kube_compute", "kube_control"} & set(roles) else ()
    return Node(name, ("cluster.demo", *classes), runs, {"_param": {"address": address}})


NODES = [
    node("cmp01.demo.local", "10.10.0.31", "kube_compute"),
    node("ctl01.demo.local", "10.10.0.21", "kube_control"),
    node("sto01.demo.local", "10.10.0.41", "storage"),
    node("kub01.demo.local", "10.10.0.11", "kube_master"),
    node("cfg01.demo.local", "10.10.0.10", "config"),
]


def test_machines_come_up_config_first_then_masters() -> None:
    names = [machine.container for machine in machines.blueprints(NODES, "demo")]
    assert names == ["demo-cfg01", "demo-kub01", "demo-cmp01", "demo-ctl01", "demo-sto01"]


def test_only_keeps_the_machines_of_a_role_and_the_master_and_refuses_an_unknown_one() -> None:
    chosen = machines.blueprints(NODES, "demo", ["storage"])
    assert [machine.name for machine in chosen] == ["cfg01.demo.local", "sto01.demo.local"]
    with pytest.raises(OperatorError, match="'kube_mister'") as caught:
        machines.blueprints(NODES, "demo", ["kube_mister"])
    assert "kube_master" in (caught.value.problems[0].hint or "")


def test_only_brings_the_masters_that_machines_with_pods_wait_for() -> None:
    chosen = machines.blueprints(NODES, "demo", ["kube_compute"])
    assert [machine.container for machine in chosen] == ["demo-cfg01", "demo-kub01", "demo-cmp01"]


@pytest.mark.parametrize(
    ("written", "roles", "actions"),
    [
        (["--only", "kube_master,storage", "--only", "config"], ("kube_master", "storage", "config"), 0),
        ([], (), 2),
        (["--no-deploy"], (), 0),
    ],
)
def test_up_takes_roles_with_commas_and_deploys_on_all_machines_only(
    written: list[str], roles: tuple[str, ...], actions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def up(_: Repository, **given: Any) -> lab.LabState:
        asked.update(given)
        return lab.LabState((), tmp_path, tmp_path, ("the moon is nearer",))

    monkeypatch.setattr(lab, "up", up)
    (tmp_path / ".ostack-k8s.yml").write_text("cluster_name: demo\n")
    ran = CliRunner().invoke(root, ["-C", str(tmp_path), "-o", "json", "lab", "up", *written])
    assert json.loads(ran.stdout)["differences"] == ["the moon is nearer"]
    assert ran.exit_code == 0, ran.output
    assert asked["only"] == roles and len(asked["overlay"]) == actions
    assert ("no services: they want all machines" in ran.stderr) == bool(roles)
    assert "differs from bare metal: the moon is nearer" in ran.stderr


def test_a_machine_has_its_name_address_and_everyones_names_and_only_config_builds() -> None:
    everyone = machines.blueprints(NODES, "demo")
    made = {
        machine.name: machines.configuration(
            machine, everyone, PLACE, "node:1", Path("/bundle"), Path("/var/run/docker.sock"), "age1x"
        )
        for machine in everyone
    }
    master = made["kub01.demo.local"]
    assert master["Hostname"] == "kub01.demo.local"
    network = master["NetworkingConfig"]["EndpointsConfig"]["ostack-k8s-demo"]
    assert network["IPAMConfig"]["IPv4Address"] == "10.10.0.11"
    assert "cfg01:10.10.0.10" in master["HostConfig"]["ExtraHosts"]
    for own in ("docker.sock", "/bundle:/srv/ostack-k8s/bundle:ro", f"{PLACE.guest}:{PLACE.guest}:ro"):
        owners = [name for name, wanted in made.items() if own in str(wanted["HostConfig"]["Binds"])]
        assert owners == ["cfg01.demo.local"], own


def test_the_blueprint_label_changes_with_what_a_machine_is_made_of() -> None:
    everyone = machines.blueprints(NODES, "demo")

    def label(image: str) -> str:
        wanted = machines.configuration(everyone[0], everyone, PLACE, image, Path("/bundle"), None, "age1x")
        return str(wanted["Labels"][machines.BLUEPRINT])

    assert label("node:1") == label("node:1") != label("node:2")


RETURNED = {
    "file_|-a_|-/etc/a_|-managed": {"result": True, "changes": {}, "comment": "", "duration": 1000},
    "file_|-b_|-/etc/b_|-managed": {"result": True, "changes": {"diff": "x"}, "comment": "", "duration": 500},
    "file_|-c_|-/etc/c_|-managed": {"result": None, "changes": {}, "comment": "would", "duration": None},
    "service_|-d_|-d_|-running": {"result": False, "changes": {}, "comment": "no unit\n"},
}


def test_what_salt_returned_is_read_as_changed_failed_and_seconds() -> None:
    read = outcome.read(RETURNED)
    assert read.states == 4
    assert read.changed == {"file.managed: b", "file.managed: c"}
    assert read.failed == {"service.running: d": "no unit"}
    assert read.seconds == 1.5
    assert outcome.Outcome.of(read.as_dict()) == read


def test_states_that_could_not_run_are_a_failure_with_salts_words() -> None:
    read = outcome.read(["Rendering SLS failed", "unknown tag"])
    assert read.failed == {"the states cannot run": "Rendering SLS failed\nunknown tag"}


def test_two_phases_on_a_machine_are_one_outcome() -> None:
    first = outcome.Outcome(3, frozenset({"a"}), {}, 1.0)
    assert outcome.joined([first, outcome.read(RETURNED)]) == outcome.Outcome(
        4, frozenset({"a", "file.managed: b", "file.managed: c"}), {"service.running: d": "no unit"}, 2.5
    )


def test_failed_states_are_named_causes_first() -> None:
    failed = {"a.b: later": "One or more requisite failed: x", "z.z: cause": "no such file"}
    with pytest.raises(OperatorError) as caught:
        underlay.demand_success(outcome.Outcome(2, frozenset(), failed, 0), "n1")
    assert [problem.message for problem in caught.value.problems] == [
        "z.z: cause: no such file",
        "a.b: later: One or more requisite failed: x",
    ]


@pytest.mark.parametrize(
    ("announced", "first", "second", "complaint"),
    [
        ({"s"}, {"s", "t"}, set(), "changed but not announced by test=True: t"),
        ({"s", "t"}, {"s"}, set(), "announced by test=True but not changed: t"),
        ({"s"}, {"s"}, {"s"}, "changed again by a second run: s"),
    ],
)
def test_states_that_lie_are_named(
    announced: set[str], first: set[str], second: set[str], complaint: str
) -> None:
    outcomes = [outcome.Outcome(2, frozenset(changed), {}, 0) for changed in (announced, first, second)]
    with pytest.raises(OperatorError, match=complaint):
        underlay.demand_truth(*outcomes, "n1")


def test_true_states_pass() -> None:
    some, none = (outcome.Outcome(2, frozenset(changed), {}, 0) for changed in ({"s"}, set[str]()))
    underlay.demand_truth(some, some, none, "n1")


def test_our_wheel_is_the_same_twice_and_holds_what_pip_and_salt_need() -> None:
    name, content = wheel.build()
    assert wheel.build() == (name, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert "kubernetes_formula/lab/image/node.yml" in names
    assert not [n for n in names if "__pycache__" in n]
    assert "ostack-k8s = cli.main:main" in entry_points
    assert "[salt.loader]" in entry_points


def test_dependencies_are_those_of_the_base_install_and_one_extra() -> None:
    names = wheel.dependencies("salt")
    assert any(name.startswith("salt") for name in names)
    assert any(name.startswith("click") for name in names)
    assert not any(name.startswith("pytest") for name in names)


def test_the_lab_class_is_the_last_one_and_is_added_once() -> None:
    text = (
        "classes:\n- system.role.config # why\n- cluster.demo\nparameters:\n  _param: {address: 10.0.0.1}\n"
    )
    once = derivation.with_class(text, "system.lab")
    assert "- cluster.demo\n- system.lab\n" in once
    assert "# why" in once
    assert derivation.with_class(once, "system.lab") == once


def test_no_docker_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    socket = f"unix://{tmp_path}/none.sock"
    with pytest.raises(OperatorError, match="no Docker answers on unix://") as caught:
        engine.connect(Place("demo"), socket)
    assert caught.value.code == "E801"
    assert "--start-docker" in (caught.value.problems[0].hint or "")


def test_a_dockerd_of_our_own_that_ends_at_once_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    program = tmp_path / "bin" / "dockerd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no permission >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(OperatorError, match="dockerd ended") as caught:
        engine.start(Place("demo"), lambda line: None)
    log = Path(caught.value.problems[0].file or "")
    assert log.read_text() == "no permission\n"


def test_a_machine_says_whose_keys_it_has() -> None:
    everyone = machines.blueprints(NODES, "demo")
    wanted = machines.configuration(everyone[0], everyone, PLACE, "node:1", Path("/bundle"), None, "age1x")
    assert wanted["Labels"][machines.OWNER] == "age1x"


def test_a_derived_repo_has_its_own_keys_and_keeps_them_when_the_source_moves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = Repository(tmp_path / "source")
    answers = Answers.of({"cluster_name": "demo", "services": "identity", "all_in_one": True})
    create(answers, source.root, tmp_path / "identity", lambda line: None)

    def derive() -> Repository:
        return derivation.derive(Repository(source.root), PLACE, lambda line: None)

    first = derive()
    assert first.settings.recipients.operators != source.settings.recipients.operators
    assert Inventory(first).config_node().classes[-1] == "system.lab"
    assert Inventory(first).config_node().parameters["_param"]["guest_image"] == str(PLACE.guest)
    assert derive().head() == first.head()

    first.git("rm", "--quiet", "--force", str(first.cluster_dir / "lab_files.yml"))
    for name in first.node_names():  # a lab of before it had this class
        text = first.node_file(name).read_text()
        first.node_file(name).write_text(text.replace("- cluster.demo.lab_files\n", ""))
    first.commit("As it was once", [first.root])

    secrets = first.secrets_file.read_text()
    (source.root / "README.md").write_text("changed\n")
    source.commit("Change", [source.root / "README.md"])
    second = derive()
    assert (second.root / "README.md").read_text() == "changed\n"
    assert second.secrets_file.read_text() == secrets
    assert second.settings.recipients == first.settings.recipients
    assert Inventory(second).config_node().parameters["_param"]["guest_image"] == str(PLACE.guest)
    assert not validate(second).errors
    keyring = Keyring(PLACE.identity / "operator.age")
    assert not is_secret(str(keyring.reveal(Inventory(second).config_node().parameters["_param"])))


def test_a_derived_repo_gives_a_new_machine_keys_of_its_own_and_forgets_one_that_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = Repository(tmp_path / "source")
    answers = {"cluster_name": "demo", "services": "identity", "controllers": 1, "computes": 1}
    create(Answers.of(answers), source.root, tmp_path / "identity", lambda line: None)

    def derive() -> Repository:
        return derivation.derive(Repository(source.root), PLACE, lambda line: None)

    before = derive().settings.recipients.machines
    path = nodes.add(source, "cmp02", ["kube_compute"], None, lambda line: None)
    source.commit("One more machine", [source.root])
    derived = derive()
    machines = derived.settings.recipients.machines
    assert machines == before | {path.stem: machines[path.stem]}
    (switch,) = switches.switches(Inventory(derived).nodes())
    assert (switch.name, sorted(switch.machines)) == (
        "lab-r1",
        [f"{n}.demo.local" for n in ("cmp01", "cmp02", "ctl01")],
    )
    assert machines[path.stem] != Repository(source.root).settings.recipients.machines[path.stem]
    keyring = Keyring(derivation.identity_of(PLACE, path.stem))
    pillar = keyring.reveal(Inventory(derived).node(path.stem).parameters["pki"])
    assert "PRIVATE KEY" in pillar["keypair"]["salt-minion"]["private_key"]

    nodes.remove(Repository(source.root), "cmp02", lambda line: None)
    source.commit("One machine less", [source.root])
    derived = derive()
    assert derived.settings.recipients.machines == before
    assert path.stem not in derived.node_names()


def test_a_switch_knows_the_machines_of_its_rack_and_takes_their_routes() -> None:
    def member(name: str, address: str, rack: str) -> Node:
        peers = {
            "tor-r1": {"address": "10.10.0.1", "as_number": 65000, "rack": "r1", "password": "sealed"},
            "edge": {"address": "10.10.0.2", "as_number": 65001},
        }
        own = {"node": {"address": address}, "bgp": {"as_number": 64512, "peer": {**peers, "gone": None}}}
        return Node(name, (), ("kubernetes.pool",), {"_param": {"rack": rack}, "calico": own})

    nodes = [*NODES, member("c1.demo.local", "10.10.0.31", "r1"), member("c2.demo.local", "10.10.0.32", "r2")]
    edge, tor = switches.switches(nodes)
    assert list(edge.machines) == ["c1.demo.local", "c2.demo.local"]
    assert tor.machines == {"c1.demo.local": ("10.10.0.31", 64512)}
    text = switches.bird(tor, lambda value: value and "opened")
    assert 'local 10.10.0.1 as 65000; neighbor 10.10.0.31 as 64512; password "opened"' in text
    assert "password" not in switches.bird(edge, lambda value: value)
    made = switches.configuration(tor, PLACE, "node:1", "age1x", lambda value: value)
    assert made["Labels"][machines.MACHINE] == "tor-r1" and made["Labels"][machines.BLUEPRINT]


class Things(dict[str, Any]):
    """Containers, volumes or networks of an engine: by name, with labels."""

    def list(self, filters: dict[str, str] | None = None, **_: Any) -> list[Any]:
        wanted = (filters or {}).get("label", "")
        return [one for one in self.values() if not wanted or wanted in self.words(one)]

    def words(self, one: Any) -> set[str]:
        return {word for key, value in one.labels.items() for word in (key, f"{key}={value}")}

    def create(self, name: str, labels: dict[str, str] | None = None) -> None:
        kept = labels or {}

        def remove(**_: Any) -> None:
            del self[name]

        attributes = {"Labels": labels, "Image": "sha256:node"}
        self.setdefault(name, SimpleNamespace(name=name, labels=kept, attrs=attributes, remove=remove))

    def get(self, name: str) -> Any:  # type: ignore[override]
        return self[name]

    def run(self, image: str, *_: Any, volumes: dict[str, Any], **__: Any) -> None:
        assert image == "sha256:node" and volumes


class Engine(SimpleNamespace):
    """What of Docker's client a lab is made and removed with."""

    def __init__(self) -> None:
        super().__init__(containers=Things(), volumes=Things(), networks=Things(), api=self)
        self.networks.create("net", labels={machines.LAB: "demo"})

    def create_container_from_config(self, wanted: dict[str, Any], name: str) -> None:
        self.containers.create(name, labels=wanted["Labels"])
        self.containers[name].start = lambda: None


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    import docker

    engine = Engine()
    monkeypatch.setattr(
        Things, "__missing__", lambda _, name: _raise(docker.errors.NotFound(name)), raising=False
    )
    everyone = machines.blueprints(NODES, "demo")
    for machine in everyone:
        wanted = machines.configuration(machine, everyone, PLACE, "node:1", Path("/bundle"), None, "age1x")
        assert machines.ensure_machine(engine, machine.container, wanted) == "created"  # type: ignore[arg-type]
    engine.volumes.create("demo-2-cfg01-etcd", labels={machines.LAB: "demo-2"})
    yield engine


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize("kind", ["containers", "volumes", "networks"])
def test_a_lab_that_was_half_removed_is_removed_by_a_second_run(
    built: Engine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = getattr(built, kind)
    gone: list[str] = []
    monkeypatch.setattr(machines, "_remove_cgroups", gone.append)
    victim = sorted(name for name in things if not name.startswith("demo-2"))[-1]
    remove = things[victim].remove

    def interrupted(**_: Any) -> None:
        things[victim].remove = remove
        raise KeyboardInterrupt

    things[victim].remove = interrupted
    with pytest.raises(KeyboardInterrupt):
        machines.remove(built, PLACE)  # type: ignore[arg-type]
    machines.remove(built, PLACE)  # type: ignore[arg-type]
    assert not built.containers and not built.networks
    assert list(built.volumes) == ["demo-2-cfg01-etcd"]
    assert set(gone) == {one.name for one in NODES}


def test_volumes_of_a_lab_that_did_not_label_them_go_too(built: Engine) -> None:
    for volume in built.volumes.values():
        volume.labels, volume.attrs["Labels"] = {}, None
    machines.remove(built, PLACE)  # type: ignore[arg-type]
    assert list(built.volumes) == ["demo-2-cfg01-etcd"]


def test_a_cgroup_in_use_does_not_stop_the_others_from_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "cpu" / machines.CGROUP / "cfg01"
    for name in ("a", "b", "c"):
        (machine / name).mkdir(parents=True)
    (machine / "b" / "in-use").touch()  # a folder that cannot be removed
    monkeypatch.setattr(machines, "CGROUPS", tmp_path)
    machines._remove_cgroups("cfg01")
    assert [folder.name for folder in machine.iterdir()] == ["b"]


class Box(SimpleNamespace):
    """A container that is as strict about its state as the engine."""

    def __init__(self, state: str, attached: bool = True) -> None:
        networks = {PLACE.network: {}} if attached else {}
        labels = {machines.MACHINE: "cmp01.demo.local", machines.ADDRESS: "10.10.0.31"}
        super().__init__(status=state, labels=labels, attrs={"NetworkSettings": {"Networks": networks}})

    def _go(self, state: str, *allowed: str) -> None:
        import docker

        if self.status not in allowed:
            raise docker.errors.APIError(f"409: container is {self.status}")
        self.status = state

    def kill(self) -> None:
        self._go("exited", "running")

    def pause(self) -> None:
        self._go("paused", "running")

    def unpause(self) -> None:
        self._go("running", "paused")

    def disconnect(self, container: Any, force: bool) -> None:
        assert (
            container is self
            and self.attrs["NetworkSettings"]["Networks"].pop(PLACE.network, None) is not None
        )


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("kill", "running", "exited"),
        ("kill", "exited", "exited"),
        ("kill", "created", "created"),
        ("kill", "paused", "exited"),
        ("kill", "partitioned", "exited"),
        ("pause", "running", "paused"),
        ("pause", "paused", "paused"),
        ("pause", "exited", "E809"),
        ("partition", "running", "partitioned"),
        ("partition", "partitioned", "partitioned"),
        ("partition", "exited", "E809"),
        ("partition", "paused", "E809"),
        ("drown", "running", "E809"),
    ],
)
def test_a_fault_can_be_done_twice_and_one_that_cannot_be_done_is_refused(
    kind: str, before: str, after: str
) -> None:
    box = Box("running", attached=False) if before == "partitioned" else Box(before)
    engine: Any = SimpleNamespace(networks={PLACE.network: box})
    try:
        machines.inflict(engine, PLACE, kind, box)  # type: ignore[arg-type]
    except OperatorError as error:
        assert error.code == after
        assert kind == "drown" or f"it is {before}" in str(error)
    else:
        assert machines.observe(box, PLACE).state == after  # type: ignore[arg-type]


def test_what_docker_refuses_is_told_in_its_words_and_not_as_our_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import docker

    for error in (
        docker.errors.APIError("409 Client Error", explanation="the container is paused"),
        docker.errors.DockerException("the container is paused"),
    ):
        assert explain(error) == 1
        said = capsys.readouterr().err
        assert "E816" in said and "the container is paused" in said
        assert "fault of ostack-k8s" not in said


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("Mesh_10_10_0_21 BGP master up 12:00:01 Established\n", "1/1"),
        (
            "kernel1 Kernel master up 12:00:00\n"
            "Mesh_10_10_0_21 BGP master up 12:00:01 Established\n"
            "Global_10_10_0_1 BGP master start 12:00:02 Connect Socket: Connection timed out\n"
            "Node_10_10_0_2 BGP master start 12:00:02 Active\n",
            "1/3\t10.10.0.1 Connect Socket: Connection timed out\t10.10.0.2 Active",
        ),
        ("", ""),
    ],
)
def test_sessions_that_are_down_are_told_with_their_cause(
    rows: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").write_text("BIRD 1.6.8 ready.\nname proto table state since info\n" + rows)
    birdc = tmp_path / "birdc"
    birdc.write_text(f"#!/bin/sh\ncat {tmp_path}/rows\n")
    birdc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(["sh", "-c", machines._SESSIONS], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n").rstrip() == line
    health = f"running\nactive\n{done.stdout}" + '{"revision": "abc"}'
    answer = SimpleNamespace(output=health.encode())
    box: Any = SimpleNamespace(attrs={"Config": {"Cmd": machines.INIT}}, exec_run=lambda _: answer)
    found = machines.examine(box, machines.Machine("c1", "10.10.0.31", "running"))
    assert "\t".join((found.bgp, *found.down)) == line and found.applied == "abc"


def test_what_differs_from_metal_names_every_key_of_the_labs_class_and_no_other() -> None:
    """system.lab and the words for it are two files: a key in one is meant in the other."""

    def below(value: Any, path: str = "") -> Iterator[str]:
        """Every path of a mapping, `~` of a key that replaces another left out."""
        for key, item in value.items() if isinstance(value, dict) else ():
            here = f"{path}:{key.lstrip('~')}".lstrip(":")
            yield here
            yield from below(item, here)

    made = yaml.safe_load(
        (resources.files("reclass_model") / "library/classes/system/lab/init.yml").read_text()
    )["parameters"]
    paths = set(below(made))
    leaves = {path for path in paths if not any(other.startswith(f"{path}:") for other in paths)}
    text = resources.files("kubernetes_formula.lab").joinpath("differences.yml").read_text()
    named = {key for difference in yaml.safe_load(text) for key in difference.get("keys", [])}
    assert named <= paths
    untold = {leaf for leaf in leaves if not any(f"{leaf}:".startswith(f"{key}:") for key in named)}
    assert untold == set()
    assert len(lab.differences()) == len(yaml.safe_load(text))


def test_a_rack_whose_machines_peer_with_no_switch_gets_one_of_the_labs() -> None:
    def member(number: int, rack: str, peers: Mapping[str, Any]) -> Node:
        address = f"10.10.0.{number}"
        own = {"node": {"address": address}, "bgp": {"as_number": 64512, "peer": dict(peers)}}
        param = {"rack": rack, "address": address, "underlay_network": "10.10.0.0/24", "vip": "10.10.0.254"}
        return Node(f"c{number}.demo.local", (), ("kubernetes.pool",), {"_param": param, "calico": own})

    def racks(peers: Mapping[str, Any]) -> list[Node]:
        return [member(31, "r1", peers), member(32, "r2", peers), member(33, "Rack 3", peers)]

    r1 = {"tor": {"address": "10.10.0.253", "as_number": 65001, "rack": "r1"}}
    made = switches.missing(racks(r1), {})
    assert made == {
        "lab-r2": {"address": "10.10.0.251", "as_number": 65003, "rack": "r2"},
        "lab-rack-3": {"address": "10.10.0.252", "as_number": 65002, "rack": "Rack 3"},
    }
    kept = {"lab-r2": made["lab-r2"]}
    assert switches.missing(racks({**r1, **kept}), kept)["lab-r2"] == made["lab-r2"], "it stays as it is"
    assert "lab-r2" not in switches.missing(racks({**r1, **kept, "own": {**made["lab-r2"]}}), kept)
    assert switches.missing(racks({"edge": {"address": "10.10.0.1", "as_number": 65000}}), {}) == {}
    assert switches.missing([member(31, "r1", {})], {}) == {}, (
        "there is nothing between one machine and itself"
    )
    assert switches.missing(NODES, {}) == {}, "nobody there speaks BGP"


def test_the_lab_of_a_fresh_model_has_a_switch_that_its_machines_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = Repository(tmp_path / "source")
    create(
        Answers.of({"cluster_name": "demo", "services": "identity"}),
        source.root,
        tmp_path / "identity",
        lambda line: None,
    )
    derived = derivation.derive(Repository(source.root), PLACE, lambda line: None)
    assert not validate(derived).errors, "a switch that the model may have"
    (switch,) = switches.switches(Inventory(derived).nodes())
    assert (switch.name, switch.address, switch.number) == ("lab-r1", "10.10.0.254", 65001)
    assert [name.partition(".")[0] for name in switch.machines] == [
        "cmp01",
        "cmp02",
        "ctl01",
        "ctl02",
        "ctl03",
    ]
    reveal = Keyring(PLACE.identity / "operator.age").reveal
    (password,) = set(re.findall(r'password "(.+?)"', switches.bird(switch, reveal)))
    assert len(password) >= 16 and not is_secret(password)
    assert not switches.switches(Inventory(source).nodes()), "nothing was put into the operator's model"
