"""What a machine answers before anything is touched, on real sockets, files and processes of this one."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubernetes_formula.salt_loader import FORMULA
from reclass_model.inventory import Inventory

from .test_states import load

QUESTIONS: dict[str, Any] = {
    "listen": [],
    "connect": [],
    "sessions": [],
    "clock": [],
    "mtu": 1500,
    "modules": [],
    "paths": [],
    "names": [],
    "foreign": {},
    "devices": [],
    "seconds": 0.3,
}


@pytest.fixture
def module() -> Any:
    loaded = load("_modules/preflight.py", False, {})
    loaded.__grains__ = {"id": "here", "osfinger": "Debian-12", "mem_total": 2048}
    return loaded


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("holds", [True, False])
def test_a_machine_with_bgp_sessions_tries_nobodys_bgp(module: Any, holds: bool) -> None:
    """BIRD takes a connection from a peer for the peer's restart, and gives the session up."""
    port = free_port()
    asked = {**QUESTIONS, "listen": [port], "sessions": [port], "connect": [["127.0.0.2", port]]}
    with socket.socket() as own, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if holds:
            own.bind(("127.0.0.1", port))
            own.listen()
            peer.bind(("127.0.0.2", port))
            peer.listen()
            peer.settimeout(0.5)
        answer = module.facts({"here": asked})
        assert answer["unreachable"] == []
        if holds:
            with pytest.raises(TimeoutError):
                peer.accept()
            again = module.facts({"here": {**asked, "sessions": []}})
            assert again["unreachable"] == [] and peer.accept(), "other ports are tried all the same"


def test_a_port_that_nobody_answers_is_told(module: Any) -> None:
    ((address, _, why),) = module.facts({"here": {**QUESTIONS, "connect": [["127.0.0.1", free_port()]]}})[
        "unreachable"
    ]
    assert address == "127.0.0.1" and "refused" in why


def test_a_port_whose_turn_comes_too_late_is_tried_all_the_same(module: Any) -> None:
    assert "refused" in module._reach("127.0.0.1", free_port(), time.monotonic() - 1)


def test_a_peer_that_resets_its_connection_does_not_silence_the_listener(module: Any) -> None:
    port = free_port()
    servers = module._bind([port])
    for _ in range(5):  # gone before anybody took the connection
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end = time.monotonic() + 30  # no test waits for it
    threading.Thread(target=module._serve, args=(servers.values(), end), daemon=True).start()
    assert module._offset("127.0.0.1", port, time.monotonic() + 10) is not None


def test_the_quickest_answer_tells_the_time(module: Any) -> None:
    delays = iter([1.0, 0.0, 1.0])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def tell() -> None:
            for delay in delays:  # a busy machine answers late; then its time is wrong by half of that
                connection, _ = server.accept()
                with connection:
                    told = time.time()
                    time.sleep(delay)
                    connection.sendall(f"{told}".encode())

        threading.Thread(target=tell, daemon=True).start()
        seconds = module._offset(*server.getsockname(), time.monotonic() + 30)
    assert abs(seconds) < 0.4


def test_without_ping_a_machine_says_that_it_did_not_look(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = {**QUESTIONS, "connect": [["127.0.0.1", free_port()]]}
    answer = module.facts({"here": asked})
    assert answer["not_pinged"] == ["127.0.0.1"] and answer["too_small"] == []


OURS = "# Managed by ostack-k8s (Salt); changes here are overwritten.\n"
KUBELET = {"kubelet": {"process": "kubelet", "unit": "kubelet"}}


@pytest.fixture
def system(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Units and processes of a machine: unit(directory, name, text), process(pid, name, cgroup)."""
    module.UNITS = [str(tmp_path / name) for name in ("etc", "lib")]
    running: dict[int, tuple[str, str]] = {}
    monkeypatch.setattr(module, "_processes", lambda: running)

    def unit(directory: str, name: str, text: str) -> str:
        file = tmp_path / directory / f"{name}.service"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return str(file)

    module.unit, module.process = unit, lambda pid, *told: running.update({pid: told})
    return module


def test_a_program_that_only_lies_there_is_told_too_but_not_ours_and_not_a_masked_one(
    system: Any, tmp_path: Path
) -> None:
    assert system._foreign(KUBELET) == []
    file = system.unit("lib", "kubelet", "[Service]\n")
    assert system._foreign(KUBELET) == [["kubelet", file]]
    system.unit("etc", "kubelet", OURS)  # systemd reads this one
    assert system._foreign(KUBELET) == []
    (tmp_path / "etc" / "kubelet.service").unlink()
    (tmp_path / "etc" / "kubelet.service").symlink_to("/dev/null")
    assert system._foreign(KUBELET) == []


def test_a_second_one_beside_ours_is_told(system: Any) -> None:
    system.unit("etc", "kubelet", OURS)
    system.process(10, "kubelet", "1:name=systemd:/docker/0a/system.slice/kubelet.service\n0::/\n")
    assert system._foreign(KUBELET) == []
    system.process(11, "kubelet", "0::/user.slice/session-1.scope\n")
    assert system._foreign(KUBELET) == [["kubelet", "process 11"]]


def test_before_anything_of_ours_is_there_a_running_one_is_told_once(system: Any) -> None:
    system.unit("lib", "kubelet", "[Service]\n")
    system.process(12, "kubelet", "0::/system.slice/kubelet.service\n")
    assert system._foreign(KUBELET) == [["kubelet", "process 12"]]


def test_what_kubeadm_left_is_told(module: Any, tmp_path: Path) -> None:
    left = {"kubeadm": {"path": str(tmp_path / "manifests")}}
    assert module._foreign(left) == []
    (tmp_path / "manifests").mkdir()
    assert module._foreign(left) == []
    (tmp_path / "manifests" / "etcd.yaml").touch()
    assert module._foreign(left) == [["kubeadm", str(tmp_path / "manifests")]]


def test_processes_of_this_machine_are_seen(module: Any) -> None:
    name, _ = module._processes()[os.getpid()]
    assert module._foreign({"this": {"process": name}}).count(["this", f"process {os.getpid()}"]) == 1


def test_the_units_of_the_formula_are_known_as_ours(models: Any, caller: Any, system: Any) -> None:
    """Every program that the model says may only be ours, and whose unit the formula writes, has its mark."""
    model = models("aio")
    node = Inventory(model).config_node()
    programs = node.parameters["preflight"]["foreign"]
    shown = caller(model, node.name).cmd("state.show_lowstate")
    units = {
        f"/etc/systemd/system/{program.get('unit')}.service": program["unit"]
        for program in programs.values()
        if "unit" in program
    }
    written = [
        units[chunk["name"]] for chunk in shown if chunk["name"] in units and chunk["fun"] == "managed"
    ]
    assert {"containerd", "etcd", "kubelet", "kube-apiserver"} <= set(written)
    sources = {chunk["source"] for chunk in shown if chunk["name"] in units and chunk["fun"] == "managed"}
    for source in sources:
        assert system.OURS in (FORMULA / source.removeprefix("salt://")).read_text()
