"""A server that keeps objects and their versions as a Kubernetes API does; the real one is e2e's part."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import yaml

from kubernetes_formula.manifests import Object
from kubernetes_formula.rollout import Cluster

LOST = "the answer is lost"


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, Object] = {}
        self.version = 0
        self.troubles: list[tuple[str, Any]] = []  #: (method, status or LOST) of the next requests

    def do(self, method: str, path: str, body: Object) -> tuple[int, Object]:
        """As the API would: one writer wins, a version that is old is refused. `body` of a GET: its query."""
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        live = self.objects.get(path)
        wanted = body.get("preconditions" if method == "DELETE" else "metadata", {}).get("resourceVersion")
        if live and (method == "POST" or wanted not in (None, live["metadata"]["resourceVersion"])):
            return 409, {"message": "the object has been modified"}
        if method == "GET" and live is None and path.rsplit("/", 1)[1] in ("leases", "secrets"):
            return 200, {"items": [item for place, item in self.objects.items() if place.startswith(path)]}
        if live is None and method not in ("POST", "PATCH"):
            return 404, {"message": "not found"}
        if method == "DELETE":
            del self.objects[path]
        elif method != "GET":
            self.version += 1
            metadata = {**body["metadata"], "resourceVersion": str(self.version)}
            created = (
                live["metadata"]["creationTimestamp"] if live else f"2026-01-01T00:00:{self.version:02}Z"
            )
            self.objects[path] = {**body, "metadata": {**metadata, "creationTimestamp": created}}
        return 200, self.objects.get(path, {})


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        trouble = None
        if self.server.troubles and self.server.troubles[0][0] == self.command:
            trouble = self.server.troubles.pop(0)[1]
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if self.command == "GET":
            body = dict(parse_qsl(query))
        status, found = (
            (trouble, {}) if isinstance(trouble, int) else self.server.do(self.command, path, body)
        )
        if trouble == LOST:
            self.close_connection = True
            return
        text = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.answer)


Served = TypeVar("Served", bound=Server)


@contextmanager
def serving(server: Served) -> Iterator[Served]:
    """The server, answering inside."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def connect(server: Server, directory: Path) -> Cluster:
    """The server as a cluster, by a kubeconfig in the directory."""
    path = directory / "kubeconfig"
    place = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
    user = {"name": "u", "user": {"token": "t"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    data = {"clusters": [place], "users": [user], "contexts": [context], "current-context": "c"}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **data}))
    return Cluster.connect(path, patience=2)
