"""Baked images on a Docker host itself, for services that run there without a registry (Compose, tests).

The same layer, entry point and user that `bake` puts into a registry, under the same name: what is deployed and what
runs here are one image. An image is named when it is complete; one that has its name is right.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Mapping

from openstack_images.bake import layer
from openstack_images.build import build
from openstack_images.definition import BakedImage
from openstack_images.package import Builder, local_reference
from openstack_images.pinning import require_locked


def load(images: Mapping[str, BakedImage], builder: Builder, progress: Callable[[str], None]) -> list[str]:
    """Have these images on the host; the names of those that were made now.

    OperatorError E505, E506 before anything is done; E51x on the way: what was complete by then stays.
    """
    require_locked(images.values())
    missing = {role: image for role, image in images.items() if not builder.holds(image.reference)}
    if missing:
        build(missing, None, builder, push=False, progress=progress)
    for image in missing.values():
        began = time.monotonic()
        builder.assemble(image.reference, _context(image), f"baking {image.name}")
        progress(f"{image.name}: baked {image.tag} in {time.monotonic() - began:.2f} s")
    return [image.name for image in missing.values()]


def _context(image: BakedImage) -> bytes:
    """The baked image as a Docker build over its package image."""
    user = image.user
    lines = [
        f"FROM {local_reference(image.package)}",
        "ADD layer.tar.gz /",
        f"ENTRYPOINT {json.dumps(image.entrypoint)}",
        f"CMD {json.dumps(image.command)}",
        f"LABEL io.ostack-k8s.inputs=sha256:{image.digest}",
        *([f"USER {user.uid}:{user.gid}"] if user else []),
    ]
    files = {
        "Dockerfile": "\n".join(lines).encode(),
        "layer.tar.gz": layer(image.files, user.gid if user else 0).content,
    }
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return context.getvalue()
