"""What a machine answers before anything is touched, on real sockets, files and processes of this one."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

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
    "foreign": [],
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


def test_a_peer_that_resets_its_connection_does_not_silence_the_listener(module: Any) -> None:
    port = free_port()
    servers = module._bind([port])
    for _ in range(5):  # gone before anybody took the connection
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    listener = threading.Thread(
        target=module._serve, args=(servers.values(), time.monotonic() + 1), daemon=True
    )
    listener.start()
    assert module._reach("127.0.0.1", port, time.monotonic() + 1) == ""
    assert abs(module._offset("127.0.0.1", port, time.monotonic() + 1)) < 1
    listener.join()


def test_the_quickest_answer_tells_the_time(module: Any) -> None:
    delays = iter([0.4, 0.0, 0.4])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def tell() -> None:
            for delay in delays:  # a busy machine answers late; then its time is wrong by half of that
                connection, _ = server.accept()
                with connection:
                    told = time.time()
                    time.sleep(delay)
                    connection.sendall(f"{told}".encode())

        threading.Thread(target=tell, daemon=True).start()
        seconds = module._offset(*server.getsockname(), time.monotonic() + 5)
    assert abs(seconds) < 0.1


def test_without_ping_a_machine_says_that_it_did_not_look(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = {**QUESTIONS, "connect": [["127.0.0.1", free_port()]]}
    answer = module.facts({"here": asked})
    assert answer["not_pinged"] == ["127.0.0.1"] and answer["too_small"] == []
