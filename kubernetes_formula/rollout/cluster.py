"""The Kubernetes API as the rollout uses it: plain objects in, plain objects out, server-side apply.

The only module that talks to an API server. A server that goes away for a moment (its own upgrade) is waited for;
what it refuses becomes an OperatorError with the server's words.
"""

from __future__ import annotations

import json
import os
import time
from base64 import b64decode
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes_formula.manifests import Object
from reclass_model.errors import OperatorError

FIELD_MANAGER = "ostack-k8s"

#: Kind → path of its API group, plural, whether it lives in a namespace.
_RESOURCES: Mapping[str, tuple[str, str, bool]] = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "PersistentVolume": ("/api/v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Service": ("/api/v1", "services", True),
    "Event": ("/api/v1", "events", True),
    "Pod": ("/api/v1", "pods", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "CronJob": ("/apis/batch/v1", "cronjobs", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
}
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_RETRY_SECONDS = 1.0
_FIRST_SECONDS = 10.0  # a server that never answered is not one that is away for a moment
_CONNECT_SECONDS = 3.0  # where packets are dropped nothing else ends the waiting
_READ_SECONDS = 30.0
_LAST_WORDS_SECONDS = 3.0
_CONNECTIONS = (
    16  # kept open; more than the threads that ask: the steps of a rollout, its lease, whoever started it
)
#: Said of a field: of a StatefulSet's up to Kubernetes 1.36, and of all others.
_UNCHANGEABLE = ("updates to", "field is immutable")
_PASSING = (429, 500, 502, 503, 504)  #: overloaded, starting, or without a leader of etcd for a moment


class Refused(OperatorError):
    """The API server said no; `status` is its HTTP status."""

    def __init__(
        self, message: str, status: int, hint: str | None = None, causes: Iterable[str] | None = None
    ) -> None:
        """`causes`: what is wrong with each field, where the server says that."""
        super().__init__(message, code="E640", hint=hint)
        self.status = status
        #: Whether it would take the object anew, but no change of the one that is there: nothing else is wrong.
        self.immutable = status == 422 and all(
            any(words in cause for words in _UNCHANGEABLE) for cause in causes or (message,)
        )


class Cluster:
    """One API server, as one user, for any number of threads. `patience`: seconds to wait where nobody answers."""

    def __init__(self, server: str, pool: Any, headers: Mapping[str, str], patience: float) -> None:
        """`pool`: of urllib3, with both sides' certificates; `headers`: who asks, where no certificate says it."""
        self.server = server
        self._pool = pool
        self._headers = dict(headers)
        self._patience = patience
        self._answered = False

    @classmethod
    def connect(cls, kubeconfig: Path, patience: float = 60.0) -> Cluster:
        """The cluster of a kubeconfig's current context; OperatorError E641 when there is none. Nothing is sent yet."""
        import urllib3
        import yaml

        try:
            data = yaml.safe_load(kubeconfig.read_text())
            context = _named(data, "context", data["current-context"])
            cluster, user = _named(data, "cluster", context["cluster"]), _named(data, "user", context["user"])
            pool = urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=_encryption(cluster, user))
            headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
            return cls(cluster["server"], pool, headers, patience)
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as wrong:
            raise OperatorError(
                f"no cluster in {kubeconfig}: {type(wrong).__name__}: {wrong}",
                code="E641",
                hint="remove it: it is made anew from the model",
            ) from None

    def hurried(self) -> Cluster:
        """The same with little patience, for what is written when a rollout ends: nobody waits a minute for that."""
        other = copy(self)
        other._patience = min(self._patience, _LAST_WORDS_SECONDS)
        return other

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The live object, None when there is none."""
        try:
            found: Object = self._ask("GET", _path(kind, namespace, name))
            return found
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """The live objects with these labels; `kind` is filled in, which the API leaves out in lists."""
        selector = ",".join(f"{label}={value}" for label, value in labels.items())
        found = self._ask("GET", _path(kind, namespace), query={"labelSelector": selector})
        return [{**item, "kind": kind} for item in found["items"]]

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply: our fields become as given, fields of others stay."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        return self._ask("PATCH", _path_of(item), query=query, body=item, content_type=_APPLY)

    def merge(self, kind: str, namespace: str, name: str, patch: Object) -> Object:
        """Change single fields of a live object."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._ask("PATCH", _path(kind, namespace, name), query=query, body=patch, content_type=_MERGE)

    def create(self, item: Object) -> Object:
        """Make an object; Refused with status 409 when it is there."""
        metadata = item["metadata"]
        return self._ask(
            "POST",
            _path(item["kind"], metadata.get("namespace", "")),
            query={"fieldManager": FIELD_MANAGER},
            body=item,
        )

    def replace(self, item: Object) -> Object:
        """Write an object; Refused with status 409 when its resourceVersion is not the newest."""
        return self._ask("PUT", _path_of(item), query={"fieldManager": FIELD_MANAGER}, body=item)

    def delete(
        self, kind: str, namespace: str, name: str, *, orphan: bool = False, version: str | None = None
    ) -> None:
        """Delete an object and what it owns (`orphan`: that stays); nothing happens when it is gone.

        With `version`: Refused with status 409 when its resourceVersion is another.
        """
        body: Object = {"propagationPolicy": "Orphan" if orphan else "Background"}
        if version:
            body["preconditions"] = {"resourceVersion": version}
        try:
            self._ask("DELETE", _path(kind, namespace, name), body=body)
        except Refused as refusal:
            if refusal.status != 404:
                raise

    def warnings(self, namespace: str, name: str) -> tuple[str, ...]:
        """What the cluster has to say against an object, the newest last: "FailedMount: …"."""
        query = {"fieldSelector": f"involvedObject.name={name},type=Warning"}
        found = self._ask("GET", _path("Event", namespace), query=query)["items"]
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        return tuple(f"{event.get('reason')}: {event.get('message', '').strip()}" for event in found)

    def log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The last lines that a container wrote; what the server says instead when it has none."""
        query = {"tailLines": str(lines), "container": container}
        try:
            return (
                self._send("GET", f"{_path('Pod', namespace, pod)}/log", query)
                .decode(errors="replace")
                .rstrip()
            )
        except Refused as refusal:
            return f"(no log: {refusal.problems[0].message})"

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = _JSON,
    ) -> Object:
        answer: Object = json.loads(self._send(method, path, query or {}, body, content_type))
        return answer

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, content_type: str = _JSON
    ) -> bytes:
        """The answer's body, asked for again while the server is away or overloaded.

        So a request whose answer was lost may be made twice: `create` and `replace` then meet their own 409.
        """
        import urllib3

        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        text = None if body is None else json.dumps(body)
        headers = {**self._headers, "Accept": _JSON, "Content-Type": content_type}
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        deadline = time.monotonic() + (
            self._patience if self._answered else min(self._patience, _FIRST_SECONDS)
        )
        while True:
            try:
                answer = self._pool.request(
                    method, url, body=text, headers=headers, timeout=timeout, retries=False
                )
                self._answered = True
                if answer.status not in _PASSING or time.monotonic() > deadline:
                    break
            except urllib3.exceptions.HTTPError as wrong:
                if "CERTIFICATE_VERIFY_FAILED" in str(wrong):  # no waiting makes it another server
                    raise OperatorError(
                        f"what answers at {self.server} is not signed by this model's authority: {wrong}",
                        code="E642",
                        hint="is this the right cluster? On the config machine: `ostack-k8s pki status --live`",
                    ) from None
                if time.monotonic() > deadline:
                    raise OperatorError(
                        f"the Kubernetes API at {self.server} does not answer: {wrong}",
                        code="E642",
                        hint="are the masters up (`salt-call state.apply` there), and is this the right cluster?",
                    ) from None
            time.sleep(_RETRY_SECONDS)
        if answer.status >= 400:
            raise _refusal(method, path, answer.status, answer.data)
        data: bytes = answer.data
        return data


def _named(kubeconfig: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    """The entry of that name; KeyError without one."""
    found: Mapping[str, Any] = {each["name"]: each[kind] for each in kubeconfig[f"{kind}s"]}[name]
    return found


def _encryption(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Any:
    """TLS with the CA and the client's certificate of a kubeconfig (as data, or as files)."""
    import ssl

    authority = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=b64decode(authority).decode() if authority else None,
    )
    if "client-certificate-data" in user:
        # a file that has no name: a killed process leaves no key behind
        with open(os.memfd_create("client"), "wb") as file:
            file.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    elif "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    return context


def _path(kind: str, namespace: str, name: str = "") -> str:
    group, plural, namespaced = _RESOURCES[kind]
    place = f"/namespaces/{quote(namespace)}" if namespaced else ""
    return f"{group}{place}/{plural}" + (f"/{quote(name)}" if name else "")


def _path_of(item: Object) -> str:
    metadata = item["metadata"]
    return _path(item["kind"], metadata.get("namespace", ""), metadata["name"])


def _refusal(method: str, path: str, status: int, data: bytes) -> Refused:
    causes: list[str] = []
    try:
        answer = json.loads(data)
        message = answer["message"]
        causes = [cause["message"] for cause in (answer.get("details") or {}).get("causes") or ()]
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip() or f"HTTP status {status}"
    hint = "is this the certificate of the cluster's own CA?" if status in (401, 403) else None
    return Refused(f"the Kubernetes API refused {method} {path}: {message}", status, hint, causes)
