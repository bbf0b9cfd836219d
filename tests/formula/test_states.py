"""Our own states on real files: test mode names what the run changes, and a second run changes nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cli.workflows.states import salt_call
from kubernetes_formula.salt_loader import FORMULA
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository


def load(path: str, test: bool, execution: dict[str, Callable[..., Any]]) -> Any:
    """A state or module as Salt's loader gives it: with __opts__ and __salt__ in its namespace."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, FORMULA / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__.update(__opts__={"test": test}, __salt__=execution)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[bool], ModuleType]:
    def make(test: bool) -> ModuleType:
        bundle = load("_modules/bundle.py", test, {})
        state = load(
            "_states/artifact.py",
            test,
            {
                "bundle.fetch": bundle.fetch,
                "bundle.without_checksum": bundle.without_checksum,
            },
        )
        state.RECORDS = str(tmp_path / "records")
        return state

    return make


@pytest.fixture
def archive(tmp_path: Path) -> tuple[str, str]:
    """(URL, checksum) of an archive with one program."""
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    path = tmp_path / "tool.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "tool", "bin/tool")
    return f"file://{path}", hashlib.sha256(path.read_bytes()).hexdigest()


def test_artifact_truth(artifact: Callable[[bool], Any], archive: tuple[str, str], tmp_path: Path) -> None:
    source, digest = archive
    program = tmp_path / "usr" / "tool"
    wanted = ("tool", source, digest, {"bin/tool": str(program)})
    planned = artifact(True).installed(*wanted)
    assert planned["result"] is None and planned["changes"] and not program.exists()
    done = artifact(False).installed(*wanted)
    assert done["result"] is True and done["changes"] == planned["changes"]
    assert program.stat().st_mode & 0o777 == 0o755
    for test in (True, False):
        again = artifact(test).installed(*wanted)
        assert again["result"] is True and again["changes"] == {}
    program.write_text("tampered")
    assert artifact(True).installed(*wanted)["result"] is None
    assert artifact(False).installed(*wanted)["changes"]
    assert program.read_text() == "#!/bin/sh\n"


def test_artifact_refuses_another_checksum(
    artifact: Callable[[bool], Any], archive: tuple[str, str], tmp_path: Path
) -> None:
    done = artifact(False).installed("tool", archive[0], "0" * 64, {"bin/tool": str(tmp_path / "x")})
    assert done["result"] is False and not done["changes"] and "ostack-k8s bundle verify" in done["comment"]
    assert not (tmp_path / "x").exists()


def test_artifact_without_checksum(
    artifact: Callable[[bool], Any], archive: tuple[str, str], tmp_path: Path
) -> None:
    wanted = ("tool", archive[0], None, {"": str(tmp_path / "x")})
    planned, done = (artifact(test).installed(*wanted) for test in (True, False))
    assert planned["result"] is None and planned["warnings"]
    assert done["result"] is False and "bundle verify --record" in done["comment"]


def test_artifact_that_the_bundle_does_not_have() -> None:
    from salt.exceptions import MinionError

    def gone(source: str, source_hash: str) -> str:
        raise MinionError("Error: HTTP 404")

    bundle = load("_modules/bundle.py", False, {"cp.cache_file": gone})
    with pytest.raises(ValueError, match=r"cannot be fetched .*HTTP 404"):
        bundle.fetch("http://bundle/nowhere", "0" * 64)


def test_artifact_without_the_member(
    artifact: Callable[[bool], Any], archive: tuple[str, str], tmp_path: Path
) -> None:
    done = artifact(False).installed("tool", *archive, {"bin/other": str(tmp_path / "x")})
    assert done["result"] is False and "the archive has no bin/other" in done["comment"]


def run_all(command: list[str], **_: Any) -> dict[str, Any]:
    """Salt's cmd.run_all, without a machine around it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"retcode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def test_wait_says_what_was_said_last() -> None:
    wait = load("_states/wait.py", False, {"cmd.run_all": run_all})
    assert wait.succeeds("it answers", [sys.executable, "-c", ""]) == {
        "name": "it answers",
        "result": True,
        "changes": {},
        "comment": "it answers: yes",
    }
    failed = wait.succeeds("it answers", [sys.executable, "-c", "print('not yet'); exit(1)"], timeout=0)
    assert failed["result"] is False and not failed["changes"] and "not yet" in failed["comment"]
    assert load("_states/wait.py", True, {}).succeeds("x", ["false"])["result"] is True


NODE = {
    "metadata": {"labels": {"ostack-k8s.io/role-old": "true", "other": "kept"}},
    "spec": {"taints": [{"key": "other", "effect": "NoExecute"}]},
}


def test_node_labels_and_taints() -> None:
    state = load("_states/kubernetes_node.py", False, {})
    patch, changes = state._difference(
        NODE,
        {"ostack-k8s.io/role-new": "true"},
        {"ostack-k8s.io/drained": {"effect": "NoSchedule"}},
        {"x/y": "z"},
    )
    assert patch["metadata"]["annotations"] == {"x/y": "z"}
    assert patch["metadata"]["labels"] == {"ostack-k8s.io/role-new": "true", "ostack-k8s.io/role-old": None}
    assert patch["spec"]["taints"] == [
        {"key": "other", "effect": "NoExecute"},
        {"key": "ostack-k8s.io/drained", "effect": "NoSchedule"},
    ]
    assert set(changes) == {"labels", "annotations", "taints"}
    assert state._difference(NODE, {"ostack-k8s.io/role-old": "true"}, {}, {"x/y": None}) == ({}, {})


def test_many_nodes_are_asked_for_at_once_and_one_that_differs_once_more() -> None:
    named = {"metadata": {**NODE["metadata"], "name": "one"}, "spec": NODE["spec"]}
    said: list[tuple[str, ...]] = []

    def run(_: str, *arguments: str) -> dict[str, Any]:
        said.append(arguments[:3])
        answer: dict[str, Any] = named if arguments[1] == "node" else {"items": [named]}
        return {"retcode": 0, "stdout": json.dumps(answer), "stderr": ""}

    state = load("_states/kubernetes_node.py", False, {"kubectl.run": run})
    state.__context__ = {}
    old = {"ostack-k8s.io/role-old": "true"}
    assert state.reconciled("one", old)["changes"] == {}
    assert state.reconciled("two", old)["comment"].startswith("two has not joined")
    assert state.reconciled("one", {})["changes"]["labels"]["new"] == {"ostack-k8s.io/role-old": None}
    assert said == [("get", "nodes", "-o"), ("get", "node", "one"), ("patch", "node", "one")]


def kubectl(answers: dict[str, tuple[int, str, str]]) -> Callable[..., dict[str, Any]]:
    """kubectl that answers by its first words; what it was asked is in `asked`."""

    def run(_kubeconfig: str, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        words = " ".join(arguments)
        asked.append(words)
        key = next(key for key in answers if words.startswith(key))
        return dict(zip(("retcode", "stdout", "stderr"), answers[key], strict=True))

    asked: list[str] = []
    run.asked = asked  # type: ignore[attr-defined]
    return run


def objects(test: bool, answers: dict[str, tuple[int, str, str]]) -> tuple[Any, list[str]]:
    run = kubectl({"get --raw": (0, "ok", ""), **answers})
    state = load("_states/kubernetes_object.py", test, {"kubectl.run": run})
    return state, run.asked  # type: ignore[attr-defined]


def test_objects_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "kinds.yaml"
    absent, asked = objects(True, {})
    assert absent.present("kinds", file=str(file))["result"] is None, "an earlier state brings it"
    file.write_text("kind: List")
    present, asked = objects(False, {"diff": (1, "+ kind", ""), "apply": (0, "created", "")})
    assert present.present("kinds", file=str(file))["changes"] == {"diff": "+ kind"}
    assert asked[-1].endswith(f"-f {file}")


@pytest.mark.parametrize(
    "said", ['no matches for kind "IPPool" in version', 'namespaces "calico-system" not found']
)
def test_objects_that_need_what_an_earlier_state_brings(said: str) -> None:
    manifest = [{"kind": "IPPool", "metadata": {"name": "pods"}}]
    for test, result in ((True, None), (False, False)):
        state, _ = objects(test, {"diff": (2, "", said)})
        assert state.present("settings", manifest)["result"] is result


def test_only_the_objects_of_the_model_stay() -> None:
    answers = {"get peers": (0, "old kept", ""), "delete": (0, "deleted", "")}
    state, asked = objects(True, answers)
    assert state.only("x", "peers", ["kept"], "ours=true")["result"] is None and "delete" not in " ".join(
        asked
    )
    state, asked = objects(False, answers)
    assert state.only("x", "peers", ["kept"], "ours=true")["changes"] == {
        "peers": {"old": ["old"], "new": None}
    }
    assert asked[-1] == "delete peers old"
    assert not objects(False, answers)[0].only("x", "peers", ["kept", "old"], "ours=true")["changes"]
    unknown = {"get peers": (1, "", "error: the server doesn't have a resource type")}
    assert objects(True, unknown)[0].only("x", "peers", [], "ours=true")["result"] is True
    assert objects(False, unknown)[0].only("x", "peers", [], "ours=true")["result"] is False


def test_every_certificate_is_found_where_the_states_put_it(
    models: Callable[[str], Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module's answer on a bare machine: the names of the model, and nothing there."""
    model = models("article")
    node = next(name for name in model.node_names() if name.startswith("kmst"))
    low = salt_call(model, node, "state.show_lowstate")
    module = load("_modules/certificates.py", False, {"state.show_lowstate": lambda: low})
    monkeypatch.setattr(module, "_text", lambda path: f"what is in {path}")
    found = module.installed()
    assert found["etcd-server"] == "what is in /etc/etcd/pki/etcd-server.crt"
    declared = Inventory(model).node(node).parameters["pki"]["certificate"]
    assert set(declared) - set(found) == {
        "calico-cni",
        "calico-node",
    }  # declared for all, for machines with pods
    busy = load("_modules/certificates.py", False, {"state.show_lowstate": lambda: ["busy"]})
    assert busy.installed() == "busy"


def cluster(versions: dict[str, str], api: str, drained: str = "") -> Callable[..., dict[str, Any]]:
    """kubectl as it answers where nodes (name → version of the kubelet) and an API server run."""
    nodes = [
        {
            "metadata": {
                "name": name,
                "annotations": {"ostack-k8s.io/drained": "true"} if name == drained else {},
            },
            "status": {"nodeInfo": {"kubeletVersion": f"v{version}"}},
        }
        for name, version in versions.items()
    ]

    def run(_: str, *arguments: str) -> dict[str, Any]:
        answer = {"items": nodes} if "nodes" in arguments else {"gitVersion": f"v{api}"}
        return {"retcode": 0 if api else 1, "stdout": json.dumps(answer), "stderr": ""}

    return run


def test_another_kubernetes_is_refused_by_the_plain_run_but_not_before_there_is_one() -> None:
    def node(*about: Any) -> Any:
        return load("_modules/kubernetes_node.py", False, {"kubectl.run": cluster(*about)})

    machines = ["cmp01", "cmp02"]
    running = {"cmp01": "1.36.3", "cmp02": "1.36.3", "gone": "1.35.4"}
    assert node({}, "").same_version("1.37.2", machines) == "no API answers yet"
    assert node(running, "1.36.3").same_version("1.36.3", machines) == "1.36.3 runs"
    for half in (
        (running, "1.36.3"),
        (running, "1.37.2"),
        ({"cmp01": "1.37.2", "cmp02": "1.36.3"}, "1.37.2"),
    ):
        with pytest.raises(Exception, match=r"1\.36\.3 runs, the model says 1\.37\.2: .*ostack\.upgrade"):
            node(*half).same_version("1.37.2", machines)


def test_an_upgrade_takes_what_is_older_or_was_left_drained() -> None:
    done = {"cmp01": "1.37.2", "cmp02": "1.37.2", "ctl01": "1.36.3"}
    node = load("_modules/kubernetes_node.py", False, {"kubectl.run": cluster(done, "1.37.2", "cmp02")})
    assert node.upgrade("1.37.2")["nodes"] == ["cmp02", "ctl01"]
    assert "would skip" in node.upgrade("1.39.0")["refused"]
    assert "does not go back" in node.upgrade("1.36.3")["refused"]


def test_a_group_is_cordoned_before_it_is_drained_and_is_never_all_nodes() -> None:
    said: list[tuple[str, ...]] = []
    answer = cluster(dict.fromkeys(("cmp01", "cmp02", "ctl01"), "1.36.3"), "1.36.3")

    def run(config: str, *arguments: str) -> dict[str, Any]:
        said.append(arguments[:3])
        return answer(config, *arguments)

    node = load("_modules/kubernetes_node.py", False, {"kubectl.run": run})
    node.drain(["cmp01", "cmp02"])
    words = [words[0] for words in said]
    assert words[1:] == ["annotate", "cordon", "annotate", "cordon", "drain", "drain"]
    with pytest.raises(Exception, match="nowhere to go"):
        node.drain(["cmp01", "cmp02", "ctl01"])


def test_bgp_sessions_are_read_from_what_bird_says() -> None:
    said = """BIRD 1.6.8 ready.
name     proto    table    state  since       info
device1  Device   master   up     10:00:00
kernel1  Kernel   master   up     10:00:00
Mesh_10_92_0_31 BGP      master   up     10:00:05    Established
Node_10_92_0_2 BGP      master   start  10:00:02    Connect       Socket: Connection timed out
"""
    answers = {"cmd.run_all": lambda *_, **__: {"retcode": 0, "stdout": said, "stderr": ""}}
    calico = load("_modules/calico.py", False, answers)
    assert calico.sessions() == []  # no BGP on this machine
    calico.CONFIGURATION = "/"
    assert calico.sessions() == [
        {"peer": "10.92.0.31", "state": "Established", "why": ""},
        {"peer": "10.92.0.2", "state": "Connect", "why": "Socket: Connection timed out"},
    ]


def test_a_machine_that_came_before_its_key_is_taken_from_those_that_wait(tmp_path: Path) -> None:
    keys, waiting = tmp_path / "minions", tmp_path / "minions_pre"
    waiting.mkdir()
    for name in ("cmp03", "stranger"):
        (waiting / name).write_text("KEY")

    def exactly(test: bool) -> dict[str, Any]:
        state = load("_states/accepted_keys.py", test, {})
        state.__pillar__ = {"keys": {"cmp03": "KEY\n"}}
        done: dict[str, Any] = state.exactly(str(keys), "keys")
        return done

    planned = exactly(True)
    assert planned["result"] is None and planned["changes"] == {"accepted": ["cmp03"]} and not keys.exists()
    assert exactly(False)["changes"] == planned["changes"]
    assert [path.name for path in waiting.iterdir()] == ["stranger"]
    assert exactly(True)["changes"] == {}
    (waiting / "cmp03").write_text("KEY")
    assert exactly(True)["changes"] == planned["changes"]
