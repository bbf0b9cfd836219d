"""One `lab up` from nothing to a deployed cloud: the list of actions, in order, each of which may be done already.

Everything before the overlay is the lab's own work; the overlay's actions (images, deploy, smoke) are given by the
caller, which knows images and rollouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes_formula.lab import derivation, image, machines, provisioning, states, wheel
from kubernetes_formula.lab import engine as engines
from kubernetes_formula.lab.place import Place, cache_root
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Action:
    """One step of bringing a lab up, for the reader of its progress."""

    name: str
    run: Callable[[Repository], None]  #: takes the lab's derived repo


@dataclass
class Session:
    """What the actions share: what is asked for, and what the earlier ones found."""

    source: Repository
    place: Place
    engine: docker.DockerClient
    progress: Progress
    only: Collection[str] = ()
    bundle: Path | None = None
    rehearse: bool = False
    node_image: str = field(init=False, default="")
    everyone: tuple[machines.Blueprint, ...] = field(init=False, default=())

    def bring_up(self, overlay: Sequence[Action] = ()) -> Repository:
        """Run all actions; the derived repo. Any of them may raise OperatorError; run again, it goes on there."""
        repository = derivation.derive(self.source, self.place, self.progress)
        for action in (
            Action("bundle", self.fill_bundle),
            Action("node image", self.make_node_image),
            Action("network and machines", self.start_machines),
            Action("software and identity", self.provision),
            Action("model", self.deliver),
            Action("states", self.apply_states),
            Action("kubeconfig", self.write_kubeconfig),
            *overlay,
            Action("model", self.deliver),
        ):
            self._timed(action, repository)
        return repository

    def fill_bundle(self, repository: Repository) -> None:
        """The given bundle, or one built from source in the cache; its checksums go into the derived repo."""
        from kubernetes_formula import bundle

        recipe = get(Inventory(repository).config_node().parameters, "bundle")
        if self.bundle is None:
            self.bundle = cache_root() / "bundle"
            artifacts = bundle.build(self.bundle, recipe, True, self.progress)
        else:
            artifacts = bundle.inspect(self.bundle, recipe)
        repository.commit("Checksums of the lab's bundle", [bundle.record(repository, artifacts)])

    def make_node_image(self, _: Repository) -> None:
        self.node_image = image.ensure(self.engine, self.progress)

    def start_machines(self, repository: Repository) -> None:
        assert self.bundle is not None, "the bundle comes first"
        inventory = Inventory(repository)
        everyone = machines.blueprints(inventory.nodes(), self.place.cluster)
        self.everyone = machines.blueprints(inventory.nodes(), self.place.cluster, self.only)
        subnet = str(get(inventory.config_node().parameters, "_param:underlay_network"))
        builder = engines.socket_path(self.engine)
        owner = " ".join(repository.settings.recipients.operators.values())
        machines.ensure_network(self.engine, self.place, subnet)
        for machine in self.everyone:
            wanted = machines.configuration(
                machine, everyone, self.place, self.node_image, self.bundle.resolve(), builder, owner
            )
            done = machines.ensure_machine(self.engine, machine.container, wanted)
            if "config" in machine.roles:
                machines.ensure_way_out(self.engine, self.place, machine.container)
            self.progress(f"{machine.name} ({machine.address}): {done}")
        for machine in self.everyone:
            machines.wait_for_boot(self._container(machine))

    def provision(self, _: Repository) -> None:
        name, content = wheel.build()
        for machine in self.everyone:
            container = self._container(machine)
            if provisioning.install(container, name, content):
                self.progress(f"{machine.name}: {name} installed")
            identity = derivation.identity_of(self.place, machine.name)
            provisioning.introduce(container, machine.name, identity)

    def deliver(self, repository: Repository) -> None:
        """The model's HEAD onto every machine; after the overlay once more, for what that committed (a lock)."""
        for machine in self.everyone:
            if provisioning.deliver(self._container(machine), repository):
                self.progress(f"{machine.name}: model at {repository.describe('HEAD')}")

    def apply_states(self, _: Repository) -> None:
        """Config machine and masters first, at the same time (each waits for its peers), then the rest."""
        first = [machine for machine in self.everyone if machine.roles & {"config", "kube_master"}]
        rest = [machine for machine in self.everyone if machine not in first]
        with ThreadPoolExecutor() as pool:
            for wave in (first, rest):
                list(pool.map(self._apply, wave))

    def _apply(self, machine: machines.Blueprint) -> None:
        container = self._container(machine)
        announced = states.apply(container, machine.name, test=True) if self.rehearse else None
        done = states.apply(container, machine.name)
        states.demand_success(done, machine.name)
        self.progress(f"{machine.name}: {done.states} states, {len(done.changed)} changed something")
        if announced is not None:
            again = states.apply(container, machine.name)
            states.demand_truth(announced, done, again, machine.name)
            self.progress(f"{machine.name}: test=True told the truth; a second run changed nothing")

    def write_kubeconfig(self, repository: Repository) -> None:
        from kubernetes_formula.rollout.access import kubeconfig

        kubeconfig(repository, Keyring(self.place.identity / "operator.age"), self.place.kubeconfig)

    def _container(self, machine: machines.Blueprint) -> Container:
        return self.engine.containers.get(machine.container)

    def _timed(self, action: Action, repository: Repository) -> None:
        started = time.monotonic()
        self.progress(f"• {action.name}")
        action.run(repository)
        self.progress(f"✓ {action.name} ({time.monotonic() - started:.1f} s)")
