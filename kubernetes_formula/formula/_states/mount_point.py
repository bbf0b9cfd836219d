"""An empty directory for a mount that nobody can write into while nothing is mounted: it is immutable.

Where the filesystem knows no such attribute, it is a plain directory.
"""

import os


def present(name):
    """Have the directory `name`, immutable. Under a mount it is left as it is."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "nothing differs"}
    if os.path.ismount(name):
        return {**ret, "comment": "something is mounted there"}
    changes = {}
    if not os.path.isdir(name):
        changes["directory"] = "made"
    if not _immutable(name):
        changes["attribute"] = "immutable"
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "would be made"}
    os.makedirs(name, mode=0o755, exist_ok=True)
    if os.listdir(name):
        return {
            **ret,
            "result": False,
            "comment": f"{name} is not empty: what is in it would be hidden by the mount",
        }
    done = __salt__["cmd.run_all"](["chattr", "+i", name], python_shell=False, ignore_retcode=True)
    if done["retcode"]:
        changes.pop("attribute", None)
        return {**ret, "changes": changes, "comment": f"not immutable: {done['stderr']}"}
    return {**ret, "changes": changes, "comment": "made"}


def absent(name):
    """Have no such directory; something that is mounted there stays."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "not there"}
    if not os.path.isdir(name):
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": {"directory": "removed"}, "comment": "would be removed"}
    if os.path.ismount(name):
        return {**ret, "result": False, "comment": "something is mounted there"}
    __salt__["cmd.run_all"](["chattr", "-i", name], python_shell=False, ignore_retcode=True)
    os.rmdir(name)
    return {**ret, "changes": {"directory": "removed"}, "comment": "removed"}


def _immutable(name):
    done = __salt__["cmd.run_all"](["lsattr", "-d", name], python_shell=False, ignore_retcode=True)
    return done["retcode"] == 0 and "i" in done["stdout"].split()[0]
