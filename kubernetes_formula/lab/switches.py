"""Top-of-rack switches of a lab: one container with BIRD for each switch that the model's machines speak BGP with.

`switches` is pure (model → who a switch is and whom it knows), and so is `missing`: a rack whose machines peer with no
switch gets one of the lab's own. A switch is a container of the lab as the machines are: the same network, the same
faults, gone with the lab. It takes routes and announces none; this host sends it what is for the addresses of Services.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubernetes_formula.lab import machines
from kubernetes_formula.lab.place import Place
from reclass_model.inventory import get

if TYPE_CHECKING:
    import docker

    from reclass_model.inventory import Node

PEERS = "calico:bgp:peer"
BALANCER = "calico:balancer:cidr"
#: The configuration comes with the environment, so that another one is another blueprint.
_COMMAND = (
    'mkdir -p /run/bird && printf %s "$BIRD" > /etc/bird/bird.conf && exec bird -f -s /run/bird/bird.ctl'
)


@dataclass(frozen=True)
class Switch:
    """One switch, as the machines' pillars name it."""

    name: str
    address: str
    number: int  #: its autonomous system
    password: str | None  #: as in the pillar: may be a sealed secret
    machines: Mapping[str, tuple[str, int]]  #: name → address and autonomous system


def switches(nodes: Iterable[Node]) -> tuple[Switch, ...]:
    """The switches of a model, each with the machines of its rack (of every rack, if it names none)."""
    peers: dict[str, Mapping[str, Any]] = {}
    members: dict[str, dict[str, tuple[str, int]]] = {}
    for node in nodes:
        known = get(node.parameters, PEERS, None)
        if not known or not node.runs_pods:
            continue
        own = (
            str(get(node.parameters, "calico:node:address")),
            int(get(node.parameters, "calico:bgp:as_number")),
        )
        rack = get(node.parameters, "_param:rack", None)
        for name, peer in known.items():
            if peer is not None and peer.get("rack") in (None, rack):
                peers[name] = peer
                members.setdefault(name, {})[node.name] = own
    return tuple(
        Switch(name, peer["address"], int(peer["as_number"]), peer.get("password"), members[name])
        for name, peer in sorted(peers.items())
    )


def missing(nodes: Iterable[Node], own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The lab's own switches: a peer (as in the model, but for its password) for each rack whose machines have none.

    `own`: those that the model has from an earlier derivation; they stay as they are while their rack needs one.
    """
    everyone = list(nodes)
    members = [node for node in everyone if node.runs_pods and get(node.parameters, PEERS, None) is not None]
    if len(members) < 2:  # there is nothing between one machine and itself
        return {}
    racks = {str(rack) for node in members if (rack := get(node.parameters, "_param:rack", None))}
    peers = {
        name: peer
        for node in members
        for name, peer in get(node.parameters, PEERS).items()
        if peer is not None and name not in own
    }
    served = (
        racks if any("rack" not in peer for peer in peers.values()) else {p["rack"] for p in peers.values()}
    )
    found = {name: dict(peer) for name, peer in own.items() if peer["rack"] in racks - served}
    addresses = {str(value) for node in everyone for value in node.parameters["_param"].values()}
    addresses |= {peer["address"] for peer in (*peers.values(), *found.values())}
    numbers = {get(members[0].parameters, "calico:bgp:as_number")}
    numbers |= {peer["as_number"] for peer in (*peers.values(), *found.values())}
    network = ipaddress.ip_network(get(members[0].parameters, "_param:underlay_network"))
    for rack in sorted(racks - served - {peer["rack"] for peer in found.values()}):
        # machines are numbered from the first address on, switches from the last one back
        address = next(
            text for last in range(2, network.num_addresses) if (text := str(network[-last])) not in addresses
        )
        number = next(number for number in range(65001, 65535) if number not in numbers)
        addresses.add(address)
        numbers.add(number)
        name = "lab-" + re.sub(r"[^a-z0-9]+", "-", rack.lower()).strip("-")
        found[name] = {"address": address, "as_number": number, "rack": rack}
    return found


def bird(switch: Switch, reveal: Callable[[Any], Any]) -> str:
    """The switch's bird.conf (BIRD 1.6)."""
    lines = [
        f"router id {switch.address};",
        "protocol device { scan time 2; }",
        "protocol kernel { scan time 5; import none; export all; }",
    ]
    password = f' password "{reveal(switch.password)}";' if switch.password else ""
    for name, (address, number) in sorted(switch.machines.items()):
        protocol = name.partition(".")[0].replace("-", "_")
        lines.append(
            f"protocol bgp {protocol} {{ local {switch.address} as {switch.number}; neighbor {address} as {number};"
            f"{password} connect retry time 5; keepalive time 3; hold time 9; import all; export none; }}"
        )
    return "\n".join(lines) + "\n"


def ensure_route(
    engine: docker.DockerClient, image: str, nodes: Iterable[Node], switch: Switch
) -> str | None:
    """This host's route, by a switch, to what machines announce for Services, if they do; it goes with the lab."""
    for node in nodes:
        if node.runs_pods and (addresses := get(node.parameters, BALANCER, None)):
            route = ["ip", "route", "replace", str(addresses), "via", switch.address]
            engine.containers.run(image, route, network_mode="host", cap_add=["NET_ADMIN"], remove=True)
            return str(addresses)
    return None


def configuration(
    switch: Switch, place: Place, image: str, owner: str, reveal: Callable[[Any], Any]
) -> dict[str, Any]:
    """What Docker's API takes to create the switch, with the labels of a machine."""
    return machines.labelled(
        {
            "Image": image,
            "Hostname": switch.name,
            "Cmd": ["sh", "-ec", _COMMAND],
            "Env": [f"BIRD={bird(switch, reveal)}"],
            "StopSignal": "SIGKILL",
            "HostConfig": {"CapAdd": ["NET_ADMIN"], "Sysctls": {"net.ipv4.ip_forward": "1"}},
            "NetworkingConfig": machines.attachment(place, switch.address),
        },
        place,
        switch.name,
        switch.address,
        owner,
    )
