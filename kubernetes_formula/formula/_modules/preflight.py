"""What a machine is and can reach, before anything is touched. Facts only: `ostack-k8s validate --live` judges them.

All machines run this at the same time: each listens for a while on the ports that its roles will use, and meanwhile
connects to those of the others, so that firewalls in between show, both ways. A listener tells its time to whoever
connects.
"""

import concurrent.futures
import contextlib
import json
import os
import selectors
import socket
import subprocess
import threading
import time

OURS = "Managed by ostack-k8s"
CLOCK_ANSWERS = 3
UNITS = (  # in systemd's order: the first one wins
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


def facts(questions):
    """The answers of this machine; `questions` is {machine: {…}} for all, each with what `_answers` takes."""
    return _answers(**questions[__grains__["id"]])


def _answers(listen, connect, sessions, clock, mtu, modules, paths, names, foreign, devices, seconds):
    """`listen`, `sessions`: ports; `connect`, `clock`: [address, port] pairs; `paths` to `devices`: what to look at."""
    end = time.monotonic() + seconds
    servers = _bind(listen)
    listener = threading.Thread(target=_serve, args=(servers.values(), end), daemon=True)
    listener.start()
    connect = [place for place in connect if place[1] not in sessions or place[1] in servers]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        reached = list(pool.map(lambda place: _reach(*place, end), connect))
        offsets = list(pool.map(lambda place: _offset(*place, end), clock))
        addresses = sorted({address for address, _ in connect})
        passes = list(pool.map(lambda address: _passes(address, mtu), addresses))
    found = {
        "system": __grains__["osfinger"],
        "memory": __grains__["mem_total"],
        "modules": {name: _has_module(name) for name in modules},
        "disk": {path: _free(path) for path in paths},
        "names": {name: _resolve(name) for name in names},
        "foreign": _foreign(foreign),
        "devices": {device: _device(device) for device in devices},
        "unreachable": [[*place, why] for place, why in zip(connect, reached, strict=True) if why],
        "not_pinged": [address for address, fits in zip(addresses, passes, strict=True) if fits is None],
        "too_small": [address for address, fits in zip(addresses, passes, strict=True) if fits is False],
        "clock": next((offset for offset in offsets if offset is not None), None),
    }
    listener.join()
    return found


def _bind(ports):
    """{port: socket} for those that nobody has yet."""
    servers = {}
    for port in ports:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setblocking(False)
        try:
            server.bind(("0.0.0.0", port))
            server.listen(64)
        except (
            OSError
        ):  # whoever has it answers instead: ours, or a foreign program, which is looked for by name
            server.close()
            continue
        servers[port] = server
    return servers


def _serve(servers, end):
    """Take connections until `end`; each gets this machine's time and is closed."""
    selector = selectors.DefaultSelector()
    for server in servers:
        selector.register(server, selectors.EVENT_READ)
    while (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            # whoever is gone by now is no reason to let the others wait
            with contextlib.suppress(OSError), key.fileobj.accept()[0] as connection:
                connection.sendall(f"{time.time()}\n".encode())
    for server in servers:
        server.close()


def _reach(address, port, end):
    """Why a port cannot be reached until `end`, or ""; tried once at least, however late its turn comes."""
    while True:
        try:
            socket.create_connection((address, port), 2).close()
            return ""
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() >= end:
            return why
        time.sleep(0.5)


def _offset(address, port, end):
    """Seconds by which the clock at `address` is ahead of this one; None when it does not tell.

    Of a few answers the quickest counts: the others are wrong by as much as they were late.
    """
    answers = []
    while time.monotonic() < end and len(answers) < CLOCK_ANSWERS:
        try:
            before = time.time()
            with socket.create_connection((address, port), 2) as connection:
                told = float(connection.recv(64))
            after = time.time()
            answers.append((after - before, round(told - (before + after) / 2, 3)))
        except (OSError, ValueError):
            time.sleep(0.5)
    return min(answers)[1] if answers else None


def _passes(address, mtu):
    """Whether a packet of `mtu` bytes gets there in one piece; None where ping cannot say."""
    command = ["ping", "-c", "2", "-W", "2", "-M", "do", "-s", str(mtu - 28), address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.returncode == 0


def _has_module(name):
    if os.path.isdir(f"/sys/module/{name}"):
        return True
    try:
        return subprocess.run(["modprobe", "-n", "-q", name], check=False).returncode == 0
    except OSError:
        return False


def _free(path):
    """Free GiB where `path` is or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    there = os.statvfs(path)
    return round(there.f_bavail * there.f_frsize / 2**30, 1)


def _resolve(name):
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, socket.AF_INET)})
    except OSError:
        return []


def _foreign(programs):
    """What is of others: [name, where], `where` a process ("process 4711"), or the file of what may start one day.

    `programs`: name → its `process`, its systemd `unit` and a `path` that only it fills, each where it has one.
    """
    found = []
    running = _processes()
    for name, program in sorted(programs.items()):
        unit = program.get("unit", "")
        file = _unit_file(unit) if unit else ""
        ours = bool(file) and OURS in _text(file)
        strange = [
            f"process {pid}"
            for pid, (process, cgroups) in sorted(running.items())
            if process == program.get("process") and not (ours and f"/{unit}.service" in cgroups)
        ]
        if file and not ours and not strange:
            strange.append(file)
        path = program.get("path")
        if path and os.path.isdir(path) and os.listdir(path):
            strange.append(path)
        found += [[name, where] for where in strange]
    return found


def _processes():
    """{pid: (name, its control groups)} of what runs on this machine, without what runs in its pods."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, cgroups = _text(f"/proc/{pid}/comm").strip(), _text(f"/proc/{pid}/cgroup")
        except OSError:  # it has ended
            continue
        if "kubepods" not in cgroups:
            found[int(pid)] = name, cgroups
    return found


def _unit_file(unit):
    """The file that systemd reads a service from; "" where there is none, or it is masked."""
    for directory in UNITS:
        path = os.path.join(directory, f"{unit}.service")
        if os.path.exists(path):
            return "" if os.path.realpath(path) == os.devnull else path
    return ""


def _text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _device(path):
    """A block device: its size in GiB and what is on it ("" = nothing); None when it is not there."""
    command = ["lsblk", "--json", "--bytes", "--output", "SIZE,FSTYPE,MOUNTPOINT,TYPE", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    device = json.loads(done.stdout)["blockdevices"][0]
    content = "partitions" if device.get("children") else device["fstype"] or ""
    return {
        "gib": round(int(device["size"]) / 2**30, 1),
        "content": content,
        "mounted": device["mountpoint"] or "",
    }
