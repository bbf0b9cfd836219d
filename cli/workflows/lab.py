"""What follows the lab's machines: its images, its deployment, its checks; as an operator would do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reclass_model.errors import OperatorError, Problem

if TYPE_CHECKING:
    from kubernetes_formula.lab import Action
    from reclass_model.repository import Repository

Progress = Callable[[str], None]


def overlay_actions(progress: Progress) -> Sequence[Action]:
    """The steps after `state.apply`, each given the lab's own repository."""
    from kubernetes_formula.lab import Action

    return (
        Action("images", lambda repository: _images(repository, progress)),
        Action("deploy and smoke", lambda repository: _deploy(repository, progress)),
    )


def _images(repository: Repository, progress: Progress) -> None:
    from cli.workflows.images import build_images, lock_images
    from cli.workflows.overlay import images_of
    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring

    inventory = Inventory(repository)
    layers = [layer for image in images_of(inventory).values() for layer in image.package.chain]
    if any(layer.locked is None for layer in layers):
        lock_images(inventory, (), progress)
        repository.commit("Pin the package versions of the images", [repository.lock_file])
    build_images(inventory, Keyring.find(repository), (), progress)


def _deploy(repository: Repository, progress: Progress) -> None:
    from cli.workflows.deployment import deploy
    from cli.workflows.revisions import deployed_revision, plan_revisions
    from reclass_model.secrets import Keyring

    plan = plan_revisions(repository, deployed_revision(repository), "HEAD")
    checks = deploy(repository, Keyring.find(repository), plan, progress)["checks"]
    problems = [
        Problem("E044", f"{check['name']}: {check['detail']}")
        for check in checks
        if check["result"] == "failed"
    ]
    if problems:
        raise OperatorError("the lab does not answer as the model says", problems=problems)
