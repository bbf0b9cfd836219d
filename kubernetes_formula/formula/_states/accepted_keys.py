"""The machines whose keys the Salt master accepts: those of the model, each with the key that the model issued."""

import contextlib
import os
import tempfile

import salt.crypt
from salt.utils.data import traverse_dict_and_list

CACHE = "/var/cache/salt/master"
#: Where the master keeps the keys of those that came before they were accepted; there it looks first.
OTHERS = ("_pre", "_denied", "_rejected")


def exactly(name, pillar_path):
    """Make the directory `name` hold the public keys at `pillar_path` (machine: PEM) and no others.

    A machine that came before its key was here waits in a directory beside it, and is taken from there.
    """
    wanted = traverse_dict_and_list(__pillar__, pillar_path, {})
    there = _keys(name)
    waiting = [name + other for other in OTHERS]
    accept = sorted(
        machine
        for machine, key in wanted.items()
        if there.get(machine) != key
        or any(os.path.lexists(os.path.join(directory, machine)) for directory in waiting)
    )
    forget = sorted(there.keys() - wanted.keys())
    changes = {key: machines for key, machines in (("accepted", accept), ("forgotten", forget)) if machines}
    ret = {"name": name, "result": True, "changes": changes, "comment": f"{len(wanted)} machine(s)"}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "would be changed"}
    os.makedirs(name, mode=0o700, exist_ok=True)
    for machine in accept:
        _write(os.path.join(name, machine), wanted[machine])
        for directory in waiting:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, machine))
    for machine in forget:
        os.unlink(os.path.join(name, machine))
    if forget and os.path.isdir(
        CACHE
    ):  # the master takes a new session key, which a forgotten machine does not get
        salt.crypt.dropfile(CACHE)
    return ret


def _keys(directory):
    found = {}
    if os.path.isdir(directory):
        for machine in os.listdir(directory):
            with open(os.path.join(directory, machine), encoding="utf-8") as key:
                found[machine] = key.read()
    return found


def _write(path, content):
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.dirname(path)))
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
