"""The quick layer: a package image in the registry plus configuration is a baked image; no Docker daemon.

The layer is deterministic (sorted, no times, fixed owners), the layers below are mounted, not copied, and the
manifest comes last, so an interrupted bake leaves nothing that has a tag.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from openstack_images.definition import BakedImage, ConfigFile, PackageImage
from openstack_images.package import labels
from openstack_images.registry import CONFIG, LAYER, MANIFEST, Registry
from reclass_model.errors import OperatorError

#: The repository that holds every package image; baked images have one each.
PACKAGES = "package"


@dataclass(frozen=True)
class Baked:
    """What the registry has after a bake."""

    digest: str  #: of the manifest
    size: int  #: bytes sent


@dataclass(frozen=True)
class Layer:
    """The configuration of an image as one layer."""

    diff_id: str  #: digest of the tar
    digest: str  #: digest of the compressed tar
    content: bytes  #: the compressed tar


def package_tag(image: PackageImage) -> str:
    """The tag of a package image in the repository of package images."""
    return f"{image.name}-{image.tag}"


def layer(files: Sequence[ConfigFile], gid: int) -> Layer:
    """The files as a layer, owned by root and readable by the group. The same files give the same bytes.

    Their directories are in it too (root's, for all to enter): else Docker makes such, and containerd does not.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for directory in sorted(
            {str(parent) for file in files for parent in PurePosixPath(file.path).parents} - {"/"}
        ):
            member = tarfile.TarInfo(directory.removeprefix("/"))
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for file in sorted(files, key=lambda file: file.path):
            content = file.text.encode()
            member = tarfile.TarInfo(file.path.removeprefix("/"))
            member.size, member.mode, member.uid, member.gid, member.mtime = (
                len(content),
                file.mode,
                0,
                gid,
                0,
            )
            tar.addfile(member, io.BytesIO(content))
    plain = archive.getvalue()
    compressed = gzip.compress(plain, mtime=0)
    return Layer(_sha256(plain), _sha256(compressed), compressed)


def bake(image: BakedImage, registry: Registry) -> Baked:
    """Put the baked image into the registry, which has its package image."""
    package = registry.manifest(PACKAGES, package_tag(image.package))
    if package is None:
        raise OperatorError(
            f"{image.package} is not in the registry {registry.address}",
            code="E525",
            hint="ostack-k8s images build --push",
        )
    added = layer(image.files, image.user.gid if image.user else 0)
    config = json.dumps(
        _config(image, registry.blob(PACKAGES, package["config"]["digest"]), added), sort_keys=True
    ).encode()
    for below in package["layers"]:
        registry.mount_blob(image.name, below["digest"], PACKAGES)
    for content in (added.content, config):
        registry.put_blob(image.name, _sha256(content), io.BytesIO(content), len(content))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": _sha256(config)},
        "layers": [
            *package["layers"],
            {"mediaType": LAYER, "size": len(added.content), "digest": added.digest},
        ],
        "annotations": _labels(image),
    }
    return Baked(registry.put_manifest(image.name, image.tag, manifest), len(added.content) + len(config))


def _config(image: BakedImage, package: bytes, added: Layer) -> dict[str, Any]:
    """The package image's configuration with our layer, entry point and user."""
    config: dict[str, Any] = json.loads(package)
    config["rootfs"]["diff_ids"].append(added.diff_id)
    config.setdefault("config", {}).update(
        {
            "Entrypoint": list(image.entrypoint),
            "Cmd": list(image.command),
            "Labels": _labels(image),
            **({"User": f"{image.user.uid}:{image.user.gid}"} if image.user else {}),
        }
    )
    return config


def _labels(image: BakedImage) -> dict[str, str]:
    return {
        **labels(image.package),
        "org.opencontainers.image.base.name": f"{PACKAGES}:{package_tag(image.package)}",
        "io.ostack-k8s.inputs": f"sha256:{image.digest}",
    }


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
