"""The baked image on a Docker host itself, for services that run there without a registry (Compose, tests).

The same layer, entry point and user that `bake` puts into a registry, and the same name: what is deployed and what runs
here are one image.
"""

from __future__ import annotations

import json

from openstack_images.bake import labels_of, layer
from openstack_images.definition import BakedImage
from openstack_images.package import Builder, local_reference


def load(image: BakedImage, builder: Builder) -> None:
    """Make the baked image on a host that has its package image. OperatorError E51x."""
    user = image.user
    instructions = [
        f"FROM {local_reference(image.package)}",
        "ADD layer.tar.gz /",
        f"ENTRYPOINT {json.dumps(image.entrypoint)}",
        f"CMD {json.dumps(image.command)}",
        *([f"USER {user.uid}:{user.gid}"] if user else []),
        *(f"LABEL {key}={json.dumps(value)}" for key, value in sorted(labels_of(image).items())),
    ]
    files: dict[str, str | bytes] = {
        "Dockerfile": "".join(f"{line}\n" for line in instructions),
        "layer.tar.gz": layer(image.files, user.gid if user else 0).content,
    }
    builder.build_from(files, image.reference, f"baking {image.name} on the host")
