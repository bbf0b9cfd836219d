"""etcd's membership as etcdctl tells and changes it, for the states of a member (root's client certificate)."""

import json

from salt.exceptions import CommandExecutionError

CREDENTIALS = [
    "--cacert=/etc/etcd/pki/client-ca.crt",
    "--cert=/etc/etcd/pki/etcd-root.crt",
    "--key=/etc/etcd/pki/etcd-root.key",
]


def members(addresses):
    """Members as the first of `addresses` that answers lists them ([{id, name, peer, started, learner}]), or None.

    A list needs a quorum: None also means that there is a cluster which cannot decide anything now.
    """
    for address in addresses:
        done = _etcdctl([address], "member", "list", "--write-out=json")
        if done["retcode"] == 0:
            return [_member(entry) for entry in json.loads(done["stdout"])["members"]]
    return None


def change(addresses, *arguments):
    """`etcdctl member ARGUMENTS` through any of `addresses`: {retcode, stdout, stderr}."""
    return _etcdctl(addresses, "member", *arguments)


def forget(name):
    """Remove the member `name`, asked of this machine's own member; one that is not there is fine."""
    listed = members(["127.0.0.1"])
    if listed is None:
        raise CommandExecutionError("etcd does not answer on this machine, or has no quorum")
    for member in listed:
        if member["name"] == name:
            done = change(["127.0.0.1"], "remove", member["id"])
            if done["retcode"]:
                raise CommandExecutionError(done["stderr"])
            return f"{name} is no member any more"
    return f"{name} was no member"


def _member(entry):
    return {
        "id": f"{entry['ID']:x}",
        "name": entry.get("name", ""),
        "peer": (entry.get("peerURLs") or [""])[0],
        "started": bool(entry.get("clientURLs")),
        "learner": bool(entry.get("isLearner")),
    }


def _etcdctl(addresses, *arguments):
    if not __salt__["cmd.has_exec"]("etcdctl"):
        return {"retcode": 127, "stdout": "", "stderr": "etcdctl is not installed"}
    endpoints = ",".join(f"https://{address}:2379" for address in addresses)
    command = [
        "etcdctl",
        f"--endpoints={endpoints}",
        "--dial-timeout=2s",
        "--command-timeout=5s",
        *CREDENTIALS,
    ]
    return __salt__["cmd.run_all"]([*command, *arguments], python_shell=False, ignore_retcode=True)
