"""The golden manifests' small pillar and overlays made from it: what tests of manifests and rollouts start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kubernetes_formula.manifests import Image, Overlay, render

PILLAR = Path(__file__).parent / "manifests/pillar.yml"
API, DATABASE = "keystone-server", "mariadb-server"


def read_pillar() -> Any:
    """The pillar, to be changed at will."""
    return yaml.safe_load(PILLAR.read_text())


def images_of(pillar: Any) -> dict[str, Image]:
    return {name: Image(**image) for name, image in pillar["images"].items()}


def overlay_of(pillar: Any, reveal: Any = None) -> Overlay:
    return render(pillar["control"], images_of(pillar), reveal)


def with_release(release: str, tag: str) -> Any:
    """The pillar with another image of the API: "epoxy", "bbbbbbbbbbbb"."""
    pillar = read_pillar()
    pillar["images"]["keystone:server"] |= {
        "reference": f"r/keystone-server:{release}-{tag}",
        "release": release,
    }
    return pillar
