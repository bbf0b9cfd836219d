"""A package image from the Docker host into the registry, through the registry's HTTP API.

Not by `docker push`: the Docker host need not know the cloud's CA or its password. Layers that the registry
has are neither saved nor compressed again; which compressed blob a layer gives is remembered in the
operator's cache. The manifest comes last.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from openstack_images.bake import PACKAGES, package_tag
from openstack_images.definition import PackageImage
from openstack_images.package import Builder, labels
from openstack_images.registry import CONFIG, LAYER, MANIFEST, Registry
from reclass_model.cache import cache_directory
from reclass_model.errors import OperatorError
from reclass_model.repository import write_atomically

_LEVEL = 3  #: of compression: twice as fast as the usual 6 for a tenth more bytes
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A layer as the registry keeps it."""

    digest: str
    size: int


def push(image: PackageImage, builder: Builder, registry: Registry, progress: Callable[[str], None]) -> int:
    """Put a package image, which the builder has, into the registry; the bytes that were sent.

    OperatorError E526 when this machine's disk is full, E51x, E52x.
    """
    inspected = builder.inspect(image)
    diff_ids: list[str] = inspected["RootFS"]["Layers"]
    blobs = {
        diff_id: blob
        for diff_id in diff_ids
        if (blob := _remembered(diff_id)) and registry.has_blob(PACKAGES, blob.digest)
    }
    sent = 0
    missing = set(diff_ids) - set(blobs)
    if missing:
        progress(f"{image}: pushing {len(missing)} of {len(diff_ids)} layers")
        try:
            for diff_id, blob, new in _save(image, missing, builder, registry):
                blobs[diff_id] = blob
                sent += blob.size if new else 0
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OperatorError(
                f"the disk of {tempfile.gettempdir()} is full",
                code="E526",
                hint="make room, or set TMPDIR to another directory",
            ) from None
    config = json.dumps(_config(image, inspected), sort_keys=True).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    with tempfile.SpooledTemporaryFile() as content:
        content.write(config)
        content.seek(0)
        registry.put_blob(PACKAGES, digest, content, len(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": digest},
        "layers": [
            {"mediaType": LAYER, "size": blobs[each].size, "digest": blobs[each].digest} for each in diff_ids
        ],
        "annotations": labels(image),
    }
    registry.put_manifest(PACKAGES, package_tag(image), manifest)
    return sent + len(config)


def _config(image: PackageImage, inspected: dict[str, Any]) -> dict[str, Any]:
    return {
        "architecture": inspected["Architecture"],
        "os": inspected["Os"],
        "config": {"Env": inspected["Config"]["Env"], "Labels": labels(image)},
        "rootfs": {"type": "layers", "diff_ids": inspected["RootFS"]["Layers"]},
    }


def _save(
    image: PackageImage, missing: set[str], builder: Builder, registry: Registry
) -> list[tuple[str, Blob, bool]]:
    """Upload the missing layers: (diff id, blob, whether the registry lacked it).

    The files on the way have no names, so a killed push leaves none.
    """
    uploaded = []
    with tempfile.TemporaryFile() as saved:
        builder.save(image, saved)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            for member in archive:
                content = (
                    archive.extractfile(member) if member.isfile() and _may_be_layer(member.name) else None
                )
                if content is None or (diff_id := _digest(content)) not in missing:
                    continue
                content.seek(0)
                blob, new = _upload(content, registry)
                _remember(diff_id, blob)
                uploaded.append((diff_id, blob, new))
    return uploaded


def _may_be_layer(name: str) -> bool:
    """In an archive of `docker save`: before Docker 25, and since."""
    return name.endswith("/layer.tar") or name.startswith("blobs/sha256/")


def _upload(content: IO[bytes], registry: Registry) -> tuple[Blob, bool]:
    with tempfile.TemporaryFile() as compressed:
        blob = _compress(content, compressed)
        new = not registry.has_blob(PACKAGES, blob.digest)
        if new:
            compressed.seek(0)
            registry.put_blob(PACKAGES, blob.digest, compressed, blob.size)
        return blob, new


def _compress(content: IO[bytes], target: IO[bytes]) -> Blob:
    """gzip without a name or a time: the same layer gives the same blob."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    digest = hashlib.sha256()
    while block := content.read(_BLOCK):
        piece = compressor.compress(block)
        digest.update(piece)
        target.write(piece)
    piece = compressor.flush()
    digest.update(piece)
    target.write(piece)
    return Blob(f"sha256:{digest.hexdigest()}", target.tell())


def _digest(content: IO[bytes]) -> str:
    return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"  # type: ignore[arg-type]  # a file of a tar


def _memory(diff_id: str) -> Path:
    return cache_directory() / "layer" / diff_id.removeprefix("sha256:")


def _remembered(diff_id: str) -> Blob | None:
    try:
        digest, size = _memory(diff_id).read_text().split()
        return Blob(digest, int(size))
    except (FileNotFoundError, ValueError):
        return None


def _remember(diff_id: str, blob: Blob) -> None:
    write_atomically(_memory(diff_id), f"{blob.digest} {blob.size}\n")
