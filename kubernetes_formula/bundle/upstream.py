"""Artifacts from the upstream releases: files by URL, images through the registry's HTTP API."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes_formula.bundle import image
from kubernetes_formula.bundle.artifact import Wanted, sha256_of
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

#: Seconds without a byte after which a download is given up.
TIMEOUT = 60
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    image.MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Upstream:
    """Downloads artifacts; `prefix` is put before a path or an image's name (`https://`, or a mirror's address)."""

    def __init__(self, prefix: str) -> None:
        import requests

        self.prefix = prefix
        self._session = requests.Session()

    def check(self, wanted: Wanted) -> None:
        """Anything can be tried."""

    def inputs(self, wanted: Wanted) -> dict[str, Any]:
        """What is asked for: the model's checksum counts, so that a corrected one downloads again."""
        return {"url": self.prefix + (wanted.image or wanted.path), "sha256": wanted.sha256}

    def make(self, wanted: Wanted, work: Path, progress: Callable[[str], None]) -> Path:
        """Download into `work`; the file's path.

        Raises OperatorError E705 when it fails, E706 when the checksum is not the model's.
        """
        import requests

        target = work / "artifact"
        try:
            if wanted.image is None:
                self._download(wanted.path, target)
            else:
                self._pull(wanted.image, target)
        except requests.RequestException as error:
            raise OperatorError(
                f"cannot download {wanted.name}: {error}",
                code="E705",
                hint="run it where releases can be reached, set bundle:upstream to a mirror, or use --from-source",
            ) from None
        found = sha256_of(target)
        if wanted.sha256 is None:
            progress(f"{wanted.name}: the model has no checksum to hold it against; sha256 {found}")
        elif wanted.sha256 != found:
            raise OperatorError(
                f"{self.prefix}{wanted.image or wanted.path} has sha256 {found}, the model says {wanted.sha256}",
                code="E706",
                hint="if its version or origin was changed on purpose, remove the old sha256 from underlay/bundle.yml",
            )
        return target

    def _download(self, path: str, target: Path) -> None:
        with self._get(f"{self.prefix}{path}", stream=True) as response, target.open("wb") as file:
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)
        target.chmod(0o644 if path.endswith((".gz", ".tgz")) else 0o755)

    def _pull(self, name: str, target: Path) -> None:
        repository, _, tag = name.rpartition(":")
        host, _, path = repository.partition("/")
        base = f"{self.prefix}{host}/v2/{path}"
        manifest = self._get(f"{base}/manifests/{tag}", accept=MANIFEST_TYPES).content
        content = json.loads(manifest)
        if "manifests" in content:
            chosen = next(
                (
                    entry["digest"]
                    for entry in content["manifests"]
                    if (entry["platform"]["os"], entry["platform"]["architecture"]) == ("linux", "amd64")
                ),
                None,
            )
            if chosen is None:
                raise OperatorError(f"{name} has no image for linux/amd64", code="E705")
            manifest = self._blob(f"{base}/manifests/{chosen}", chosen)
            content = json.loads(manifest)
        digests = [content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]
        blobs = [self._blob(f"{base}/blobs/{digest}", digest) for digest in digests]
        image.archive(target, name, content["mediaType"], manifest, blobs)

    def _blob(self, url: str, digest: str) -> bytes:
        content = self._get(url, accept=MANIFEST_TYPES).content
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise OperatorError(
                f"{url} does not have the digest it was asked for by", code="E706", hint="try again"
            )
        return content

    def _get(
        self, url: str, *, stream: bool = False, accept: tuple[str, ...] = ("*/*",)
    ) -> requests.Response:
        response = self._session.get(
            url, stream=stream, timeout=TIMEOUT, headers={"Accept": ", ".join(accept)}
        )
        response.raise_for_status()
        return response
