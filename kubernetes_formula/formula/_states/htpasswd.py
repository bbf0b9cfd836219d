"""A user in an htpasswd file with a bcrypt password, by `htpasswd` of apache2-utils; the password goes by stdin."""

import os


def present(name, user, password_pillar, group="root", mode="0640"):
    """Have `user` in the file `name` with the password at the pillar path `password_pillar`; other users are kept."""
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{user} has the password"}
    password = _pillar(password_pillar)
    if not password:
        return {
            **ret,
            "result": False,
            "comment": f"the pillar has no {password_pillar}: run `ostack-k8s pki issue`",
        }
    if os.path.exists(name) and _htpasswd("-vi", name, user, password) == 0:
        return ret
    ret["changes"] = {user: "password set"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"the password of {user} would be set"}
    if _htpasswd("-Bi" if os.path.exists(name) else "-Bci", name, user, password) != 0:
        return {**ret, "result": False, "changes": {}, "comment": f"htpasswd failed on {name}"}
    __salt__["file.check_perms"](name, None, "root", group, mode)
    return {**ret, "comment": f"the password of {user} was set"}


def _pillar(path):
    value = __pillar__
    for key in path.split(":"):
        value = (value or {}).get(key)
    return value


def _htpasswd(options, name, user, password):
    command = ["htpasswd", options, name, user]
    quiet = {"python_shell": False, "ignore_retcode": True, "output_loglevel": "quiet"}
    return __salt__["cmd.retcode"](command, stdin=f"{password}\n", **quiet)
