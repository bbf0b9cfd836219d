"""BGP as this machine's BIRD tells it: `ostack-k8s validate --live` asks."""

import os

from salt.exceptions import CommandExecutionError

SOCKET = "/run/calico/bird.ctl"
CONFIGURATION = "/etc/calico/confd"


def sessions():
    """This machine's BGP sessions, [{peer, state, why}]; none on a machine that speaks no BGP."""
    if not os.path.exists(CONFIGURATION):
        return []
    command = ["birdc", "-s", SOCKET, "show", "protocols"]
    done = __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)
    if done["retcode"]:
        raise CommandExecutionError(f"BIRD does not answer: {done['stderr'] or done['stdout']}")
    rows = [line.split() for line in done["stdout"].splitlines()]
    return [_session(row) for row in rows if row[1:2] == ["BGP"]]


def _session(row):
    """Of a row: name (with the peer's address), BGP, table, up or not, since when, state, what went wrong last."""
    name, state, why = row[0], row[5:6], row[6:]
    address = name.partition("_")[2].replace("_", ".")
    return {"peer": address, "state": "".join(state) or row[3], "why": " ".join(why)}
