"""A registry's HTTP API: what is there, blobs up and down, manifests last.

TLS with the cloud's own CA and basic authentication; one connection, kept open. Every failure is told apart
for the operator: not reachable (E520), another CA (E521), wrong credentials (E522), disk full (E523),
anything else (E524).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any
from urllib.parse import SplitResult, urlencode, urlsplit

from reclass_model.errors import OperatorError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"

#: Seconds without a byte after which a registry counts as not reachable.
TIMEOUT = 60
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Content:
    """Bytes as a registry knows them."""

    data: bytes
    media_type: str

    @classmethod
    def of(cls, document: Mapping[str, Any], media_type: str) -> Content:
        """A JSON document; the same one gives the same bytes."""
        return cls(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), media_type)

    @cached_property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "size": self.size, "digest": self.digest}


class Registry:
    """One registry. Each thread has a connection of its own, made at its first request."""

    def __init__(self, host: str, port: int, *, user: str, password: str, authority: str) -> None:
        """`authority`: the PEM certificate of the CA that signed the registry's."""
        self.address = f"{host}:{port}"
        self._host, self._port = host, port
        self.authority = authority
        self._of_thread = threading.local()
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def present(self, reference: str) -> bool | None:
        """Whether it has the image `<address>/<repository>:<tag>`; None when it cannot be reached."""
        repository, _, tag = reference.removeprefix(f"{self.address}/").rpartition(":")
        try:
            return self.manifest_digest(repository, tag) is not None
        except OperatorError as error:
            if error.code == "E520":
                return None
            raise

    def manifest_digest(self, repository: str, tag: str) -> str | None:
        """The digest of a manifest, None when there is none."""
        response, _ = self._request(
            "HEAD", f"/v2/{repository}/manifests/{tag}", accept=MANIFEST, expect=(200, 404)
        )
        return response.getheader("Docker-Content-Digest") if response.status == 200 else None

    def manifest(self, repository: str, name: str, media_type: str = MANIFEST) -> dict[str, Any] | None:
        """What a tag, or a digest, names; None when there is none."""
        response, body = self._request(
            "GET", f"/v2/{repository}/manifests/{name}", accept=media_type, expect=(200, 404)
        )
        return dict(json.loads(body)) if response.status == 200 else None

    def put_manifest(self, repository: str, manifest: Content, tag: str | None = None) -> None:
        """Store a manifest, whose blobs are there, under a tag or its digest alone."""
        name = tag or manifest.digest
        response, _ = self._request(
            "PUT",
            f"/v2/{repository}/manifests/{name}",
            manifest.data,
            content=manifest.media_type,
            expect=(201,),
        )
        stored = response.getheader("Docker-Content-Digest")
        if stored != manifest.digest:
            raise OperatorError(
                f"{self.address} stored {repository}:{name} as {stored}, sent was {manifest.digest}",
                code="E524",
            )

    def blob(self, repository: str, digest: str) -> bytes:
        """The whole blob; OperatorError E524 where the bytes are not those of the digest, or it is not there."""
        _, body = self._request("GET", f"/v2/{repository}/blobs/{digest}", expect=(200,))
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            raise OperatorError(f"{self.address} gave other bytes for {repository}@{digest}", code="E524")
        return body

    def has_blob(self, repository: str, digest: str) -> bool:
        response, _ = self._request("HEAD", f"/v2/{repository}/blobs/{digest}", expect=(200, 404))
        return response.status == 200

    def mount_blob(self, repository: str, digest: str, source: str) -> None:
        """Let a repository have a blob that another one (`source`) has."""
        query = urlencode({"mount": digest, "from": source})
        self._request("POST", f"/v2/{repository}/blobs/uploads/?{query}", b"", expect=(201,))

    def put_content(self, repository: str, content: Content) -> None:
        """Upload a small blob."""
        self.put_blob(repository, content.digest, io.BytesIO(content.data), content.size)

    def put_blob(self, repository: str, digest: str, content: IO[bytes], size: int) -> None:
        """Upload `size` bytes, from where `content` stands. The registry checks them against the digest."""
        location = self._begin_upload(repository)
        query = "&".join(filter(None, (location.query, urlencode({"digest": digest}))))
        try:
            self._request("PUT", f"{location.path}?{query}", content, size=size, expect=(201,))
        except OperatorError as error:
            if error.code == "E520":
                # It may have closed in the middle, its answer lost with the connection: asked again, it says why.
                self._begin_upload(repository)
            raise

    def _begin_upload(self, repository: str) -> SplitResult:
        response, _ = self._request("POST", f"/v2/{repository}/blobs/uploads/", b"", expect=(202,))
        return urlsplit(response.getheader("Location") or "")

    # -- the connection -------------------------------------------------------------------------------------
    @property
    def _connection(self) -> http.client.HTTPSConnection:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = self._connect()
        connection: http.client.HTTPSConnection = self._of_thread.connection
        return connection

    def _connect(self) -> http.client.HTTPSConnection:
        try:
            context = ssl.create_default_context(cadata=self.authority)
        except ssl.SSLError as error:
            raise OperatorError(
                f"the CA certificate of the registry {self.address} cannot be read: {error}",
                code="E521",
                hint="ostack-k8s pki issue",
            ) from None
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT, context=context, blocksize=_BLOCK
        )

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] | None = None,
        *,
        expect: tuple[int, ...],
        accept: str | None = None,
        content: str = "application/octet-stream",
        size: int | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Authorization": self._authorization}
        if accept:
            headers["Accept"] = accept
        if body is not None:
            headers["Content-Type"] = content
            headers["Content-Length"] = str(len(body) if isinstance(body, bytes) else size)
        try:
            response, answer = self._exchange(method, path, body, headers)
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise OperatorError(
                f"the registry {self.address} is not signed by the model's CA: {error.verify_message}",
                code="E521",
                hint="apply the config machine's states (an older certificate?); or this is another registry",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise OperatorError(
                f"the registry {self.address} cannot be reached: {error}",
                code="E520",
                hint="is the registry of the config machine running, and its disk not full? (docker:registry)",
            ) from None
        if response.status not in expect:
            raise self._refused(method, path, response.status, answer.decode(errors="replace"))
        return response, answer

    def _exchange(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request. A connection that the server closed while it was idle is opened again, once."""
        idle = self._connection.sock is not None
        start = 0 if body is None or isinstance(body, bytes) else body.tell()
        try:
            return self._send(method, path, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not idle:
                raise
        if body is not None and not isinstance(body, bytes):
            body.seek(start)
        return self._send(method, path, body, headers)

    def _send(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, path, body=body, headers=dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            if body is None or isinstance(body, bytes):
                raise
            # The registry may have answered, and closed, in the middle of an upload: its reason is still to be read.
        response = self._connection.getresponse()
        return response, response.read()

    def _refused(self, method: str, path: str, status: int, answer: str) -> OperatorError:
        if status in (401, 403):
            return OperatorError(
                f"the registry {self.address} refuses the user or the password",
                code="E522",
                hint="docker:registry:{user, password}",
            )
        # Debian's docker-registry tells a full disk as error number 28 (ENOSPC) below a 500.
        if status == 507 or "no space left" in answer or '"Err":28' in answer:
            return OperatorError(
                f"the disk of the registry {self.address} is full",
                code="E523",
                hint="make room there, and run it again: it goes on",
            )
        return OperatorError(
            f"the registry {self.address} answered {status} to {method} {path}: {answer[:300]}", code="E524"
        )
