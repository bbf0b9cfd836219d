"""Nodes taken out of service and given back, for orchestrations: run on a machine that has kubectl (role config).

A node that we drain carries an annotation until it is given back, so that an upgrade that was interrupted goes on.
"""

import json

from salt.exceptions import CommandExecutionError

KUBECONFIG = "/etc/kubernetes/admin.kubeconfig"
DRAINED = "ostack-k8s.io/drained"


def upgrade(wanted):
    """What the version `wanted` means for the cluster: {"running", "refused", "kubelets", "nodes"}.

    `running` is "" when no API answers (nothing to upgrade); `refused`: why this step is not allowed; `kubelets`: the
    version of each node's; `nodes`: those where it is another, or that an interrupted upgrade left drained, by name.
    """
    listed = __salt__["kubectl.run"](KUBECONFIG, "get", "nodes", "-o", "json")
    version = __salt__["kubectl.run"](KUBECONFIG, "get", "--raw", "/version")
    if listed["retcode"] or version["retcode"]:
        return {"running": "", "refused": "", "kubelets": {}, "nodes": []}
    running = json.loads(version["stdout"])["gitVersion"].removeprefix("v")
    items = {node["metadata"]["name"]: node for node in json.loads(listed["stdout"])["items"]}
    kubelets = {
        name: node["status"]["nodeInfo"]["kubeletVersion"].removeprefix("v") for name, node in items.items()
    }
    nodes = [
        name
        for name, node in items.items()
        if kubelets[name] != wanted or DRAINED in node["metadata"].get("annotations", {})
    ]
    refused = ""
    if _minor(wanted) > _minor(running) + 1:
        refused = f"from {running} to {wanted} would skip a minor version: go there one by one"
    elif _numbers(wanted) < _numbers(running):
        refused = f"{wanted} is older than {running}, which runs: Kubernetes does not go back"
    return {"running": running, "refused": refused, "kubelets": kubelets, "nodes": sorted(nodes)}


def same_version(wanted, machines):
    """Fail where Kubernetes `wanted` is not what runs on these machines: another one comes machine by machine.

    Where no API answers there is nothing to hold it against.
    """
    about = upgrade(wanted)
    others = {version for name, version in about["kubelets"].items() if name in machines} | {about["running"]}
    if others := sorted(others - {"", wanted}):
        raise CommandExecutionError(
            f"Kubernetes {', '.join(others)} runs, the model says {wanted}: bring it machine by machine "
            "with `salt-run state.orch ostack.upgrade`, then run this again"
        )
    return f"{wanted} runs" if about["running"] else "no API answers yet"


def drain(names, timeout=600):
    """Cordon these nodes and move their pods away, as their disruption budgets allow; fails when that takes longer.

    All are cordoned first, so that no pod moves from one of them to the next. Where a cluster has one node only it is
    left alone: there is nowhere to go. More nodes are never drained all at once.
    """
    listed = json.loads(_kubectl("get", "nodes", "-o", "json"))["items"]
    there = [name for name in names if any(node["metadata"]["name"] == name for node in listed)]
    if len(there) == len(listed):
        if len(there) > 1:
            raise CommandExecutionError(
                f"{', '.join(there)} are all nodes there are: their pods have nowhere to go (one rack? leave `by` out)"
            )
        return "no other node: nothing is moved"
    for name in there:
        _kubectl("annotate", "node", name, "--overwrite", f"{DRAINED}=true")
        _kubectl("cordon", name)
    for name in there:
        _kubectl(
            "drain",
            name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            f"--timeout={timeout}s",
        )
    return f"drained: {', '.join(there)}"


def give_back(names, timeout=180):
    """Wait until these nodes are Ready, then let pods come again."""
    for name in names:
        _kubectl("wait", "--for=condition=Ready", f"node/{name}", f"--timeout={timeout}s")
        node = json.loads(_kubectl("get", "node", name, "-o", "json"))
        if DRAINED in node["metadata"].get("annotations", {}):
            _kubectl("uncordon", name)
            _kubectl("annotate", "node", name, f"{DRAINED}-")
    return f"in service: {', '.join(names)}"


def remove(name, timeout=600):
    """Take a node out of the cluster: drained when its kubelet answers, then deleted. One that is not there is fine."""
    got = __salt__["kubectl.run"](KUBECONFIG, "get", "node", name, "-o", "json")
    if got["retcode"]:
        if "NotFound" in got["stderr"]:
            return f"{name} is no node"
        raise CommandExecutionError(got["stderr"])
    conditions = json.loads(got["stdout"])["status"].get("conditions", [])
    if any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
        drain([name], timeout)
    _kubectl("delete", "node", name)
    return f"{name} is gone"


def _minor(version):
    return _numbers(version)[1]


def _numbers(version):
    return [int(number) for number in version.split("-")[0].split(".")]


def _kubectl(*arguments):
    done = __salt__["kubectl.run"](KUBECONFIG, *arguments)
    if done["retcode"]:
        raise CommandExecutionError(
            f"kubectl {' '.join(arguments)}: {(done['stderr'] or done['stdout']).strip()}"
        )
    return done["stdout"]
