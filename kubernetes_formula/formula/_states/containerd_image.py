"""Container images of the bundle in containerd's Kubernetes namespace, pinned against garbage collection.

An image carries the checksum of the archive it came from as a label: an archive that changed under the same name is
imported again. Needs a running containerd; before there is one, test mode says what it would import.
"""

PINNED = "io.cri-containerd.pinned"
SOURCE = "ostack-k8s.io/sha256"


def present(name, artifact, source, sha256):
    """Have the image `name` from the archive at `source`, pinned."""
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is imported"}
    labels = _labels(name)
    if sha256 and labels.get(PINNED) == "pinned" and labels.get(SOURCE) == sha256:
        return ret
    ret["changes"] = {name: {"old": labels.get(SOURCE), "new": sha256}}
    if not sha256:
        return __salt__["bundle.without_checksum"](ret, artifact)
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{name} would be imported from {source}"}
    try:
        _ctr("images", "import", "--local", __salt__["bundle.fetch"](source, sha256))
        _ctr("images", "label", name, f"{PINNED}=pinned", f"{SOURCE}={sha256}")
    except (OSError, ValueError) as error:
        return {**ret, "result": False, "changes": {}, "comment": f"{name} from {source}: {error}"}
    return {**ret, "comment": f"{name} imported from {source}"}


def _labels(name):
    """Labels of the image; none when it, or containerd, is not there."""
    if not __salt__["cmd.has_exec"]("ctr"):
        return {}
    command = ["ctr", "-n", "k8s.io", "images", "ls", f"name=={name}"]
    listed = __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)
    rows = listed["stdout"].splitlines()[1:] if listed["retcode"] == 0 else []
    return dict(label.split("=", 1) for row in rows for label in row.split()[-1].split(",") if "=" in label)


def _ctr(*arguments):
    done = __salt__["cmd.run_all"](["ctr", "-n", "k8s.io", *arguments], python_shell=False)
    if done["retcode"] != 0:
        raise ValueError(done["stderr"] or done["stdout"])
