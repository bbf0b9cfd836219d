"""The checks that end a deployment, asked of a small API that runs here."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.workflows import smoke
from cli.workflows.smoke import Check, run_checks
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring
from reclass_model.validation import validate

PASSWORD = "${_param:keystone_admin_password}"


class Cloud(ThreadingHTTPServer):
    """Gives a token, keeps servers that take some time to become what they are asked to."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Api)
        self.seen: list[tuple[str, str, bytes]] = []
        self.asked = 0
        self.servers: set[str] = set()
        self.state = "ACTIVE"

    @property
    def url(self) -> str:
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.server_name}:{self.server_port}"


class Api(BaseHTTPRequestHandler):
    server: Cloud

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        self.server.seen.append((self.command, self.path, content))
        if self.path == "/tokens":
            good = json.loads(content)["password"] != "wrong"
            self.send(201 if good else 401, {"project": {"id": 7}}, {"X-Token": "t0k3n"})
        elif self.headers.get("X-Token") != "t0k3n":
            self.send(401, {"error": "who are you?"})
        elif self.command == "POST":
            self.server.servers.add("s1")
            self.send(202, {"servers": [{"id": "s1"}]})
        elif self.command == "PUT":
            self.send(204, None)
        elif self.path != "/servers/s1" or "s1" not in self.server.servers:
            self.send(404, None)
        elif self.command == "DELETE":
            self.server.servers.clear()
            self.send(204, None)
        else:
            self.server.asked += 1
            state = self.server.state if self.server.asked > 2 else "BUILD"
            self.send(200, {"server": {"status": state, "console": "it has booted"}})

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(smoke, "PAUSE_SECONDS", 0.01)
    with Cloud() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def checks(url: str) -> dict[str, Any]:
    token = {"X-Token": "{token}"}
    return {
        "a-server": {
            "order": 20, "method": "POST", "url": f"{url}/servers", "headers": token, "status": 202,
            "body": {"name": "smoke-{run}", "project": "{project}", "count": 1},
            "capture": {"server": {"json": "servers.0.id"}},
            "cleanup": {
                "method": "DELETE", "url": f"{url}/servers/{{server}}", "headers": token, "status": 404, "within": 5,
            },
        },
        "is-active": {
            "order": 30, "url": f"{url}/servers/{{server}}", "headers": token, "within": 5,
            "expect": {"server.status": "ACTIVE", "server.console": {"match": "has b.oted"}},
            "never": {"server.status": "ERROR"},
        },
        "upload": {
            "order": 40, "method": "PUT", "url": f"{url}/disk", "headers": token, "status": 204,
            "upload": {"base64": "AAEC\n/w=="},
        },
        "the-token": {
            "order": 10, "method": "POST", "url": f"{url}/tokens", "status": 201, "body": {"password": PASSWORD},
            "capture": {"token": {"header": "X-Token"}, "project": {"json": "project.id"}},
        },
        "of-a-machine": {"needs": {"mariadb-server": {}}, "url": f"{url}/tokens"},
    }  # fmt: skip


Declare = Callable[[dict[str, Any]], Inventory]


@pytest.fixture
def declare(repository: Repository) -> Declare:
    """The model with these checks and no others."""

    def declared(wanted: dict[str, Any]) -> Inventory:
        removed = {"~keystone-version": None, "~keystone-token": None}
        content = {"parameters": {"kubernetes": {"control": {"smoke": {**removed, **wanted}}}}}
        (repository.cluster_dir / "overlay" / "keystone.yml").write_text(yaml.safe_dump(content))
        return Inventory(repository)

    return declared


def run(inventory: Inventory) -> list[Check]:
    keyring = Keyring.find(inventory.repository)
    return run_checks(inventory, keyring, lambda line: None, without=["mariadb-server"])


def test_what_an_answer_gives_is_used_awaited_and_removed(cloud: Cloud, declare: Declare) -> None:
    inventory = declare(checks(cloud.url))
    assert validate(inventory.repository).errors == []
    found = run(inventory)
    assert [(check.name, check.result) for check in found] == [
        ("the-token", "ok"),
        ("a-server", "ok"),
        ("is-active", "ok"),
        ("upload", "ok"),
        ("a-server (cleanup)", "ok"),
    ], found
    sent = {(method, path): content for method, path, content in cloud.seen}
    password = json.loads(sent["POST", "/tokens"])["password"]
    assert password == Keyring.find(inventory.repository).reveal(
        inventory.config_node().parameters["_param"]["keystone_admin_password"]
    )
    body = json.loads(sent["POST", "/servers"])
    assert body["project"] == "7" and body["count"] == 1 and len(body["name"]) == len("smoke-") + 8
    assert sent["PUT", "/disk"] == b"\x00\x01\x02\xff"
    assert [method for method, _, _ in cloud.seen].count("DELETE") == 2  # again, until it is gone
    assert not cloud.servers and all(check.seconds > 0 for check in found)


def test_what_is_made_is_removed_after_a_failure_and_what_needs_it_is_skipped(
    cloud: Cloud, declare: Declare
) -> None:
    wanted = checks(cloud.url)
    wanted["is-active"] |= {"capture": {"address": {"json": "server.address"}}}
    wanted["reach"] = {"order": 50, "url": f"{cloud.url}/{{address}}"}
    cloud.state = "ERROR"
    found = {check.name: check for check in run(declare(wanted))}
    assert found["is-active"].result == "failed" and found["is-active"].seconds < 4
    assert "server.status is ERROR" in found["is-active"].detail
    assert found["reach"].result == "skipped" and "address" in found["reach"].detail
    assert found["a-server (cleanup)"].result == "ok" and not cloud.servers


def test_a_wrong_answer_is_told_with_its_words(cloud: Cloud, declare: Declare) -> None:
    wanted = checks(cloud.url)
    wanted["the-token"]["body"] = {"password": "wrong"}
    wanted["refused"] = {"url": f"{cloud.url}/servers/s1"}
    wanted["nobody"] = {"url": "http://127.0.0.1:1/"}
    found = {check.name: check for check in run(declare(wanted))}
    assert found["the-token"].detail.startswith(f"POST {cloud.url}/tokens answered 401, expected 201")
    assert '"who are you?"' in found["refused"].detail
    assert found["nobody"].result == "failed" and "http://127.0.0.1:1/" in found["nobody"].detail
    assert found["a-server"].result == "skipped" and "a-server (cleanup)" not in found


def test_a_check_without_its_value_or_its_machines_is_left_out(cloud: Cloud, declare: Declare) -> None:
    wanted = checks(cloud.url)
    asked = {key: value for key, value in wanted["upload"].items() if key != "upload"}
    model = declare(
        {name: wanted[name] for name in ("the-token", "of-a-machine")}
        | {
            "by-nothing": {**asked, "order": 30, "when": "", "upload": {"file": ""}},
            "by-a-value": {**asked, "order": 31, "when": "/a/file"},
            "by-yes": {**asked, "order": 32, "when": True},
            "by-no": {**asked, "order": 33, "when": False},
            "on-one": {**asked, "order": 40, "needs": {"keystone-server": {"machines": 1}}},
            "on-all": {**asked, "order": 41, "needs": {"keystone-server": {"machines": 3}}},
            "on-more": {**asked, "order": 42, "needs": {"keystone-server": {"machines": 4}}},
            "elsewhere": {**asked, "order": 43, "needs": {"mariadb-server": {"machines": 1}}},
        }
    )
    assert validate(model.repository).errors == []
    found = run(model)
    assert [check.name for check in found] == ["the-token", "by-a-value", "by-yes", "on-one", "on-all"]
    assert {check.result for check in found} == {"ok"}


def test_what_the_models_authority_signed_is_trusted_for_its_names_alone(
    cloud: Cloud, declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = declare({})
    served = get(inventory.config_node().parameters, "kubernetes:control:workload:haproxy-edge:secret")
    pem = tmp_path / "edge.pem"
    pem.write_text(Keyring.find(inventory.repository).reveal(served["/etc/haproxy/secret/edge.pem"]["data"]))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    monkeypatch.setenv(
        "REQUESTS_CA_BUNDLE", str(pem)
    )  # of another program: what is trusted is the model's to say
    with Cloud("127.0.0.2") as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, args=(0.01,), daemon=True).start()
        for server in (cloud, elsewhere):
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found = {
            check.name: check
            for check in run(declare({**checks(cloud.url), "other": {"url": f"{elsewhere.url}/tokens"}}))
        }
        elsewhere.shutdown()
    assert cloud.url.startswith("https://")
    assert [check.name for check in found.values() if check.result != "ok"] == ["other"], found
    assert "certificate" in found["other"].detail.lower()


def test_an_interrupted_run_removes_what_it_made(
    cloud: Cloud, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)  # while it waits for the server
    with pytest.raises(KeyboardInterrupt):
        run(declare(checks(cloud.url) | {"upload": {"order": 5, "url": f"{cloud.url}/tokens"}}))
    assert cloud.seen[-1][0] == "DELETE" and not cloud.servers


def test_a_file_that_is_not_there_is_named(cloud: Cloud, declare: Declare) -> None:
    wanted = {"upload": {"url": f"{cloud.url}/disk", "method": "PUT", "upload": {"file": "/nowhere"}}}
    with pytest.raises(OperatorError, match="/nowhere"):
        run(declare(wanted))


def test_a_check_that_needs_what_nobody_gives_is_refused(declare: Declare) -> None:
    wanted = checks("http://127.0.0.1:1")
    wanted["the-token"]["order"] = 25
    wanted["of-a-machine"]["needs"] = {"mariadb-servr": {}}
    errors = validate(declare(wanted).repository).errors
    assert [(error.code, error.path.split(":")[3]) for error in errors if error.path] == [
        ("E208", "of-a-machine"),
        ("E211", "a-server"),
        ("E211", "a-server"),
        ("E211", "a-server"),
    ], errors
    assert all(error.file and error.line for error in errors)
