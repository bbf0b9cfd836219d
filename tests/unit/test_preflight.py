"""The preflight without machines: what is asked of whom, and what each wrong answer is called."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cli.workflows.live import judge_sessions
from reclass_model import generate
from reclass_model.inventory import Inventory, Node
from reclass_model.repository import Repository
from reclass_model.validation import preflight


def node(name: str, address: str, role: str, **demands: Any) -> Node:
    wanted = {"system": {"Debian-12": {}}, "memory": {"machine": 512}, "clock": 1, "mtu": 1500, **demands}
    return Node(
        name,
        (f"system.role.{role}",),
        (),
        {"_param": {"address": address}, "preflight": wanted, "linux": LINUX},
    )


LINUX = {"kernel": {"module": {"overlay": {}}}, "network": {"host": {"cfg01": {"address": "10.0.0.1"}}}}
CONFIG = node("cfg01", "10.0.0.1", "config", port={"clock": {"port": 4510}, "salt": {"port": 4506}})
MASTER = node(
    "kmst01",
    "10.0.0.2",
    "kube_master",
    port={"api": {"port": 6443}},
    memory={"machine": 512, "etcd": 512},
    disk={"/var": 5},
    filesystem={"brick": {"disk": {"device": "/dev/sdb", "type": "xfs"}, "gib": 100, "mount": "/srv/brick"}},
)
COMPUTE = node(
    "cmp01", "10.0.0.3", "kube_compute", port={"kubelet": {"port": 10250, "from": {"kube_master": {}}}}
)
NAMES = {"10.0.0.1": "cfg01", "10.0.0.2": "kmst01", "10.0.0.3": "cmp01"}
GOOD: dict[str, Any] = {
    "system": "Debian-12",
    "memory": 2048,
    "modules": {"overlay": True},
    "disk": {"/var": 50.0},
    "names": {"cfg01": ["10.0.0.1"]},
    "foreign": [],
    "devices": {"/dev/sdb": {"gib": 200.0, "content": "", "mounted": ""}},
    "unreachable": [],
    "too_small": [],
    "not_pinged": [],
    "clock": 0.02,
}
ASKED = preflight.questions([CONFIG, MASTER, COMPUTE])["kmst01"]


def test_machines_try_the_ports_that_their_roles_use() -> None:
    asked = preflight.questions([CONFIG, MASTER, COMPUTE])
    assert asked["kmst01"]["connect"] == [["10.0.0.1", 4510], ["10.0.0.1", 4506], ["10.0.0.3", 10250]]
    assert asked["cmp01"]["connect"] == [["10.0.0.1", 4510], ["10.0.0.1", 4506], ["10.0.0.2", 6443]]
    assert asked["cfg01"]["connect"] == [["10.0.0.2", 6443]], "a kubelet is for masters"
    assert asked["cfg01"]["listen"] == [4506, 4510]
    assert asked["cmp01"]["clock"] == [["10.0.0.1", 4510]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    top = tmp_path_factory.mktemp("preflight")
    answers = generate.Answers.of({"cluster_name": "demo", "services": "identity"})
    generate.create(answers, top / "demo", top / "identity", lambda line: None)
    return Repository(top / "demo")


def test_machines_of_the_default_model_try_bgp_and_the_ports_of_the_shared_volumes(model: Repository) -> None:
    asked = preflight.questions(Inventory(model).nodes())
    bricks = [49153, 60999]
    assert {179, 24007, *bricks} <= set(asked["ctl01.demo.local"]["listen"])
    assert not {179, 24007, *bricks} & set(asked["kmst01.demo.local"]["listen"])
    assert asked["cmp01.demo.local"]["sessions"] == [179]

    def tried(name: str) -> list[int]:
        return [port for address, port in asked[name]["connect"] if address == "10.10.0.22"]

    assert {179, 24007, *bricks} <= set(tried("ctl01.demo.local"))
    assert tried("cmp01.demo.local") == [179], "no volume is mounted there"
    assert 179 not in tried("kmst01.demo.local")


def test_bricks_are_on_a_disk_of_their_own_or_need_room_in_the_systems(model: Repository) -> None:
    def ask() -> tuple[Node, dict[str, Any]]:
        nodes = {node.name: node for node in Inventory(model).nodes()}
        return nodes["ctl01.demo.local"], preflight.questions(nodes.values())["ctl01.demo.local"]

    node, asked = ask()
    assert asked["devices"] == [] and "/srv/ostack-k8s/brick" in asked["paths"]
    room = dict.fromkeys(asked["paths"], 100.0)
    facts = {**GOOD, "memory": 4096, "disk": {**room, "/srv/ostack-k8s/brick": 1.0}}
    (full,) = preflight.judge(node, asked, facts, NAMES)
    assert full.code == "E243" and "1.0 GiB are free for /srv/ostack-k8s/brick" in full.message
    assert "E242" in {
        problem.code for problem in preflight.judge(node, asked, {**facts, "memory": 1500}, NAMES)
    }

    file = model.node_file("ctl01.demo.local")
    before = file.read_text()
    document = yaml.safe_load(before)
    document["parameters"]["glusterfs"] = {
        "server": {"filesystem": {"device": "/dev/sdb", "type": "xfs"}, "brick": "/srv/b"}
    }
    file.write_text(yaml.safe_dump(document))
    try:
        node, asked = ask()
    finally:
        file.write_text(before)
    assert asked["devices"] == ["/dev/sdb"] and "/srv/b" not in asked["paths"]
    ours = {"gib": 50.0, "content": "xfs", "mounted": "/srv/b"}
    facts = {**GOOD, "memory": 4096, "disk": room, "devices": {"/dev/sdb": ours}}
    assert list(preflight.judge(node, asked, facts, NAMES)) == []
    (foreign,) = preflight.judge(
        node, asked, {**facts, "devices": {"/dev/sdb": {**ours, "mounted": ""}}}, NAMES
    )
    assert foreign.code == "E249" and "wipefs" in (foreign.hint or "")


def test_a_bgp_session_that_is_down_is_told_with_its_reason_but_not_one_with_a_machine_that_is_away() -> None:
    sessions = [
        {"peer": "10.0.0.2", "state": "Established", "why": ""},
        {"peer": "10.0.0.3", "state": "Active", "why": "Socket: No route to host"},
        {"peer": "10.0.0.254", "state": "Connect", "why": "Socket: Connection timed out"},
    ]
    (told,) = judge_sessions("cfg01", sessions, NAMES, {"10.0.0.3"})
    assert told.code == "E250" and "calico:bgp:peer" in (told.hint or "")
    assert told.message == "no BGP session with 10.0.0.254 (Connect, Socket: Connection timed out)"
    (broken,) = judge_sessions("cfg01", "ERROR: BIRD does not answer", NAMES, set())
    assert broken.code == "E250"


def test_a_fit_machine_has_no_problem() -> None:
    assert list(preflight.judge(MASTER, ASKED, GOOD, NAMES)) == []


@pytest.mark.parametrize(
    ("fact", "code", "says"),
    [
        ({"system": "Fedora-44"}, "E240", "runs Fedora-44"),
        ({"modules": {"overlay": False}}, "E241", "no module overlay"),
        ({"memory": 1000}, "E242", "1000 MiB of memory, its roles need 1024"),
        ({"disk": {"/var": 0.5}}, "E243", "0.5 GiB are free for /var, 5 are needed"),
        ({"clock": 3.5}, "E244", "its clock is -3.5 s off"),
        ({"unreachable": [["10.0.0.3", 10250, "timed out"]]}, "E245", "cannot reach cmp01 at 10.0.0.3:10250"),
        ({"too_small": ["10.0.0.3"]}, "E246", "1500 bytes do not reach cmp01"),
        ({"names": {"cfg01": ["192.0.2.1"]}}, "E247", "takes cfg01 for 192.0.2.1, the model says 10.0.0.1"),
        ({"names": {"cfg01": []}}, "W240", "does not know the machine cfg01 by name"),
        ({"names": {"a": [], "b": [], "c": []}}, "W240", "does not know the machine a and 2 more by name"),
        ({"not_pinged": ["10.0.0.3"]}, "W240", "has no ping, so whether packets of 1500 bytes"),
        ({"clock": None}, "W240", "did not tell it the time"),
        ({"foreign": [["docker", "process 4711"]]}, "E248", "docker is there and is not ours (process 4711)"),
        (
            {"foreign": [["etcd", "/lib/etcd.service"]]},
            "E248",
            "etcd is there and is not ours (/lib/etcd.service)",
        ),
        ({"devices": {"/dev/sdb": None}}, "E249", "no disk /dev/sdb"),
        ({"devices": {"/dev/sdb": {"gib": 50.0, "content": "", "mounted": ""}}}, "E249", "50.0 GiB, 100 are"),
        ({"devices": {"/dev/sdb": {"gib": 200.0, "content": "xfs", "mounted": ""}}}, "E249", "xfs on it"),
    ],
)
def test_each_unfit_answer_has_a_code_a_place_and_a_remedy(
    fact: dict[str, Any], code: str, says: str
) -> None:
    (problem,) = preflight.judge(MASTER, ASKED, {**GOOD, **fact}, NAMES)
    assert (problem.code, problem.node) == (code, "kmst01")
    assert says in problem.message
    assert problem.hint


def test_a_brick_that_is_ours_already_is_no_problem() -> None:
    ours = {"devices": {"/dev/sdb": {"gib": 200.0, "content": "xfs", "mounted": "/srv/brick"}}}
    assert list(preflight.judge(MASTER, ASKED, {**GOOD, **ours}, NAMES)) == []


def test_many_unreachable_ports_are_told_in_few_lines() -> None:
    facts = {**GOOD, "unreachable": [["10.0.0.3", port, "refused"] for port in range(100)]}
    found = list(preflight.judge(MASTER, ASKED, facts, NAMES))
    assert len(found) == preflight.CONNECTIONS_SHOWN + 1
    assert "95 more" in found[-1].message


def test_a_config_machine_that_cannot_be_reached_is_told_once_and_asks_nobody_for_the_time() -> None:
    facts = {**GOOD, "clock": None, "unreachable": [["10.0.0.1", 4510, "timed out"]]}
    assert [problem.code for problem in preflight.judge(MASTER, ASKED, facts, NAMES)] == ["E245"]
    asked = preflight.questions([CONFIG, MASTER, COMPUTE])["cfg01"]
    facts = {**GOOD, "clock": None, "names": {}, "devices": {}}
    assert list(preflight.judge(CONFIG, asked, facts, NAMES)) == []


@pytest.mark.parametrize(
    ("clocks", "told"),
    [
        ({"cfg01": None, "kmst01": 0.9, "cmp01": -0.9}, ("cmp01", "1.8 s ahead of the one of kmst01")),
        ({"cfg01": None, "kmst01": 0.4, "cmp01": -0.5}, None),
        ({"cfg01": None, "kmst01": 0.9, "cmp01": None}, None),  # the one that was not asked is not at 0
        ({"cfg01": None, "kmst01": 5.0, "cmp01": -0.9}, None),  # the one far off is told by itself
        ({}, None),
    ],
)
def test_two_clocks_may_not_be_far_apart_though_each_is_near_the_config_machines(
    clocks: dict[str, float | None], told: tuple[str, str] | None
) -> None:
    nodes = [node for node in (CONFIG, MASTER, COMPUTE) if node.name in clocks]
    facts = {name: {**GOOD, "clock": clock} for name, clock in clocks.items()}
    found = [(problem.node, problem.message) for problem in preflight.judge_clocks(nodes, facts)]
    if told is None:
        assert found == []
    else:
        ((name, message),) = found
        assert name == told[0] and told[1] in message
