"""How bricks follow the machines of the pool: the commands that a volume needs, from what gluster says it is now."""

from __future__ import annotations

from typing import Any

import pytest

from .test_states import load

A, B, C, D = (f"10.10.0.{number}" for number in range(21, 25))
PATH = "/srv/brick/v"


def commands(
    volume: dict[str, Any] | None, addresses: list[str], options: dict[str, str] | None = None
) -> list[str]:
    state = load("_states/glusterfs_volume.py", False, {})
    return [
        " ".join(words)
        for words in state._difference("v", volume, addresses, PATH, 3, options or {}, True)[0]
    ]


def volume(*holders: str, started: bool = True, **options: str) -> dict[str, Any]:
    return {"started": started, "bricks": [f"{holder}:{PATH}" for holder in holders], "options": options}


@pytest.mark.parametrize(
    ("now", "machines", "wanted"),
    [
        (None, [A], [f"create v {A}:{PATH} force", "start v"]),
        (None, [A, B, C, D], [f"create v replica 3 {A}:{PATH} {B}:{PATH} {C}:{PATH} force", "start v"]),
        (volume(A, B, C), [A, B, C, D], []),
        (volume(A, B, C, started=False), [A, B, C], ["start v"]),
        (
            volume(A),
            [A, B, C],
            [f"add-brick v replica 2 {B}:{PATH} force", f"add-brick v replica 3 {C}:{PATH} force"],
        ),
        (volume(B, C, D), [A, B, C, D], []),  # a new first machine takes no brick away
        (volume(A, B, C), [A, B, D], [f"replace-brick v {C}:{PATH} {D}:{PATH} commit force"]),
        (volume(A, B, C), [A, C], [f"remove-brick v replica 2 {B}:{PATH} force"]),
    ],
)
def test_bricks(now: dict[str, Any] | None, machines: list[str], wanted: list[str]) -> None:
    assert commands(now, machines) == wanted


def test_only_options_that_differ_are_set() -> None:
    now = volume(A, B, C, **{"auth.allow": "a", "network.ping-timeout": "42", "other": "kept"})
    wanted = {"auth.allow": "a", "network.ping-timeout": "10", "client.ssl": "on"}
    assert commands(now, [A, B, C], wanted) == ["set v client.ssl on network.ping-timeout 10"]


def test_a_pool_that_nobody_answers_for_yet() -> None:
    state = load("_states/glusterfs_pool.py", True, {"glusterfs.peers": lambda: None})
    assert state.present("pool", [B, C])["changes"] == {"would join": [B, C]}
    assert state.nobody_else("pool", [A])["result"] is True


def test_a_machine_that_is_down_fails_nothing() -> None:
    state = load("_states/glusterfs_pool.py", False, {"glusterfs.peers": lambda: {B: True, C: False}})
    done = state.present("pool", [B, C])
    assert done["result"] is True and not done["changes"] and C in done["comment"]


@pytest.mark.parametrize(("kind", "package"), [("xfs", "xfsprogs"), ("ext4", "e2fsprogs")])
def test_a_disk_is_formatted_with_what_was_installed_for_it(
    kind: str, package: str, models: Any, caller: Any
) -> None:
    model = models("article")
    node = next(name for name in model.node_names() if name.startswith("ctl01."))
    disk = {"glusterfs": {"server": {"filesystem": {"device": "/dev/sdb", "type": kind}}}}
    chunks = caller(model, node).cmd("state.show_low_sls", "glusterfs.server.install", pillar=disk)
    named = {chunk["name"]: chunk for chunk in chunks}
    assert named[package]["state"] == "pkg"
    assert {"pkg": package} in named[f"mkfs.{kind} /dev/sdb"]["require"]
    assert named["/srv/ostack-k8s/brick"]["fstype"] == kind
