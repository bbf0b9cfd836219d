"""The machines of a model as containers: what each is made of, and making, watching, breaking and removing them.

`blueprints` is pure (model → what to create); the rest talks to the engine. Containers are named
`<cluster>-<short host name>` and carry the label `ostack-k8s.lab=<cluster>`, so that nothing but the engine has to
remember what belongs to a lab.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes_formula.lab.place import Place
from reclass_model.errors import OperatorError
from reclass_model.inventory import get

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from reclass_model.inventory import Node

LAB = "ostack-k8s.lab"  #: label: the cluster
MACHINE = "ostack-k8s.lab.machine"  #: label: the machine's fqdn
ADDRESS = "ostack-k8s.lab.address"
OWNER = "ostack-k8s.lab.owner"  #: label: who holds the keys it was made with (age public key)
BLUEPRINT = "ostack-k8s.lab.blueprint"  #: label: digest of what the container was made from
ROLE_CLASS = "system.role."
BUNDLE = "/srv/ostack-k8s/bundle"  #: where the config machine sees the bundle, which it serves
BUILDER_SOCKET = "/run/docker.sock"  #: where the config machine sees the engine that builds images
VOLUMES = {
    "containerd": "/var/lib/containerd",
    "etcd": "/var/lib/etcd",
    "glusterd": "/var/lib/glusterd",
    "srv": "/srv",
}  #: kept over re-creation
INIT = ["/lib/systemd/systemd"]
DIRECTORIES = "kubernetes:pool:directory"
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "ostack-k8s-lab"  #: where system.lab puts the pods of the lab's machines in the host's tree
BOOT_SECONDS = 60
FAULTS = ("kill", "pause", "partition", "restart")


@dataclass(frozen=True)
class Blueprint:
    """One machine of the model."""

    name: str  #: fqdn
    address: str  #: on the underlay network
    roles: frozenset[str]
    container: str  #: the container's name
    kept: tuple[str, ...] = ()  #: directories of its own that outlive the container, as VOLUMES do


@dataclass(frozen=True)
class Machine:
    """One machine as it is now."""

    name: str
    address: str
    state: str  #: running, paused, partitioned, exited, created …
    system: str = ""  #: what systemd says of it: running, degraded (a unit failed) …
    minion: str = ""  #: its Salt minion: active, or what systemd calls it
    applied: str = ""  #: the commit of the last complete run of its states
    bgp: str = ""  #: its BGP sessions, those that are up of all: 4/5; "" for none
    down: tuple[str, ...] = ()  #: those that are not up: peer, state, what went wrong last
    node: str = ""  #: in Kubernetes: Ready, NotReady, "" for no node


def blueprints(nodes: Iterable[Node], cluster: str, only: Collection[str] = ()) -> tuple[Blueprint, ...]:
    """The machines to make, in the order they are brought up: config, masters, the rest.

    `only` keeps these roles, the config machine, which commands the others, and for machines that run pods the masters.

    Raises OperatorError E805 when no machine has one of the roles.
    """
    found, with_pods = [], set()
    for node in nodes:
        roles = frozenset(
            name.removeprefix(ROLE_CLASS) for name in node.classes if name.startswith(ROLE_CLASS)
        )
        container = f"{cluster}-{node.name.partition('.')[0]}"
        directories = get(node.parameters, DIRECTORIES, None) or {}
        held = (VOLUMES["srv"], *directories)
        kept = tuple(
            path for path in sorted(directories) if not any(path.startswith(f"{other}/") for other in held)
        )
        found.append(Blueprint(node.name, str(node.parameters["_param"]["address"]), roles, container, kept))
        if node.runs_pods:
            with_pods.add(node.name)
    known = frozenset().union(*(machine.roles for machine in found))
    if unknown := sorted(set(only) - known):
        raise OperatorError(
            f"no machine has the role {unknown[0]!r}",
            code="E805",
            hint=f"roles of this model: {', '.join(sorted(known))}",
        )
    wanted = {"config", *only}
    if any(machine.name in with_pods for machine in found if machine.roles & wanted):
        wanted.add("kube_master")
    chosen = [machine for machine in found if not only or machine.roles & wanted]
    return tuple(
        sorted(chosen, key=lambda m: ("config" not in m.roles, "kube_master" not in m.roles, m.name))
    )


def configuration(
    machine: Blueprint,
    everyone: Iterable[Blueprint],
    place: Place,
    image: str,
    bundle: Path,
    builder: Path | None,
    owner: str,
) -> dict[str, Any]:
    """What Docker's API takes to create this machine (Engine API, ContainerCreate).

    `owner` is the public key of the lab's operator.
    All capabilities but SYS_RESOURCE instead of `Privileged`, which fails where the host itself lacks that one.
    """
    binds = ["/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    binds += [f"{machine.container}-{name}:{path}" for name, path in VOLUMES.items()]
    binds += [f"{machine.container}-{path.strip('/').replace('/', '-')}:{path}" for path in machine.kept]
    if "config" in machine.roles:
        binds.append(f"{bundle}:{BUNDLE}:ro")
        binds.append(f"{place.guest}:{place.guest}:ro")  # where the model says that it is
        if builder is not None:
            binds.append(f"{builder}:{BUILDER_SOCKET}")
    wanted: dict[str, Any] = {
        "Image": image,
        "Hostname": machine.name,
        "Cmd": INIT,
        # the second is for newer systemd on hosts with version 1 cgroups
        "Env": ["container=docker", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"],
        "StopSignal": "SIGRTMIN+3",
        "HostConfig": {
            "Binds": binds,
            "CapAdd": ["ALL"],
            "CapDrop": ["SYS_RESOURCE"],
            "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "MaskedPaths": [],
            "ReadonlyPaths": [],
            "DeviceCgroupRules": ["a *:* rwm"],
            "CgroupnsMode": "host",
            "Tmpfs": {"/run": "exec", "/tmp": "exec"},
            "ExtraHosts": [
                f"{host}:{other.address}"
                for other in everyone
                if other.name != machine.name  # Docker adds the machine itself
                for host in (other.name, other.name.partition(".")[0])
            ],
        },
        "NetworkingConfig": attachment(place, machine.address),
    }
    return labelled(wanted, place, machine.name, machine.address, owner)


def attachment(place: Place, address: str) -> dict[str, Any]:
    """NetworkingConfig of a container on the lab's network."""
    return {"EndpointsConfig": {place.network: {"IPAMConfig": {"IPv4Address": address}}}}


def labelled(wanted: Mapping[str, Any], place: Place, name: str, address: str, owner: str) -> dict[str, Any]:
    """What to create, with the labels by which the lab knows it and what it was made from.

    The names of the other machines are left out of that: one more or less makes none of them anew.
    """
    host = {key: value for key, value in wanted["HostConfig"].items() if key != "ExtraHosts"}
    blueprint = json.dumps({**wanted, "HostConfig": host}, sort_keys=True)
    digest = hashlib.sha256(blueprint.encode()).hexdigest()[:12]
    labels = {LAB: place.cluster, MACHINE: name, ADDRESS: address, BLUEPRINT: digest, OWNER: owner}
    return {**wanted, "Labels": labels}


def ensure_network(engine: docker.DockerClient, place: Place, subnet: str, taken: Collection[str]) -> None:
    """The underlay network: the model's addresses, no way out (routed to the host, never translated).

    The host itself has the first address that is not `taken`.

    Raises OperatorError E806 when the engine refuses it, most often because the addresses are in use on this host.
    """
    import docker

    if engine.networks.list(names=[f"^{place.network}$"]):
        return
    gateway = next(str(host) for host in ipaddress.ip_network(subnet).hosts() if str(host) not in taken)
    try:
        engine.networks.create(
            place.network,
            driver="bridge",
            labels={LAB: place.cluster},
            options={"com.docker.network.bridge.enable_ip_masquerade": "false"},
            ipam=docker.types.IPAMConfig(
                pool_configs=[docker.types.IPAMPool(subnet=subnet, gateway=gateway)]
            ),
        )
    except docker.errors.APIError as error:
        raise OperatorError(
            f"cannot make the network {place.network} with {subnet}: {error.explanation}",
            code="E806",
            hint="`ip route` shows who uses these addresses; `docker network ls` shows other labs",
        ) from error


def ensure_way_out(engine: docker.DockerClient, place: Place, name: str) -> None:
    """The builder's way to the distribution's mirrors: the config machine alone has a second, translated network."""
    if not engine.networks.list(names=[f"^{place.outside}$"]):
        engine.networks.create(place.outside, driver="bridge", labels={LAB: place.cluster})
    container = engine.containers.get(name)
    if place.outside not in container.attrs["NetworkSettings"]["Networks"]:
        engine.networks.get(place.outside).connect(container)


def ensure_machine(engine: docker.DockerClient, name: str, wanted: Mapping[str, Any]) -> str:
    """Create and start the container if it is missing, stopped or made from another blueprint; says what was done.

    Raises OperatorError E815 for a machine whose keys are not this lab's.
    Its volumes outlive it: a machine with a new node image keeps its etcd, its images, /srv
    and what pods keep in directories of the machine.
    """
    import docker

    done = "created"
    try:
        container = engine.containers.get(name)
    except docker.errors.NotFound:
        pass
    else:
        if container.labels.get(OWNER) != wanted["Labels"][OWNER]:
            raise OperatorError(
                f"{name} is a machine of another lab of the same name: it has other keys than this model",
                code="E815",
                hint="remove that one first: ostack-k8s lab down",
            )
        if container.labels.get(BLUEPRINT) == wanted["Labels"][BLUEPRINT]:
            if container.status == "running":
                return "running"
            _heal(engine, container)
            return "started"
        container.remove(force=True)
        done = "replaced"
    for volume in _volumes(wanted):
        engine.volumes.create(volume, labels={key: wanted["Labels"][key] for key in (LAB, MACHINE)})
    engine.api.create_container_from_config(dict(wanted), name)
    engine.containers.get(name).start()
    return done


def wait_for_boot(container: Container) -> str:
    """systemd's own verdict (`running`, `degraded`). Raises OperatorError E807 when it does not come up."""
    until = time.monotonic() + BOOT_SECONDS
    state = ""  # what systemd said last
    while time.monotonic() < until:
        state = str(container.exec_run(["systemctl", "is-system-running"]).output.decode()).strip()
        if state in ("running", "degraded"):
            return state
        time.sleep(0.5)
    raise OperatorError(
        f"{container.name} did not boot in {BOOT_SECONDS} s (systemd says {state!r})",
        code="E807",
        hint=f"docker exec {container.name} journalctl -b; docker logs {container.name}",
    )


def containers(engine: docker.DockerClient, cluster: str) -> list[Container]:
    return sorted(
        engine.containers.list(all=True, filters={"label": f"{LAB}={cluster}"}), key=lambda c: str(c.name)
    )


def anyones(engine: docker.DockerClient) -> bool:
    """Whether a machine of any lab is there."""
    return bool(engine.containers.list(all=True, filters={"label": LAB}))


def find(engine: docker.DockerClient, cluster: str, name: str) -> Container:
    """The machine by its fqdn or short name. Raises OperatorError E808 when the lab has none of that name."""
    present = containers(engine, cluster)
    for container in present:
        fqdn = container.labels[MACHINE]
        if name in (fqdn, fqdn.partition(".")[0]):
            return container
    there = ", ".join(container.labels[MACHINE] for container in present)
    raise OperatorError(
        f"the lab of {cluster} has no machine {name!r}",
        code="E808",
        hint=f"it has: {there}" if there else "nothing runs; start it with `ostack-k8s lab up`",
    )


def observe(container: Container, place: Place) -> Machine:
    state = str(container.status)
    attached = place.network in container.attrs["NetworkSettings"]["Networks"]
    if state == "running" and not attached:
        state = "partitioned"
    return Machine(container.labels[MACHINE], container.labels[ADDRESS], state)


def examine(container: Container, machine: Machine) -> Machine:
    """A running machine with its health: systemd, minion, BGP, applied commit."""
    if machine.state != "running" or container.attrs["Config"]["Cmd"] != INIT:  # a switch has no more to say
        return machine
    done = container.exec_run(["sh", "-c", _HEALTH]).output.decode(errors="replace")
    system, minion, sessions, applied = [*done.split("\n", 3), "", "", "", ""][:4]
    bgp, *down = sessions.split("\t")
    try:
        revision = str(json.loads(applied)["revision"])[:12]
    except (ValueError, KeyError):
        revision = ""
    return replace(machine, system=system, minion=minion, bgp=bgp, down=tuple(down), applied=revision)


#: One line: 4/5, and after a tab each session that is not up. A row of birdc: name (with the peer's address), BGP,
#: table, up or not, since when, state, what went wrong last.
_SESSIONS = r"""birdc -s /run/calico/bird.ctl show protocols 2> /dev/null | awk '
    $2 == "BGP" && $6 == "Established" {n++; up++}
    $2 == "BGP" && $6 != "Established" {
        n++; sub(/^[^_]*_/, "", $1); gsub(/_/, ".", $1); $2 = $3 = $4 = $5 = ""; gsub(/ +/, " "); down = down "\t" $0
    }
    END {print n ? up + 0 "/" n down : ""}'"""
_HEALTH = f"""systemctl is-system-running; systemctl is-active salt-minion; {_SESSIONS}
    cat /etc/ostack-k8s/applied"""


def readiness(container: Container) -> dict[str, str]:
    """Node → Ready or NotReady, as this master's API says; {} when it does not answer."""
    query = "{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
    kubectl = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.kubeconfig", "--request-timeout=3s"]
    done = container.exec_run([*kubectl, "get", "nodes", "-o", f"jsonpath={query}"])
    if done.exit_code != 0:
        return {}
    rows = [line.split() for line in done.output.decode().splitlines()]
    return {row[0]: "Ready" if row[1:] == ["True"] else "NotReady" for row in rows if row}


def inflict(engine: docker.DockerClient, place: Place, kind: str, container: Container) -> None:
    """One fault: `kill` (power cut), `pause` (hang), `partition` (cable out), `restart` (which also heals these).

    A machine that has it already stays as it is. Raises OperatorError E809 for one that cannot have it.
    """
    if kind not in FAULTS:
        raise OperatorError(f"unknown fault {kind!r}", code="E809", hint=f"known: {', '.join(FAULTS)}")
    state = observe(container, place).state
    runs = state in ("running", "partitioned", "paused")
    if kind == "restart":
        _heal(engine, container)
    elif kind == "kill":
        if state == "paused":  # the engine kills none that hangs
            container.unpause()
        if runs:
            container.kill()
    elif not runs or (kind, state) == ("partition", "paused"):
        name = container.labels[MACHINE]
        raise OperatorError(
            f"{kind} cannot be done to {name}: it is {state}",
            code="E809",
            hint=f"first: ostack-k8s lab fault restart {name}",
        )
    elif kind == "pause" and state != "paused":
        container.pause()
    elif kind == "partition" and state != "partitioned":
        engine.networks.get(place.network).disconnect(container, force=True)


def remove(engine: docker.DockerClient, place: Place) -> None:
    """Containers, volumes and network of this lab; interrupted, and run again, it goes on.

    What is found by another thing goes before it: the image that empties volumes and the volumes of labs that did not
    label them by the containers, the cgroups' names by the volumes.
    """
    present = containers(engine, place.cluster)
    ours = {"label": f"{LAB}={place.cluster}"}
    names = {f"{container.name}-{volume}" for container in present for volume in VOLUMES}
    volumes = {volume.name: volume for volume in engine.volumes.list(filters=ours)}
    volumes |= {volume.name: volume for volume in engine.volumes.list() if volume.name in names}
    known = {container.labels[MACHINE] for container in present}
    known |= {(volume.attrs["Labels"] or {}).get(MACHINE, "") for volume in volumes.values()}
    if volumes and present:
        _release_mount_points(engine, str(present[0].attrs["Image"]), sorted(volumes))
    for container in present:
        container.remove(force=True, v=True)
    for machine in known - {""}:
        _remove_cgroups(machine)
    for volume in volumes.values():
        volume.remove(force=True)
    for network in engine.networks.list(filters=ours):
        network.remove()


def _volumes(wanted: Mapping[str, Any]) -> list[str]:
    """The named volumes of a container that is to be created."""
    return [bind.partition(":")[0] for bind in wanted["HostConfig"].get("Binds", ()) if bind[0] != "/"]


def _release_mount_points(engine: docker.DockerClient, image: str, volumes: Collection[str]) -> None:
    """Empty mount points on the machines' /srv are immutable (state mount_point): the engine could not remove them."""
    engine.containers.run(
        image,
        ["sh", "-c", "chattr -i /volume/*/ostack-k8s/shared/* 2> /dev/null || true"],
        cap_add=["LINUX_IMMUTABLE"],
        remove=True,
        volumes={name: {"bind": f"/volume/{name}", "mode": "rw"} for name in volumes},
    )


def _heal(engine: docker.DockerClient, container: Container) -> None:
    """Back to a freshly started machine, from whatever state. A hard stop: systemd would wait for every pod."""
    cluster = container.labels[LAB]
    network = engine.networks.get(Place(cluster).network)
    if container.status == "paused":
        container.unpause()
    if container.status in ("running", "paused"):
        container.kill()
    if network.name not in container.attrs["NetworkSettings"]["Networks"]:
        engine.api.connect_container_to_network(
            container.id, network.id, ipv4_address=container.labels[ADDRESS]
        )
    container.start()


def _remove_cgroups(machine: str) -> None:
    """The pods' cgroups that a removed machine left in the host's tree (cgroups of version 1 or 2)."""
    for pattern in (f"{CGROUP}/{machine}", f"*/{CGROUP}/{machine}"):
        for left in CGROUPS.glob(pattern):
            folders = [Path(folder) for folder, _, _ in os.walk(left, topdown=False)]
            for folder in (*folders, left.parent):
                with suppress(
                    OSError
                ):  # one may still be in use, and the parent is that of other machines too
                    folder.rmdir()
