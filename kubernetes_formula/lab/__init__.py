"""The lab: the machines of a deployment repo as systemd containers, deployed as production is.

`up` derives a repo of its own from the given one, starts a container per machine, has the Salt master apply the states
and runs the overlay's actions it is given. `down` leaves nothing but the cached node image.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from kubernetes_formula.lab import engine as engines
from kubernetes_formula.lab import machines
from kubernetes_formula.lab.machines import FAULTS, Machine
from kubernetes_formula.lab.place import Place
from kubernetes_formula.lab.session import Action, Session
from kubernetes_formula.rollout.access import kept_at
from reclass_model.inventory import Inventory
from reclass_model.library import require_match
from reclass_model.repository import Repository

__all__ = [
    "FAULTS",
    "Action",
    "LabState",
    "Machine",
    "differences",
    "down",
    "execute",
    "fault",
    "status",
    "up",
]


@dataclass(frozen=True)
class LabState:
    """A lab as it is now."""

    nodes: tuple[Machine, ...]
    kubeconfig: Path
    model: Path  #: the derived repo: `ostack-k8s -C MODEL …` works on the lab
    differences: tuple[str, ...] = ()  #: from bare metal, in words


def up(
    repository: Repository,
    *,
    only: Collection[str] = (),
    docker_host: str | None = None,
    start_docker: bool = False,
    bundle: Path | None = None,
    rehearse: bool = False,
    overlay: Sequence[Action] = (),
    progress: Callable[[str], None],
) -> LabState:
    """Bring the lab of `repository` up, or go on where an earlier try stopped.

    `only`: role names (kube_master …); `bundle`: a filled bundle (None: built from source into the cache);
    `rehearse`: also run the states in test mode before and once more after, and demand that both agree;
    `overlay`: what follows the machines, given the derived repo.
    Raises OperatorError E80x (engine, image, machines), E81x (states, model), and what the overlay raises.
    """
    place = _place(repository)
    # What nothing can be made from is told now, not after minutes of building.
    require_match(repository)
    machines.blueprints(Inventory(repository).nodes(), place.cluster, only)
    if start_docker and docker_host is None:
        engines.start(place, progress)
    session = Session(
        repository, place, engines.connect(place, docker_host), progress, only, bundle, rehearse
    )
    session.bring_up(overlay)
    return status(repository, docker_host=docker_host)


def down(repository: Repository, *, docker_host: str | None = None) -> None:
    """Remove containers, volumes, network, derived repo and identities; stop our Docker daemon with the last lab."""
    place = _place(repository)
    engine = engines.connect(place, docker_host)
    machines.remove(engine, place)
    shutil.rmtree(place.root, ignore_errors=True)
    kept_at(place.cluster).unlink(missing_ok=True)  # the way into a cluster that is gone
    if not machines.anyones(engine):
        engines.stop(place)


def status(repository: Repository, *, docker_host: str | None = None) -> LabState:
    """The lab's machines with their health, and where its files are; no machines when it is down."""
    place = _place(repository)
    engine = engines.connect(place, docker_host)
    present = machines.containers(engine, place.cluster)
    with ThreadPoolExecutor() as pool:
        examined = pool.map(lambda one: machines.examine(one, machines.observe(one, place)), present)
    found = tuple(examined)
    running = [one for one, machine in zip(present, found, strict=True) if machine.state == "running"]
    nodes = next(filter(None, map(machines.readiness, running)), {})
    return LabState(
        tuple(replace(machine, node=nodes.get(machine.name, "")) for machine in found),
        place.kubeconfig,
        place.model,
        differences(),
    )


def differences() -> tuple[str, ...]:
    """What a lab's machine is not, in words."""
    import yaml

    text = resources.files(__package__).joinpath("differences.yml").read_text()
    return tuple(difference["what"] for difference in yaml.safe_load(text))


def execute(
    repository: Repository, node: str, command: Sequence[str], *, docker_host: str | None = None
) -> int:
    """Run a command in a machine with this process's input and output; its exit code."""
    place = _place(repository)
    engine = engines.connect(place, docker_host)
    container = machines.find(engine, place.cluster, node)
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    client = ["docker", "--host", engines.url(engine), "exec", "--interactive", *terminal]
    return subprocess.run([*client, str(container.name), *command], check=False).returncode


def fault(kind: str, repository: Repository, node: str, *, docker_host: str | None = None) -> Machine:
    """Do one of FAULTS to a machine; the machine afterwards."""
    place = _place(repository)
    engine = engines.connect(place, docker_host)
    container = machines.find(engine, place.cluster, node)
    machines.inflict(engine, place, kind, container)
    container.reload()
    return machines.observe(container, place)


def _place(repository: Repository) -> Place:
    return Place(repository.settings.cluster_name)
