"""A machine of the model: its node file, its place in the member lists, its identity; adding and removing one.

Stands beside the repository: `generate` uses it for the machines of a new repo, `ostack-k8s node` for later ones.
Which role is named and listed how is data: template/roles.yml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any

from reclass_model.document import edit
from reclass_model.errors import OperatorError
from reclass_model.repository import SETTINGS_FILE, Repository, write_atomically

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory

TEMPLATE = Path(__file__).parent / "template"
ROLES = "roles.yml"
ROLE_CLASS = "system.role."
HOST_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*"
RESERVED = 9  #: the first hosts of the network are left to gateways and virtual addresses


@dataclass(frozen=True)
class Machine:
    """A machine as its node file says."""

    name: str  #: fqdn
    address: str
    roles: tuple[str, ...]
    rack: str = "r1"


@dataclass(frozen=True)
class Role:
    """How machines of a role are named (prefix, number), addressed (the first one's host number) and listed."""

    name: str
    prefix: str
    first: int
    several: bool  #: belongs to clouds of several machines only
    needed: bool  #: no cloud is without a machine of this role
    member: tuple[str, ...]  #: pillar paths of the member lists they join
    cluster: tuple[str, ...]  #: classes of the cluster that they alone include


@cache
def template_data(name: str) -> dict[str, Any]:
    """What a file of the template says of roles or services; it is the product's own, and read once."""
    import yaml

    data: dict[str, Any] = yaml.safe_load((TEMPLATE / name).read_text())
    return data


@cache
def roles() -> dict[str, Role]:
    """Every role, by name, in the order of template/roles.yml."""
    return {
        name: Role(
            name,
            role["prefix"],
            role["first"],
            role.get("several", False),
            role.get("needed", False),
            tuple(role["member"]),
            tuple(role.get("cluster", ())),
        )
        for name, role in template_data(ROLES)["role"].items()
    }


def node_file(machine: Machine, cluster: str) -> str:
    """The text of nodes/<fqdn>.yml: roles first, the cluster last, so that the cluster level wins."""
    classes = [
        *(ROLE_CLASS + role for role in machine.roles),
        *(f"cluster.{cluster}.{name}" for role in machine.roles for name in roles()[role].cluster),
        f"cluster.{cluster}",
        f"cluster.{cluster}.pki.{machine.name}",
    ]
    return "\n".join(
        [
            "classes:",
            *(f"- {name}" for name in classes),
            "parameters:",
            "  _param:",
            f"    hostname: {machine.name.split('.')[0]}",
            f"    address: {machine.address}",
            f"    rack: {machine.rack}",
            "",
        ]
    )


def member_files() -> tuple[str, ...]:
    """The files of classes/cluster/NAME/underlay that hold member lists."""
    return tuple(
        dict.fromkeys(f"{settings['file']}.yml" for settings in template_data(ROLES)["list"].values())
    )


def join(file: str, members: MutableMapping[str, Any], machine: Machine) -> None:
    """Enter a machine into the member lists of one file (`members`: its `parameters`)."""
    entries: dict[str, Callable[[], dict[str, Any]]] = {
        "address": lambda: {"address": machine.address},
        "roles": lambda: {
            "rack": machine.rack,
            "role": {role.removeprefix("kube_"): {} for role in machine.roles},
        },
    }
    joined = {path for role in machine.roles for path in roles()[role].member}
    for path, settings in template_data(ROLES)["list"].items():
        if path in joined and f"{settings['file']}.yml" == file:
            place = members
            for key in path.split(":"):
                place = place.setdefault(key, {})
            place[machine.name] = entries[settings["entry"]]()


def leave(members: MutableMapping[str, Any], name: str) -> None:
    """Take a machine out of every member list."""
    members.pop(name, None)
    for value in members.values():
        if isinstance(value, MutableMapping):
            leave(value, name)


def next_address(network: str, taken: Iterable[str]) -> str:
    """The first free host address of a network. Raises OperatorError E009 when it is full."""
    used = {IPv4Address(address) for address in taken}
    for number, host in enumerate(IPv4Network(network).hosts(), 1):
        if number > RESERVED and host not in used:
            return str(host)
    raise OperatorError(f"no free address is left in {network}", code="E009", hint="name one with --address")


def add(
    repository: Repository,
    name: str,
    role_names: Sequence[str],
    address: str | None,
    progress: Callable[[str], None],
) -> Path:
    """Add a machine: node file, member lists, identity (beside the operator's), certificates; its node file.

    `name` is a host name (the cluster's domain is added) or an fqdn; `address`: the next free one if None.
    Nothing is committed. Raises OperatorError E009 for a machine that exists, an unknown role, a taken address.
    """
    from reclass_model import pki, secrets
    from reclass_model.inventory import Inventory, get

    inventory = Inventory(repository)
    domain = get(inventory.config_node().parameters, "_param:cluster_domain")
    fqdn = name if "." in name else f"{name}.{domain}"
    _refuse(inventory, fqdn, role_names)
    machine = Machine(fqdn, _address(inventory, address), tuple(dict.fromkeys(role_names)))
    keyring = secrets.Keyring.find(repository)
    public = secrets.new_identity(keyring.path.parent / "machines" / f"{fqdn}.age")
    with _whole(repository, fqdn):
        _edit_members(repository, lambda file, members: join(file, members, machine))
        edit(
            repository.root / SETTINGS_FILE,
            lambda document: document["recipients"]["machines"].update({fqdn: public}),
        )
        write_atomically(repository.node_file(fqdn), node_file(machine, repository.settings.cluster_name))
        progress(f"{fqdn} {machine.address} {' '.join(machine.roles)}")
        # anew: the settings have one more recipient
        pki.issue(Repository(repository.root), keyring, progress=progress)
    return repository.node_file(fqdn)


def _refuse(inventory: Inventory, fqdn: str, role_names: Sequence[str]) -> None:
    """OperatorError E009 for a machine that cannot be, or is there."""
    if not fullmatch(HOST_NAME, fqdn):
        raise OperatorError(f"{fqdn!r} is no host name", code="E009", hint="e.g. cmp03")
    unknown = [role for role in role_names if role not in roles()]
    if unknown or not role_names:
        raise OperatorError(
            f"no role {unknown[0]!r}" if unknown else f"{fqdn} needs a role",
            code="E009",
            hint=f"roles: {', '.join(roles())}",
        )
    if inventory.repository.node_file(fqdn).exists():
        raise OperatorError(
            f"{fqdn} is there already",
            code="E009",
            file=f"nodes/{fqdn}.yml",
            hint="edit its file, or take it out with `ostack-k8s node remove` first",
        )
    if "config" in role_names:
        raise OperatorError(
            f"{inventory.config_node().name} is the config machine, and there is one only",
            code="E009",
            hint="give the new machine another role",
        )


def _address(inventory: Inventory, wanted: str | None) -> str:
    """The wanted address, or the next free one; OperatorError E009 where it is taken or not of the underlay network."""
    from reclass_model.inventory import get

    taken = {get(node.parameters, "_param:address", ""): node.name for node in inventory.nodes()}
    network = get(inventory.config_node().parameters, "_param:underlay_network")
    free = next_address(network, filter(None, taken))
    if wanted is None:
        return free
    if wanted in taken:
        raise OperatorError(
            f"{wanted} is the address of {taken[wanted]}",
            code="E009",
            file=f"nodes/{taken[wanted]}.yml",
            hint=f"the next free one is {free}",
        )
    if not _within(wanted, network):
        raise OperatorError(
            f"{wanted!r} is no host of the underlay network {network}",
            code="E009",
            hint=f"the next free one is {free}",
        )
    return wanted


def remove(repository: Repository, name: str, progress: Callable[[str], None]) -> Path:
    """Take a machine out of the model; the path its node file had. Nothing is committed.

    Its certificates stay valid until they end: the secrets it could read have to be changed by a person.
    Raises OperatorError E003 for an unknown machine, E009 for the last one of a role that every cloud needs.
    """
    from reclass_model import pki, secrets

    names = repository.node_names()
    fqdn = name if name in names else next((known for known in names if known.split(".")[0] == name), name)
    if fqdn not in names:
        raise OperatorError(f"no machine {name!r}", code="E003", hint=f"machines: {', '.join(names)}")
    _refuse_the_last(repository, fqdn)
    keyring = secrets.Keyring.find(repository)
    with _whole(repository, fqdn):
        _take_out(repository, fqdn)
        progress(f"{fqdn} is out of the model")
        # nobody knows its public keys any more
        pki.issue(Repository(repository.root), keyring, progress=progress)
    return repository.node_file(fqdn)


def _refuse_the_last(repository: Repository, fqdn: str) -> None:
    """OperatorError E009 where no other machine has a role of this one that every cloud needs."""
    from reclass_model.sources import Sources

    sources = Sources(repository)
    others = {name for node in repository.node_names() if node != fqdn for name in sources.classes(node)}
    for role in roles().values():
        name = f"{ROLE_CLASS}{role.name}"
        if role.needed and name in sources.classes(fqdn) and name not in others:
            what, hint = (
                f"{fqdn} is the last machine with the role {role.name}",
                "give the role to another first",
            )
            raise OperatorError(what, code="E009", file=f"nodes/{fqdn}.yml", hint=hint)


@contextmanager
def _whole(repository: Repository, fqdn: str) -> Iterator[None]:
    """All that is written of a machine, or nothing: an error or Ctrl-C leaves the files as they were."""
    own = {repository.node_file(fqdn), repository.pki_dir / f"{fqdn}.yml"}
    underlay = (repository.cluster_dir / "underlay" / file for file in member_files())
    shared = {repository.root / SETTINGS_FILE, *underlay, *repository.pki_dir.glob("*.yml")}
    before = {path: path.read_bytes() for path in own | shared if path.exists()}
    try:
        yield
    except BaseException:
        for path in own - before.keys():
            path.unlink(missing_ok=True)
        for path, content in before.items():
            if not path.exists() or path.read_bytes() != content:
                write_atomically(path, content)
        raise


def _take_out(repository: Repository, fqdn: str) -> None:
    repository.node_file(fqdn).unlink()
    _edit_members(repository, lambda file, members: leave(members, fqdn))
    edit(repository.root / SETTINGS_FILE, lambda document: document["recipients"]["machines"].pop(fqdn, None))
    (repository.pki_dir / f"{fqdn}.yml").unlink(missing_ok=True)


def _edit_members(repository: Repository, change: Callable[[str, MutableMapping[str, Any]], None]) -> None:
    for file in member_files():
        path = repository.cluster_dir / "underlay" / file
        edit(path, lambda document, file=file: change(file, document["parameters"]))  # type: ignore[misc]


def _within(address: str, network: str) -> bool:
    try:
        host, within = IPv4Address(address), IPv4Network(network)
    except ValueError:
        return False
    return host in within and host not in (within.network_address, within.broadcast_address)
