"""One `lab up` from nothing to a deployed cloud: the list of actions, in order, each of which may be done already.

Everything before the overlay is the lab's own work; the overlay's actions (images, deploy) are given by the
caller, which knows images and rollouts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes_formula.lab import derivation, image, machines, provisioning, switches, underlay, wheel
from kubernetes_formula.lab import engine as engines
from kubernetes_formula.lab.place import Place
from kubernetes_formula.outcome import Outcome
from reclass_model.cache import cache_directory
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
        repository.git("config", "ostack-k8s.builder", engines.url(self.engine))
        for action in (
            Action("bundle", self.fill_bundle),
            Action("node image", self.make_node_image),
            Action("network and machines", self.start_machines),
            Action("software and identity", self.provision),
            Action("model", self.deliver),
            Action("Salt master and minions", self.enlist),
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
            self.bundle = cache_directory() / "bundle"
            artifacts = bundle.build(self.bundle, recipe, True, self.progress)
        else:
            artifacts = bundle.inspect(self.bundle, recipe)
        repository.commit("Checksums of the lab's bundle", [bundle.record(repository, artifacts)])

    def make_node_image(self, _: Repository) -> None:
        self.node_image = image.ensure(self.engine, self.progress)
        image.copy_guest(self.engine, self.node_image, self.place.guest)

    def start_machines(self, repository: Repository) -> None:
        assert self.bundle is not None, "the bundle comes first"
        inventory = Inventory(repository)
        everyone = machines.blueprints(inventory.nodes(), self.place.cluster)
        self.everyone = machines.blueprints(inventory.nodes(), self.place.cluster, self.only)
        subnet = str(get(inventory.config_node().parameters, "_param:underlay_network"))
        builder = engines.socket_path(self.engine)
        owner = " ".join(repository.settings.recipients.operators.values())
        racks = switches.switches(inventory.nodes())
        taken = {machine.address for machine in everyone} | {switch.address for switch in racks}
        machines.ensure_network(self.engine, self.place, subnet, taken)
        for machine in self.everyone:
            wanted = machines.configuration(
                machine, everyone, self.place, self.node_image, self.bundle.resolve(), builder, owner
            )
            done = machines.ensure_machine(self.engine, machine.container, wanted)
            if "config" in machine.roles:
                machines.ensure_way_out(self.engine, self.place, machine.container)
            self.progress(f"{machine.name} ({machine.address}): {done}")
        here = {machine.name for machine in self.everyone}
        racks = tuple(switch for switch in racks if here & set(switch.machines))
        for switch in racks:
            reveal = Keyring(self.place.identity / "operator.age").reveal
            wanted = switches.configuration(switch, self.place, self.node_image, owner, reveal)
            done = machines.ensure_machine(self.engine, f"{self.place.cluster}-{switch.name}", wanted)
            self.progress(f"{switch.name} ({switch.address}), switch: {done}")
        if racks and (to := switches.ensure_route(self.engine, self.node_image, inventory.nodes(), racks[0])):
            self.progress(f"this host reaches {to} by {racks[0].name}")
        for machine in self.everyone:
            machines.wait_for_boot(self._container(machine))

    def provision(self, _: Repository) -> None:
        name, content = wheel.build()

        def provide(machine: machines.Blueprint) -> None:
            container = self._container(machine)
            if provisioning.install(container, name, content):
                self.progress(f"{machine.name}: {name} installed")
            identity = derivation.identity_of(self.place, machine.name)
            provisioning.introduce(container, machine.name, identity)

        self._at_once(provide, self.everyone)

    def deliver(self, repository: Repository) -> None:
        """The model's HEAD onto every machine; after the overlay once more, for what that committed (a lock)."""

        def deliver(machine: machines.Blueprint) -> None:
            if provisioning.deliver(self._container(machine), repository):
                self.progress(f"{machine.name}: model at {repository.describe('HEAD')}")

        self._at_once(deliver, self.everyone)

    def enlist(self, _: Repository) -> None:
        """The master first; from then on it has the minions' keys, and they have its."""
        self._enlist(self.everyone[0])
        self._at_once(self._enlist, self.everyone[1:])

    def _enlist(self, machine: machines.Blueprint) -> None:
        states = "salt.master,salt.minion" if "config" in machine.roles else "salt.minion"
        if underlay.enlist(self._container(machine), machine.name, states):
            self.progress(f"{machine.name}: {states.replace(',', ' and ')}")

    def apply_states(self, repository: Repository) -> None:
        """All machines in the order of `salt-run state.orch ostack.underlay`."""
        master, names = self._container(self.everyone[0]), [machine.name for machine in self.everyone]
        absent = set(repository.node_names()).difference(names)

        def apply(test: bool = False) -> dict[str, Outcome]:
            started = time.monotonic()
            outcomes = underlay.apply(master, names, absent, test=test, progress=self.progress)
            done = "announced" if test else "applied"
            self.progress(f"{len(names)} machine(s) {done} in {time.monotonic() - started:.0f} s")
            return outcomes

        announced = apply(test=True) if self.rehearse else {}
        done = apply()
        if self.rehearse:
            again = apply()
            for name in names:
                underlay.demand_truth(announced[name], done[name], again[name], name)
            self.progress("test=True told the truth on every machine; a second run changed nothing")

    def write_kubeconfig(self, repository: Repository) -> None:
        from kubernetes_formula.rollout.access import kubeconfig

        kubeconfig(repository, Keyring(self.place.identity / "operator.age"), self.place.kubeconfig)

    def _at_once(
        self, work: Callable[[machines.Blueprint], None], them: Collection[machines.Blueprint]
    ) -> None:
        """The same work on many machines, as many at a time as this host has processors."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(work, them))

    def _container(self, machine: machines.Blueprint) -> Container:
        return self.engine.containers.get(machine.container)

    def _timed(self, action: Action, repository: Repository) -> None:
        started = time.monotonic()
        self.progress(f"• {action.name}")
        action.run(repository)
        self.progress(f"✓ {action.name} ({time.monotonic() - started:.1f} s)")
