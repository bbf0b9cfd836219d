"""Rules that cross machines: addresses, networks, membership, and whether each workload has a machine and an image.

Machines are added one at a time and only the little that the rules need is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from reclass_model.certificates import names_in
from reclass_model.checks import BUILT_IN, SMOKE, declared
from reclass_model.endpoints import CERTIFICATE, WORKLOADS, hosts
from reclass_model.errors import Problem
from reclass_model.inventory import Node, get, selects
from reclass_model.provenance import locate, origin
from reclass_model.repository import Repository
from reclass_model.sources import CONFIG_ROLE, Sources, nearest
from reclass_model.variables import used

ROLES_FILE = Path(__file__).parent.parent / "template" / "roles.yml"
ETCD_MEMBERS = "etcd:server:member"
BALANCER = "calico:balancer:cidr"
BGP = "calico:bgp"
NODES = "kubernetes:common:node"


@dataclass(frozen=True)
class _Machine:
    name: str
    address: Any
    roles: frozenset[str]
    labels: Mapping[str, Any] | None  #: None: no kubelet there


class Cluster:
    """What the rules need to know of all machines."""

    def __init__(self, repository: Repository, sources: Sources) -> None:
        self.repository, self.sources = repository, sources
        self.machines: list[_Machine] = []
        self.config: Node | None = None
        self._networks: dict[
            tuple[tuple[str, str], ...], str
        ] = {}  #: what networks there are → a machine that says so
        self._members: dict[
            str, tuple[str, dict[str, Any]]
        ] = {}  #: member list → a machine that has it, the list
        self._bgp: tuple[str, Mapping[str, Any]] | None = None  #: a machine that has it, how machines peer
        self._configs: list[str] = []

    def add(self, node: Node) -> None:
        """Take note of a machine."""
        parameters = node.parameters
        own = parameters.get("_param")
        own = own if isinstance(own, Mapping) else {}
        roles = frozenset(name.rsplit(".", 1)[1] for name in node.classes if name.startswith("system.role."))
        self.machines.append(_Machine(node.name, own.get("address"), roles, node.labels))
        networks = tuple(
            sorted((key, str(value)) for key, value in own.items() if key.endswith("_network") and value)
        )
        self._networks.setdefault(networks, node.name)
        for path in (*self._lists, ETCD_MEMBERS):
            listed = get(parameters, path, None)
            if isinstance(listed, Mapping) and path not in self._members:
                self._members[path] = (node.name, _present(listed))
        bgp = get(parameters, BGP, None)
        if isinstance(bgp, Mapping) and self._bgp is None:
            self._bgp = (node.name, bgp)
        if CONFIG_ROLE in node.classes:
            self._configs.append(node.name)
            self.config = node

    def problems(self) -> Iterator[Problem]:
        yield from self._addresses()
        for networks, node in self._networks.items():
            yield from self._overlaps(node, networks)
        yield from self._even_membership()
        for path, roles in self._lists.items():
            yield from self._membership(path, roles)
        yield from self._reflectors()
        yield from self._config_machine()
        if self.config is not None:
            for name, workload in _present(get(self.config.parameters, WORKLOADS, None) or {}).items():
                yield from self._workload(self.config, name, workload)
            yield from self._endpoints(self.config)
            yield from self._checks(self.config)

    def _at(
        self, node: str, path: str, code: str, message: str, hint: str, *, follow: bool = True
    ) -> Problem:
        place = (origin if follow else locate)(self.repository, node, path, sources=self.sources)
        file, line = (place.file, place.line) if place else (f"nodes/{node}.yml", None)
        return Problem(code, message, node, path, file, line, hint)

    # --- addresses and networks ---

    def _addresses(self) -> Iterator[Problem]:
        owner: dict[str, str] = {}
        for machine in self.machines:
            path = "_param:address"
            if machine.address is None:
                yield self._at(
                    machine.name, path, "E113", f"{machine.name} has no address", "_param: {address: …}"
                )
                continue
            try:
                address = str(ip_address(machine.address))
            except ValueError:
                what = f"{machine.address!r} is no IP address"
                yield self._at(machine.name, path, "E112", what, "for example 10.10.0.21")
                continue
            first = owner.setdefault(address, machine.name)
            if first != machine.name:
                what = f"{machine.name} has the address {address} of {first}"
                yield self._at(
                    machine.name, path, "E201", what, "`ostack-k8s node add` picks the next free one"
                )

    def _overlaps(self, node: str, networks: tuple[tuple[str, str], ...]) -> Iterator[Problem]:
        parsed = {}
        for name, text in networks:
            try:
                parsed[name] = ip_network(text)
            except ValueError as error:
                yield self._at(
                    node, f"_param:{name}", "E112", f"{name}: {error}", "for example 10.244.0.0/16"
                )
        for (name, network), (other, against) in combinations(parsed.items(), 2):
            if network.version == against.version and network.overlaps(against):
                what = f"{name} {network} overlaps {other} {against}"
                place = locate(self.repository, node, f"_param:{other}", sources=self.sources)
                hint = f"{other} is set in {place.file}:{place.line}" if place else "choose another one"
                yield self._at(node, f"_param:{name}", "E202", what, hint)

    # --- membership ---

    @cached_property
    def _lists(self) -> dict[str, frozenset[str]]:
        """Member list → the roles whose machines belong there."""
        lists: dict[str, frozenset[str]] = {}
        for role, settings in yaml.safe_load(ROLES_FILE.read_text())["role"].items():
            for path in settings["member"]:
                lists[path] = lists.get(path, frozenset()) | {role}
        return lists

    def _even_membership(self) -> Iterator[Problem]:
        node, members = self._members.get(ETCD_MEMBERS, ("", {}))
        if node and len(members) % 2 == 0:
            what = f"etcd has {len(members)} members; an even number tolerates no more failures than one less"
            what = what if members else "etcd has no members: there is no Kubernetes without one"
            yield self._at(node, ETCD_MEMBERS, "E203", what, "1, 3 or 5 members", follow=False)

    def _membership(self, path: str, roles: frozenset[str]) -> Iterator[Problem]:
        """Hold a member list against the machines and their addresses."""
        if path not in self._members:
            return
        node, members = self._members[path]
        wanted = {machine.name: machine for machine in self.machines if roles & machine.roles}
        for name in sorted(set(members) - set(wanted)):
            known = any(machine.name == name for machine in self.machines)
            what = f"{name} is in {path}, but " + (
                "has none of its roles" if known else "there is no such machine"
            )
            hint = nearest(name, sorted(wanted)) or "take it out, or give the machine the role"
            yield self._at(node, f"{path}:{name}", "E204", what, hint, follow=False)
        for name in sorted(set(wanted) - set(members)):
            what = f"{name} has the role {', '.join(sorted(roles & wanted[name].roles))}, but "
            what += f"is not in {path}"
            yield self._at(node, path, "E204", what, f"add it: {name}: …", follow=False)
        for name in sorted(set(wanted) & set(members)):
            entry = members[name]
            if isinstance(entry, Mapping) and "address" in entry and entry["address"] != wanted[name].address:
                what = f"{name} has the address {wanted[name].address}, but {entry['address']} in {path}"
                yield self._at(node, f"{path}:{name}:address", "E204", what, "make them the same")

    def _reflectors(self) -> Iterator[Problem]:
        """More machines than a full mesh takes need machines that reflect routes, and one of those may fail."""
        if self._bgp is None or NODES not in self._members:
            return
        node, bgp = self._bgp
        machines, reflectors = self._members[NODES][1], _present(bgp.get("reflector") or {})
        path = f"{BGP}:reflector"
        for name in sorted(set(reflectors) - set(machines)):
            what = f"{name} is to reflect routes, but is no machine with pods"
            hint = nearest(name, machines) or f"known: {', '.join(machines)}"
            yield self._at(node, f"{path}:{name}", "E204", what, hint, follow=False)
        limit = bgp.get("mesh_limit")
        if isinstance(limit, int) and len(machines) > limit and len(set(reflectors) & set(machines)) < 2:
            what = f"{len(machines)} machines with pods, but only up to {limit} ({BGP}:mesh_limit) all peer with one "
            what += f"another, and {len(set(reflectors) & set(machines))} reflect routes"
            hint = f"name two of them or more: {path}: {{<fqdn>: {{}}, <fqdn>: {{}}}}"
            yield self._at(node, f"{BGP}:mesh_limit", "E213", what, hint)

    def _config_machine(self) -> Iterator[Problem]:
        if len(self._configs) != 1:
            what = f"{len(self._configs)} machines have the class {CONFIG_ROLE}"
            file = f"nodes/{self._configs[1]}.yml" if self._configs else "nodes"
            names = f": {', '.join(self._configs)}" if self._configs else ""
            hint = "exactly one machine builds images and runs rollouts"
            yield Problem("E205", what + names, file=file, line=1 if self._configs else None, hint=hint)

    # --- workloads ---

    def _workload(self, config: Node, name: str, workload: Mapping[str, Any]) -> Iterator[Problem]:
        path = f"{WORKLOADS}:{name}"
        yield from self._machines_that_fit(config, path, name, workload)
        yield from self._replicas(config, path, name, workload)
        yield from self._balanced(config, path, name, workload)
        jobs = _present(workload.get("job") or {})
        for owner, entry in (
            (path, workload),
            *((f"{path}:job:{job}", entry) for job, entry in jobs.items()),
        ):
            image = entry.get("image")
            if isinstance(image, str) and get(config.parameters, f"{image}:image", None) is None:
                what = f"{name} uses the image {image!r}, which nobody defines"
                yield self._at(config.name, f"{owner}:image", "E207", what, self._image_hint(config, image))
        known = _present(get(config.parameters, WORKLOADS))
        for place in ("upgrade:after", *(f"job:{job}:after" for job in jobs)):
            for other in _present(get(workload, place, None) or {}):
                if other not in known:
                    what, hint = f"{name} follows {other!r}, which does not exist", nearest(other, known)
                    full = f"{path}:{place}:{other}"
                    yield self._at(
                        config.name, full, "E208", what, hint or "known: " + ", ".join(known), follow=False
                    )

    def _replicas(self, config: Node, path: str, name: str, workload: Mapping[str, Any]) -> Iterator[Problem]:
        """Enough pods for a majority, and a machine for each pod that keeps its data there."""
        replicas = workload.get("replicas", 1)
        if not isinstance(replicas, int):
            return  # the schema has told
        full = f"{path}:replicas"
        if workload.get("quorum") and replicas and replicas % 2 == 0:
            what = f"{name} has {replicas} pods; an even number tolerates no more failures than one less"
            yield self._at(config.name, full, "E209", what, f"{replicas - 1} or {replicas + 1}")
        for volume, entry in _present(workload.get("volume") or {}).items():
            if isinstance(entry, Mapping) and entry.get("type") == "local":
                machines = _present(entry.get("nodes") or {})
                if machines and len(machines) < replicas:
                    what = (
                        f"{name} has {replicas} pods, but {len(machines)} machines hold its volume {volume}"
                    )
                    hint = f"name one more in {path}:volume:{volume}:nodes for each pod"
                    yield self._at(config.name, full, "E209", what, hint)

    def _balanced(self, config: Node, path: str, name: str, workload: Mapping[str, Any]) -> Iterator[Problem]:
        """A Service of type LoadBalancer waits for an address that nobody gives out."""
        if workload.get("type") != "LoadBalancer":
            return
        cidr = get(config.parameters, BALANCER, None)
        if not cidr:
            hint = f"set {BALANCER}, or the type to NodePort"
            what = f"{name} wants an address, but there are none for Services"
            yield self._at(config.name, f"{path}:type", "E210", what, hint)
        elif "address" in workload and ip_address(workload["address"]) not in ip_network(cidr):
            what = f"the address {workload['address']} of {name} is not in {BALANCER} {cidr}"
            yield self._at(config.name, f"{path}:address", "E210", what, f"take one of {cidr}")

    # --- endpoints ---

    def _endpoints(self, config: Node) -> Iterator[Problem]:
        """Clients reach machines that run pods, and refuse a certificate without the name which they ask for."""
        name = get(config.parameters, CERTIFICATE, None)
        if not name:
            return
        known = _present(get(config.parameters, "pki:certificate", None) or {})
        if name not in known:
            what = f"the endpoints' certificate {name!r} is not declared"
            hint = nearest(str(name), known) or f"known: {', '.join(known)}"
            yield self._at(config.name, CERTIFICATE, "E104", what, hint)
            return
        path = f"pki:certificate:{name}:names"
        entries: dict[str, str] = {}  #: of several that are the same, the first
        for key, value in _present(known[name].get("names") or {}).items():
            entries.setdefault(str(value or key), key)
        issued = names_in(known[name].get("certificate") or "")  # one that is not there at all is E212
        asked: dict[str, str] = {}
        for place, host in hosts(config.parameters):
            asked.setdefault(host, place)
        idle = {machine.address: machine.name for machine in self.machines if machine.labels is None}
        for host, place in sorted(asked.items()):
            if host in idle:
                what = (
                    f"clients ask for {host}, the address of {idle[host]}, which runs no pods: nobody answers"
                )
                hint = "take one of a machine that runs pods, or one from calico:balancer:cidr"
                where = f"{path}:{entries[host]}" if host in entries else place
                yield self._at(config.name, where, "E215", what, hint)
                continue
            if host not in entries:
                what = f"clients ask for {host}, which is no name of the certificate {name}"
                hint = f"{path}: {{{host}: {{}}}}, then `ostack-k8s pki issue`"
            elif issued and host not in issued:
                place = f"{path}:{entries[host]}"
                what = f"clients ask for {host}, which the certificate {name} does not have yet"
                hint = "`ostack-k8s pki issue`, commit"
            else:
                continue
            yield self._at(config.name, place, "E214", what, hint)

    # --- checks ---

    def _checks(self, config: Node) -> Iterator[Problem]:
        """What a check needs was there before: workloads, values of earlier answers."""
        workloads = _present(get(config.parameters, WORKLOADS, None) or {})
        known = {BUILT_IN}
        for name, check in declared(config.parameters):
            path = f"{SMOKE}:{name}"
            for other in sorted(set(_present(check.get("needs") or {})) - set(workloads)):
                what, hint = (
                    f"the check {name} needs {other!r}, which does not exist",
                    nearest(other, workloads),
                )
                yield self._at(
                    config.name,
                    f"{path}:needs:{other}",
                    "E208",
                    what,
                    hint or "known: " + ", ".join(workloads),
                )
            given = known | set(_present(check.get("capture") or {}))
            for key, value in check.items():
                for unknown in sorted(used(value) - (given if key == "cleanup" else known)):
                    what = f"the check {name} uses {{{unknown}}}, which no check before it captures"
                    hint = nearest(unknown, sorted(known)) or f"known by then: {', '.join(sorted(known))}"
                    yield self._at(config.name, f"{path}:{key}", "E211", what, hint)
            known = given

    def _image_hint(self, config: Node, image: str) -> str:
        known = [
            f"{system}:{role}"
            for system, roles in config.parameters.items()
            if isinstance(roles, Mapping) and not system.startswith("_")
            for role, value in roles.items()
            if isinstance(value, Mapping) and value.get("image") is not None
        ]
        return nearest(image, known) or f"known: {', '.join(known)}"

    def _machines_that_fit(
        self, config: Node, path: str, name: str, workload: Mapping[str, Any]
    ) -> Iterator[Problem]:
        fit = [machine.name for machine in self.machines if selects(workload, machine.labels)]
        if not fit:
            selector = _present(workload.get("node_selector") or {})
            wanted = ", ".join(f"{key}={value}" for key, value in selector.items()) or "any node"
            labels = sorted(
                {
                    f"{key}={value}"
                    for machine in self.machines
                    for key, value in (machine.labels or {}).items()
                }
            )
            hint = f"labels there are: {', '.join(labels) or 'none'}"
            yield self._at(
                config.name, f"{path}:node_selector", "E206", f"no machine can run {name} ({wanted})", hint
            )
        for volume, entry in _present(workload.get("volume") or {}).items():
            pinned = _present(entry.get("nodes") or {}) if isinstance(entry, Mapping) else {}
            for key, value in pinned.items():
                machine = value if isinstance(value, str) else key
                if fit and machine not in fit:
                    what = f"the volume {volume} of {name} is on {machine}, where {name} cannot run"
                    hint = nearest(machine, fit) or f"machines that can: {', '.join(fit)}"
                    full = f"{path}:volume:{volume}:nodes:{key}"
                    yield self._at(config.name, full, "E206", what, hint)


def _present(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
