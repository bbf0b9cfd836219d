"""The model's services by Docker Compose on this machine: the file, its secrets, and the program that runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.workflows.overlay import control_of, pod_images_of
from cli.workflows.places import placed
from reclass_model.cache import cache_directory
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory
    from reclass_model.repository import Repository
    from reclass_model.secrets import Keyring

PLUGIN = "docker-compose-plugin (Docker's packages), docker-compose (Debian 13) or docker-compose-v2 (Ubuntu)"


@placed
def rendered(inventory: Inventory) -> dict[str, Any]:
    """The Compose file, without any secret in it."""
    from kubernetes_formula.manifests import compose

    return compose(control_of(inventory), pod_images_of(inventory))


def directory_of(repository: Repository) -> Path:
    """Where the file and its secrets lie: outside of the repository."""
    return cache_directory() / "compose" / repository.settings.cluster_name


@placed
def write(inventory: Inventory, keyring: Keyring) -> Path:
    """Write the file and its secrets into a directory closed to others: Compose keeps the owners of secret files."""
    from cli.output.structured import dump
    from kubernetes_formula.manifests import secret_files
    from reclass_model.repository import write_atomically

    directory = directory_of(inventory.repository)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in secret_files(control_of(inventory), pod_images_of(inventory), keyring.reveal).items():
        write_atomically(directory / path, text, 0o444)
    write_atomically(directory / "compose.yml", dump(rendered(inventory), "yaml"))
    return directory


def require_compose() -> None:
    """OperatorError E045 that says what to install, unless `docker compose` is there."""
    try:
        done = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    except FileNotFoundError:
        raise OperatorError(
            "docker is not installed", code="E045", hint=f"apt-get install docker.io, and Compose: {PLUGIN}"
        ) from None
    if done.returncode:
        raise OperatorError(
            "docker has no command `compose`: its plugin is not installed",
            code="E045",
            hint=f"apt-get install {PLUGIN}",
        )


def run(directory: Path, *arguments: str, capture: bool = False) -> str:
    """Run Docker Compose on the file; what it printed if `capture`. OperatorError E045."""
    if not (directory / "compose.yml").is_file():
        raise OperatorError("nothing was started here", code="E045", hint="`ostack-k8s compose up` first")
    require_compose()
    call = ["docker", "compose", "--project-directory", str(directory), *arguments]
    done = subprocess.run(call, check=False, stdout=subprocess.PIPE if capture else 2, text=True)
    if done.returncode:
        raise OperatorError(
            f"`{' '.join(call)}` failed with {done.returncode}", code="E045", hint="its own words are above"
        )
    return done.stdout or ""


def services(directory: Path) -> list[dict[str, str]]:
    """Every service and its state."""
    lines = run(directory, "ps", "--all", "--format", "json", capture=True).splitlines()
    return [
        {"name": str(item["Service"]), "state": str(item.get("Health") or item["State"])}
        for item in map(json.loads, lines)
    ]
