"""Container images as OCI archives, for `ctr images import`: the same content gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(content: bytes) -> str:
    """`sha256:…` of a blob."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write(target: Path, name: str, files: Mapping[str, Path], entrypoint: str, user: str) -> None:
    """An image of one layer that holds `files` (name at the root → executable) and runs `entrypoint` as `user`."""
    layer = _tar({file: path.read_bytes() for file, path in files.items()}, mode=0o755)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Entrypoint": [entrypoint], "User": user, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    archive(target, name, MANIFEST, manifest, [config, layer])


def archive(target: Path, name: str, media_type: str, manifest: bytes, blobs: list[bytes]) -> None:
    """An OCI archive of the image with this manifest, its configuration and its layers."""
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    entry = _descriptor(media_type, manifest) | {"annotations": annotations}
    members = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in (manifest, *blobs)}
    members["index.json"] = _json({"schemaVersion": 2, "manifests": [entry]})
    members["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    target.write_bytes(_tar(members, mode=0o644))


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(members: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(members[name]), mode
            tar.addfile(info, io.BytesIO(members[name]))
    return buffer.getvalue()
