"""The overlay of a model: its images and its Kubernetes objects, from the config machine's pillar.

Here the packages meet: reclass_model gives the pillar, openstack_images the references, kubernetes_formula the objects.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.workflows.places import placed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubernetes_formula.manifests import Image, Overlay
    from openstack_images.definition import BakedImage
    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring


@placed
def images_of(inventory: Inventory) -> Mapping[str, BakedImage]:
    """Every image of the model by the pillar path of its role ("service:role"); needs no network."""
    from openstack_images.definition import images
    from openstack_images.lock import Lock
    from reclass_model.inventory import get

    parameters = inventory.config_node().parameters
    registry = get(parameters, "docker:registry")
    lock = Lock.read(inventory.repository.lock_file)
    return images(parameters, lock, f"{registry['host']}:{registry['port']}")


def pod_images_of(inventory: Inventory) -> dict[str, Image]:
    """The same images as pods see them: references, release, user."""
    from kubernetes_formula.manifests import Image
    from openstack_images.bake import package_reference

    return {
        role: Image(
            image.reference,
            image.release,
            asdict(image.user) if image.user else None,
            package_reference(image),
        )
        for role, image in images_of(inventory).items()
    }


def control_of(inventory: Inventory) -> Mapping[str, Any]:
    """The workloads of the model."""
    from reclass_model.inventory import get

    control: Mapping[str, Any] = get(inventory.config_node().parameters, "kubernetes:control", {})
    return control


@placed
def overlay_of(inventory: Inventory, keyring: Keyring | None) -> Overlay:
    """Every Kubernetes object and Job of the model; without a keyring the values of Secrets are masked.

    Names are the same either way, so a plan needs no key.
    """
    from kubernetes_formula.manifests import render

    return render(control_of(inventory), pod_images_of(inventory), keyring.reveal if keyring else None)
