"""Is the machine fit for what the model makes of it? What to ask the machines, and what their answers mean. Pure.

`validate --live` stands around it: it sends the questions through the Salt master (the module `preflight` of the
formula answers on each machine) and prints the problems. What is demanded is pillar: `preflight`, from the roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reclass_model.errors import Problem
from reclass_model.inventory import Node, get

LISTENING_SECONDS = 15  #: how long machines wait for each other
CLOCK = "clock"  #: the port (preflight:port:clock) at which the config machine tells its time
CONNECTIONS_SHOWN = 5


def questions(nodes: Iterable[Node]) -> dict[str, dict[str, Any]]:
    """Machine → what the module `preflight` is asked there."""
    machines = list(nodes)
    asked = {}
    for node in machines:
        own = _roles(node)
        filesystems = [wanted for _, wanted in _present(node, "preflight:filesystem")]
        others = [
            (name, [get(other.parameters, "_param:address"), int(port["port"])])
            for other in machines
            if other.name != node.name
            for name, port in _present(other, "preflight:port")
            if not (roles := _keys(port.get("from"))) or roles & own
        ]
        asked[node.name] = {
            "listen": sorted({int(port["port"]) for _, port in _present(node, "preflight:port")}),
            "connect": [place for _, place in others],
            "sessions": sorted(
                {int(port["port"]) for _, port in _present(node, "preflight:port") if port.get("session")}
            ),
            "clock": [place for name, place in others if name == CLOCK],
            "mtu": get(node.parameters, "preflight:mtu", 1500),
            "modules": [name for name, _ in _present(node, "linux:kernel:module")],
            "paths": [path for path, _ in _present(node, "preflight:disk")]
            + [wanted["mount"] for wanted in filesystems if not _disk(wanted)],
            "names": [name for name, _ in _present(node, "linux:network:host")],
            "foreign": dict(_present(node, "preflight:foreign")),
            "devices": [disk for wanted in filesystems if (disk := _disk(wanted))],
            "seconds": LISTENING_SECONDS,
        }
    return asked


def judge(
    node: Node, asked: Mapping[str, Any], facts: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong with a machine, and (W240) what it could not look at. `asked`: its `questions`.

    `names`: address → machine, to speak of the others by name.
    """

    def problem(code: str, message: str, hint: str) -> Problem:
        return Problem(code, message, node=node.name, hint=hint)

    systems = [
        name
        for name, system in _present(node, "preflight:system")
        if _keys(system.get("without")).isdisjoint(node.applications)
    ]
    if facts["system"] not in systems:
        yield problem("E240", f"runs {facts['system']}", f"install one of: {', '.join(systems)}")
    for name in [name for name, there in facts["modules"].items() if not there]:
        yield problem(
            "E241", f"its kernel has no module {name}", "install the distribution's kernel with all modules"
        )
    needed = sum(int(amount) for _, amount in _present(node, "preflight:memory"))
    if facts["memory"] < needed:
        what = f"has {facts['memory']} MiB of memory, its roles need {needed}"
        yield problem(
            "E242", what, "add memory, or take a role away (preflight:memory says which needs what)"
        )
    filesystems = [wanted for _, wanted in _present(node, "preflight:filesystem")]
    room = _present(node, "preflight:disk")
    room += [(wanted["mount"], wanted.get("gib", 0)) for wanted in filesystems if not _disk(wanted)]
    for path, gib in room:
        if facts["disk"][path] < float(gib):
            what = f"{facts['disk'][path]} GiB are free for {path}, {gib} are needed"
            yield problem("E243", what, "make room or mount a larger disk there")
    closed = [[address, port] for address, port, _ in facts["unreachable"]]
    if facts["clock"] is None and any(place not in closed for place in asked["clock"]):
        what = "the config machine did not tell it the time, so its clock was not checked"
        yield problem("W240", what, "on the config machine: ss -ltnp shows who else listens on that port")
    if facts["clock"] is not None and abs(facts["clock"]) > _clock_limit(node):
        what = f"its clock is {-facts['clock']:+.1f} s off the config machine's"
        yield problem("E244", what, "synchronise it: apt-get install chrony, and check its servers")
    shown = facts["unreachable"][:CONNECTIONS_SHOWN]
    for address, port, why in shown:
        what = f"cannot reach {names.get(address, address)} at {address}:{port} ({why})"
        yield problem(
            "E245", what, f"open TCP {port} from {get(node.parameters, '_param:address')} in between"
        )
    if len(facts["unreachable"]) > len(shown):
        more = len(facts["unreachable"]) - len(shown)
        yield problem("E245", f"cannot reach {more} more ports", "the ones named first are often the cause")
    mtu = get(node.parameters, "preflight:mtu", 1500)
    blocked = {address for address, _, _ in facts["unreachable"]}
    if facts["not_pinged"]:
        what = f"it has no ping, so whether packets of {mtu} bytes arrive was not checked"
        yield problem("W240", what, "apt-get install iputils-ping")
    for address in [address for address in facts["too_small"] if address not in blocked]:
        what = f"packets of {mtu} bytes do not reach {names.get(address, address)}"
        yield problem("E246", what, "set the MTU of the interfaces and switches in between, or preflight:mtu")
    unknown = [name for name, got in facts["names"].items() if not got]
    if unknown:
        others = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        hint = f"its states write the names to /etc/hosts; if they have run: getent hosts {unknown[0]}"
        yield problem("W240", f"does not know the machine {unknown[0]}{others} by name", hint)
    for name, host in _present(node, "linux:network:host"):
        got = facts["names"].get(name) or []
        if got and host.get("address") not in got and not all(_is_loopback(address) for address in got):
            what = f"takes {name} for {', '.join(got)}, the model says {host.get('address')}"
            yield problem("E247", what, "mend its DNS or /etc/hosts")
    for name, where in facts["foreign"]:
        shows = f"dpkg -S {where}" if where.startswith("/") else f"systemctl status {where.split()[-1]}"
        yield problem(
            "E248", f"{name} is there and is not ours ({where})", f"remove what brought it: {shows}"
        )
    for wanted in filesystems:
        if disk := _disk(wanted):
            yield from _device(node, disk, wanted, facts["devices"][disk])


def judge_clocks(nodes: Iterable[Node], facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """The two machines whose clocks are furthest apart, if that is too far, though each is near the config machine's.

    `facts`: machine → its answer. The config machine asks nobody the time and is 0 s off itself.
    """
    ahead: list[tuple[float, str, float]] = []
    for node in nodes:
        told = facts[node.name]["clock"]
        own = 0.0 if any(name == CLOCK for name, _ in _present(node, "preflight:port")) else None
        limit = _clock_limit(node)
        if (seconds := own if told is None else -told) is not None and abs(seconds) <= limit:
            ahead.append((seconds, node.name, limit))
    if not ahead:
        return
    (earliest, one, limit), (latest, other, other_limit) = min(ahead), max(ahead)
    if latest - earliest > max(limit, other_limit):
        what = f"its clock is {latest - earliest:.1f} s ahead of the one of {one}"
        hint = "synchronise both: apt-get install chrony, and check their servers"
        yield Problem("E244", what, node=other, hint=hint)


def _clock_limit(node: Node) -> float:
    """Seconds."""
    return float(get(node.parameters, "preflight:clock", 1))


def _device(
    node: Node, device: str, wanted: Mapping[str, Any], there: Mapping[str, Any] | None
) -> Iterator[Problem]:
    if there is None:
        what, hint = f"has no disk {device}", "`lsblk` shows what it has; name that in the model"
    elif there["gib"] < float(wanted.get("gib", 0)):
        what, hint = f"{device} has {there['gib']} GiB, {wanted['gib']} are needed", "put a larger disk in"
    elif there["content"] and there["mounted"] != wanted["mount"]:
        what = f"{device} is not free: {there['content']} on it"
        hint = f"if nothing on it is wanted: wipefs --all {device}"
    else:
        return
    yield Problem("E249", what, node=node.name, hint=hint)


def _disk(filesystem: Mapping[str, Any]) -> str:
    """The device that a filesystem has for itself; "" where it is in the system's own."""
    return str((filesystem.get("disk") or {}).get("device") or "")


def _present(node: Node, path: str) -> list[tuple[str, Any]]:
    return [
        (name, value) for name, value in (get(node.parameters, path, None) or {}).items() if value is not None
    ]


def _keys(mapping: Mapping[str, Any] | None) -> set[str]:
    return {key for key, value in (mapping or {}).items() if value is not None}


def _roles(node: Node) -> set[str]:
    return {name.removeprefix("system.role.") for name in node.classes if name.startswith("system.role.")}


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")
