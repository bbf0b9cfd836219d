"""The bill of materials of an image: every package and its version, as CycloneDX.

Made from the lock: a package image has what is locked for it and for the layers below, neither more nor less. It is
known without the image, and the same inputs give the same bytes: no times, no random numbers.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from openstack_images.definition import BakedImage

CYCLONEDX = "application/vnd.cyclonedx+json"


def packages(image: BakedImage) -> dict[str, str]:
    """Package → version, sorted; a layer may have another version of what is below."""
    found: dict[str, str] = {}
    for layer in image.package.chain:
        found.update(layer.locked or {})
    return dict(sorted(found.items()))


def bill_of_materials(image: BakedImage) -> dict[str, Any]:
    """The document, as plain data."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image.name, "version": image.tag}},
        "components": [
            {"type": "library", "name": name, "version": version, "purl": _purl(name, version, image)}
            for name, version in packages(image).items()
        ],
    }


def _purl(name: str, version: str, image: BakedImage) -> str:
    return f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?distro={image.package.suite}"
