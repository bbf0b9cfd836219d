"""A machine's membership of etcd. There is one way in, for the first cluster, for growing and for replacing.

The founder alone starts a cluster, of itself; every other member adds itself as a learner to the cluster that
answers, starts, and is promoted when it has the data. A learner has no vote, so a newcomer that fails costs nothing;
etcd takes one learner at a time, so newcomers that come together wait for each other. What etcd is told at its first
start is in a file that is gone as soon as it has a vote: a changed list of members restarts nobody, and a member whose
data is lost does not start by itself, as if it had never voted; it joins anew.
"""

import os
import shutil
import time


def joined(name, address, members, founder, data, timeout=300):
    """Before etcd's first start: have a place in the cluster, and how to take it in the environment file `name`.

    `members`: {name: address} of the model; `founder`: who may start a cluster when no other member answers.
    """
    machine = __grains__["id"]
    ret = {"name": name, "result": True, "changes": {}, "comment": "is a member"}
    if _has_data(data):
        return ret
    others = {other: at for other, at in members.items() if other != machine}
    listed = __salt__["etcd.members"](others.values()) if others else None
    if __opts__["test"]:
        how = "would start a cluster" if listed is None and machine == founder else "would join as a learner"
        return {**ret, "result": None, "changes": {machine: how}, "comment": how}
    if machine == founder and listed is None:
        _write(name, machine, f"{machine}=https://{address}:2380", "new")
        return {**ret, "changes": {machine: "starts a cluster"}, "comment": "starts a cluster"}
    end = time.monotonic() + timeout
    while True:
        try:
            cluster = _join(machine, address, members, others.values(), listed)
            _write(name, machine, cluster, "existing")
            return {**ret, "changes": {machine: "learner"}, "comment": f"joins {cluster}"}
        except ValueError as error:
            if time.monotonic() > end:
                return {**ret, "result": False, "comment": f"cannot join in {timeout} s: {error}"}
        time.sleep(1)
        listed = __salt__["etcd.members"](others.values())


def voting(name, address, members, founder, data, first_start, timeout=120):
    """After the start: be a full member. A learner is promoted as soon as etcd finds that it has caught up.

    `first_start`: the file of `joined`, which has served then.
    """
    machine = __grains__["id"]
    ret = {"name": name, "result": True, "changes": {}, "comment": "has a vote"}
    others = [at for other, at in members.items() if other != machine]
    if __opts__["test"]:
        listed = __salt__["etcd.members"]([*others, address])
        own = _own(listed or [], address)
        newcomer = not _has_data(data) and (machine != founder or listed is not None)
        if newcomer or (own and own["learner"]):
            return {**ret, "result": None, "changes": {machine: "promoted"}, "comment": "would be promoted"}
        return ret
    end = time.monotonic() + timeout
    said = "no member answers"
    while True:
        listed = __salt__["etcd.members"]([*others, address])
        own = _own(listed or [], address)
        if own and not own["learner"]:
            _forget(first_start)
            return ret
        if own:
            done = __salt__["etcd.change"](others, "promote", own["id"])
            if done["retcode"] == 0:
                _forget(first_start)
                return {**ret, "changes": {machine: "promoted"}, "comment": "promoted"}
            said = done["stderr"]
        elif listed is not None:
            said = f"the cluster has no member at {address}"
        if time.monotonic() > end:
            return {
                **ret,
                "result": False,
                "comment": f"no vote in {timeout} s: {said}; `journalctl -u etcd`",
            }
        time.sleep(1)


def only(name, members):
    """Have no member that the model does not list: one that is gone for good, or was taken out."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "all members are the model's"}
    listed = __salt__["etcd.members"](members.values()) or []
    strangers = _strangers(listed, members)
    if not strangers:
        return ret
    ret["changes"] = {member["name"] or member["peer"]: "removed" for member in strangers}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be removed"}
    try:
        _remove(members.values(), strangers)
    except ValueError as error:
        return {**ret, "result": False, "changes": {}, "comment": str(error)}
    return {**ret, "comment": "removed"}


def restored(name, snapshot, address, data):
    """Put a snapshot in place of this member's data (the old is kept beside it), as a cluster of this machine alone.

    etcd must not run. Revisions are raised and older ones marked compacted, so that no watcher goes on from before.
    """
    machine = __grains__["id"]
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if not os.path.isfile(snapshot):
        return {**ret, "result": False, "comment": f"there is no snapshot {snapshot!r} on {machine}"}
    ret["changes"] = {machine: f"restored from {snapshot}"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be restored"}
    fresh, peer = os.path.join(data, "restored"), f"https://{address}:2380"
    shutil.rmtree(fresh, ignore_errors=True)
    command = ["etcdutl", "snapshot", "restore", snapshot, f"--data-dir={fresh}", f"--name={machine}"]
    command += [f"--initial-cluster={machine}={peer}", f"--initial-advertise-peer-urls={peer}"]
    command += ["--bump-revision=1000000000", "--mark-compacted"]
    done = __salt__["cmd.run_all"](command, python_shell=False)
    if done["retcode"] != 0:
        return {**ret, "result": False, "changes": {}, "comment": done["stderr"] or done["stdout"]}
    _set_aside(data)
    os.replace(os.path.join(fresh, "member"), os.path.join(data, "member"))
    shutil.rmtree(fresh)
    __salt__["cmd.run"](["chown", "-R", "etcd:etcd", data], python_shell=False)
    return {**ret, "comment": f"restored from {snapshot}"}


def forgotten(name, data):
    """Set this member's data aside: at its next start it joins anew. etcd must not run."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "there is no data"}
    if not os.path.isdir(os.path.join(data, "member")):
        return ret
    ret["changes"] = {name: "set aside"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be set aside"}
    return {**ret, "comment": f"kept as {_set_aside(data)}"}


def _has_data(data):
    return os.path.isdir(os.path.join(data, "member", "wal"))


def _forget(path):
    if os.path.exists(path):
        os.unlink(path)


def _set_aside(data):
    member = os.path.join(data, "member")
    if not os.path.isdir(member):
        return None
    aside = os.path.join(data, time.strftime("member.%Y%m%d-%H%M%S"))
    os.rename(member, aside)
    return aside


def _own(listed, address):
    return next((member for member in listed if member["peer"] == f"https://{address}:2380"), None)


def _strangers(listed, members):
    known = {f"https://{address}:2380" for address in members.values()}
    return [member for member in listed if member["peer"] not in known]


def _join(machine, address, members, others, listed):
    """The initial cluster to start with, after adding ourselves to it; ValueError: not yet, and why."""
    if listed is None:
        raise ValueError(f"none of {', '.join(others)} answers with a quorum: apply the states there first")
    _remove(others, _strangers(listed, members))
    own = _own(listed, address)
    if own and own["started"]:  # the member that this machine was, before its data was lost
        _remove(others, [own])
        own = None
    if own is None:
        peer = f"--peer-urls=https://{address}:2380"
        done = __salt__["etcd.change"](others, "add", machine, "--learner", peer)
        if done["retcode"] != 0:
            raise ValueError(done["stderr"] or done["stdout"])
    listed = __salt__["etcd.members"](others) or []
    if _own(listed, address) is None:
        raise ValueError("the cluster does not list this machine yet")
    return ",".join(f"{member['name'] or machine}={member['peer']}" for member in listed)


def _remove(addresses, gone):
    for member in gone:
        done = __salt__["etcd.change"](addresses, "remove", member["id"])
        if done["retcode"] != 0 and "not found" not in done["stderr"]:
            raise ValueError(f"cannot remove {member['name'] or member['peer']}: {done['stderr']}")


def _write(path, machine, cluster, state):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(f"# Read at etcd's first start only; written by Salt for {machine}.\n")
        file.write(f"ETCD_INITIAL_CLUSTER={cluster}\nETCD_INITIAL_CLUSTER_STATE={state}\n")
    os.replace(path + ".new", path)
