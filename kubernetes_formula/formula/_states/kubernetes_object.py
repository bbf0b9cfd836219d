"""Objects in the Kubernetes API by server-side apply through kubectl, for the first master and the machine's own needs.

The difference that `kubectl diff` finds is the change, in test mode too. With no API to ask yet, test mode names what
would be created.
"""

import json

OWNER = ["--server-side", "--force-conflicts", "--field-manager=ostack-k8s-salt"]


def present(name, objects, kubeconfig="/etc/kubernetes/admin.kubeconfig"):
    """Have `objects` (a list of manifests) in the cluster as given."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "nothing differs"}
    names = [f"{item['kind']}/{item['metadata']['name']}" for item in objects]
    if __opts__["test"] and __salt__["kubectl.run"](kubeconfig, "get", "--raw", "/readyz")["retcode"] != 0:
        return {
            **ret,
            "result": None,
            "changes": {"would create": names},
            "comment": "no API yet: would create them",
        }
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    diff = __salt__["kubectl.run"](kubeconfig, "diff", *OWNER, "-f", "-", stdin=manifest)
    if diff["retcode"] == 0:
        return ret
    if diff["retcode"] > 1:
        return {**ret, "result": False, "comment": diff["stderr"] or diff["stdout"]}
    ret["changes"] = {"diff": diff["stdout"]}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be applied"}
    done = __salt__["kubectl.run"](kubeconfig, "apply", *OWNER, "-f", "-", stdin=manifest)
    if done["retcode"] != 0:
        return {**ret, "result": False, "changes": {}, "comment": done["stderr"] or done["stdout"]}
    return {**ret, "comment": done["stdout"]}
