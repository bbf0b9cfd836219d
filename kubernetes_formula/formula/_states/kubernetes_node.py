"""Labels and taints of a Node, set by the master: a kubelet may not choose its own.

A machine that has not joined yet is no error: it gets them with the next run. The machine that runs this state
(`joins` true) is waited for.
"""

import json
import time

OURS = "ostack-k8s.io/"
LISTED, LISTED_SECONDS = "ostack-k8s nodes", 10


def reconciled(
    name,
    labels,
    annotations=None,
    taints=None,
    joins=False,
    timeout=120,
    kubeconfig="/etc/kubernetes/admin.kubeconfig",
):
    """Give the Node `name` these labels (others under ostack-k8s.io/ go) and taints ({key: {value, effect}}).

    An annotation whose value is None goes; others than the given are left alone.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "labels and taints are as wanted"}
    waits = joins and not __opts__["test"]
    node = _wait(kubeconfig, name, timeout) if waits else _listed(kubeconfig).get(name)
    if node is None:
        if __opts__["test"]:
            comment = "would be labelled when it has joined"
            return {**ret, "result": None, "changes": {"labels": labels}, "comment": comment}
        if joins:
            comment = f"{name} has not joined in {timeout} s: `journalctl -u kubelet`"
            return {**ret, "result": False, "comment": comment}
        return {**ret, "comment": f"{name} has not joined: it gets its labels with the next run"}
    patch, changes = _difference(node, labels, taints or {}, annotations or {})
    if not patch:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "would be changed"}
    # Taints are written as a whole, and others write some of them: those of this moment.
    node = _wait(kubeconfig, name, 0) or node
    patch, changes = _difference(node, labels, taints or {}, annotations or {})
    done = __salt__["kubectl.run"](kubeconfig, "patch", "node", name, "--type=merge", "-p", json.dumps(patch))
    if done["retcode"] != 0:
        return {**ret, "result": False, "comment": done["stderr"]}
    return {**ret, "changes": changes, "comment": "changed"}


def noted(name, annotations, timeout=60, kubeconfig="/var/lib/kubelet/kubeconfig"):
    """Give the machine's own Node these annotations, as its kubelet may.

    A machine that does not join in `timeout` seconds is no error: the next run notes them.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "it is noted"}
    test = __opts__["test"]
    node = _wait(kubeconfig, name, 0 if test else timeout)
    if node is None and not test:
        return {**ret, "comment": f"{name} has not joined in {timeout} s: the next run notes it"}
    have = node["metadata"].get("annotations", {}) if node else {}
    missing = {key: value for key, value in annotations.items() if have.get(key) != value}
    if not missing:
        return ret
    changes = {key: {"old": have.get(key), "new": value} for key, value in missing.items()}
    if test:
        return {**ret, "result": None, "changes": changes, "comment": "would be noted"}
    patch = json.dumps({"metadata": {"annotations": missing}})
    done = __salt__["kubectl.run"](kubeconfig, "patch", "node", name, "--type=merge", "-p", patch)
    if done["retcode"] != 0:
        return {**ret, "result": False, "comment": done["stderr"]}
    return {**ret, "changes": changes}


def only(name, keep, kubeconfig="/etc/kubernetes/admin.kubeconfig"):
    """Have no Node but those in `keep`: a machine that left the model is drained if it still answers, and deleted."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "all nodes are machines of the model"}
    if not keep:  # a model without machines for pods is more likely a mistake
        return {**ret, "comment": "the model lists no machines"}
    listed = __salt__["kubectl.run"](kubeconfig, "get", "nodes", "-o", "name")
    nodes = (
        [line.removeprefix("node/") for line in listed["stdout"].split()] if listed["retcode"] == 0 else []
    )
    if not (gone := sorted(set(nodes) - set(keep))):
        return ret
    changes = dict.fromkeys(gone, "removed")
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "would be removed"}
    for node in gone:
        __salt__["kubernetes_node.remove"](node)
    return {**ret, "changes": changes, "comment": "removed"}


def _difference(node, labels, taints, annotations):
    have = node["metadata"].get("labels", {})
    change = {key: value for key, value in labels.items() if have.get(key) != value}
    change.update({key: None for key in have if key.startswith(OURS) and key not in labels})
    ours = [
        {"key": key, **{k: v for k, v in taint.items() if v is not None}}
        for key, taint in sorted(taints.items())
    ]
    current = node["spec"].get("taints", [])
    mine = [taint for taint in current if taint["key"].startswith(OURS) or taint["key"] in taints]
    mine.sort(key=lambda taint: taint["key"])
    noted = node["metadata"].get("annotations", {})
    note = {key: value for key, value in annotations.items() if noted.get(key) != value}
    patch, changes = {}, {}
    for kind, old, new in (("labels", have, change), ("annotations", noted, note)):
        if new:
            patch.setdefault("metadata", {})[kind] = new
            changes[kind] = {"old": {key: old.get(key) for key in new}, "new": new}
    if mine != ours:
        patch["spec"] = {"taints": [taint for taint in current if taint not in mine] + ours}
        changes["taints"] = {"old": mine, "new": ours}
    return patch, changes


def _listed(kubeconfig):
    """Every Node by its name, asked once in a run: a state for each of many would ask as often."""
    asked, nodes = __context__.get(LISTED, (0.0, {}))
    if time.monotonic() - asked > LISTED_SECONDS:
        got = __salt__["kubectl.run"](kubeconfig, "get", "nodes", "-o", "json")
        found = json.loads(got["stdout"])["items"] if got["retcode"] == 0 else []
        nodes = {node["metadata"]["name"]: node for node in found}
        __context__[LISTED] = (time.monotonic(), nodes)
    return nodes


def _wait(kubeconfig, name, timeout):
    """The Node, or None when it is not there after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        got = __salt__["kubectl.run"](kubeconfig, "get", "node", name, "-o", "json")
        if got["retcode"] == 0:
            return json.loads(got["stdout"])
        if time.monotonic() >= end:
            return None
        time.sleep(1)
