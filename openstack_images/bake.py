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
from openstack_images.registry import CONFIG, EMPTY, INDEX, LAYER, MANIFEST, Content, Registry
from openstack_images.sbom import CYCLONEDX, bill_of_materials
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
    content: bytes  #: the compressed tar


def package_reference(image: BakedImage) -> str:
    """Where the registry has the packages of an image, without its configuration: "host:port/name:tag"."""
    return f"{image.registry}/{PACKAGES}:{package_tag(image.package)}"


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
    return Layer(f"sha256:{hashlib.sha256(plain).hexdigest()}", gzip.compress(plain, mtime=0))


def bake(image: BakedImage, registry: Registry, revision: str | None = None) -> Baked:
    """Put the baked image into the registry, which has its package image; its bill of materials beside it.

    The commit that it was baked for stands in the manifest's annotations only: the tag, the configuration and the
    layers are of the inputs alone, the same for every commit that says the same.
    """
    package = registry.manifest(PACKAGES, package_tag(image.package))
    if package is None:
        raise OperatorError(
            f"{image.package} is not in the registry {registry.address}",
            code="E525",
            hint="ostack-k8s images build --push",
        )
    added = layer(image.files, image.user.gid if image.user else 0)
    files = Content(added.content, LAYER)
    config = Content.of(_config(image, registry.blob(PACKAGES, package["config"]["digest"]), added), CONFIG)
    manifest = Content.of(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": [*package["layers"], files.descriptor],
            "annotations": {
                **_labels(image),
                **({"org.opencontainers.image.revision": revision} if revision else {}),
            },
        },
        MANIFEST,
    )
    for below in package["layers"]:
        registry.mount_blob(image.name, below["digest"], PACKAGES)
    for content in (files, config):
        registry.put_content(image.name, content)
    _attach(Content.of(bill_of_materials(image), CYCLONEDX), manifest, image.name, registry)
    registry.put_manifest(image.name, manifest, image.tag)
    return Baked(manifest.digest, files.size + config.size)


def _attach(document: Content, subject: Content, repository: str, registry: Registry) -> None:
    """Store a document as what OCI 1.1 calls a referrer of a manifest (which may come later).

    Also by the tag that clients look at where a registry has no API for referrers, as docker-registry 2 has none.
    """
    nothing = Content(b"{}", EMPTY)
    about = {"mediaType": MANIFEST, "artifactType": document.media_type}
    artifact = Content.of(
        {
            **about,
            "schemaVersion": 2,
            "config": nothing.descriptor,
            "layers": [document.descriptor],
            "subject": subject.descriptor,
        },
        MANIFEST,
    )
    index = Content.of(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**artifact.descriptor, **about}]}, INDEX
    )
    for content in (nothing, document):
        registry.put_content(repository, content)
    registry.put_manifest(repository, artifact)
    registry.put_manifest(repository, index, referrers_tag(subject.digest))


def referrers_tag(digest: str) -> str:
    """The tag under which OCI's clients find what refers to a manifest."""
    return digest.replace(":", "-")


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
