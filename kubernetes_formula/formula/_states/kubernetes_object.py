"""Objects in the Kubernetes API by server-side apply through kubectl, for the first master and the machine's own needs.

The difference that `kubectl diff` finds is the change, in test mode too. With no API to ask yet, test mode names what
would be created.
"""

import json
import os
import re

KUBECONFIG = "/etc/kubernetes/admin.kubeconfig"
OWNER = ["--server-side", "--force-conflicts", "--field-manager=ostack-k8s-salt"]
# In test mode: what an earlier state of the same run brings.
NOT_YET = re.compile(r"no matches for kind|namespaces \S+ not found")


def present(name, objects=(), file=None, kubeconfig=KUBECONFIG):
    """Have `objects` (a list of manifests) in the cluster as given, or those in the YAML file `file`."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "nothing differs"}
    names = [file] if file else [f"{item['kind']}/{item['metadata']['name']}" for item in objects]
    would = {**ret, "result": None, "changes": {"would create": names}, "comment": "would create them"}
    if __opts__["test"] and (not _answers(kubeconfig) or (file and not os.path.exists(file))):
        return would
    manifest = None if file else json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    source = ["-f", file or "-"]
    diff = __salt__["kubectl.run"](kubeconfig, "diff", *OWNER, *source, stdin=manifest)
    if diff["retcode"] == 0:
        return ret
    if __opts__["test"] and NOT_YET.search(diff["stderr"]):
        return would
    if diff["retcode"] > 1:
        return {**ret, "result": False, "comment": diff["stderr"] or diff["stdout"]}
    ret["changes"] = {"diff": diff["stdout"]}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be applied"}
    done = __salt__["kubectl.run"](kubeconfig, "apply", *OWNER, *source, stdin=manifest)
    if done["retcode"] != 0:
        return {**ret, "result": False, "changes": {}, "comment": done["stderr"] or done["stdout"]}
    return {**ret, "comment": done["stdout"]}


def only(name, kind, keep, kubeconfig=KUBECONFIG):
    """Have no objects of `kind` (cluster-wide ones) but those in `keep`: what the model no longer has goes."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "there are no others"}
    if __opts__["test"] and not _answers(kubeconfig):
        return ret
    listed = __salt__["kubectl.run"](kubeconfig, "get", kind, "-o", "jsonpath={.items[*].metadata.name}")
    if listed["retcode"] != 0:
        unknown = __opts__["test"] and "doesn't have a resource type" in listed["stderr"]
        return ret if unknown else {**ret, "result": False, "comment": listed["stderr"]}
    others = sorted(set(listed["stdout"].split()) - set(keep))
    if not others:
        return ret
    ret["changes"] = {kind: {"old": others, "new": None}}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be deleted"}
    done = __salt__["kubectl.run"](kubeconfig, "delete", kind, *others)
    if done["retcode"] != 0:
        return {**ret, "result": False, "changes": {}, "comment": done["stderr"]}
    return {**ret, "comment": done["stdout"]}


def _answers(kubeconfig):
    return __salt__["kubectl.run"](kubeconfig, "get", "--raw", "/readyz")["retcode"] == 0
