"""The trusted pool of GlusterFS, kept by its first machine.

Machines start in any order: one that does not answer yet is asked again. A machine that is in the pool but down is no
failure; its bricks heal when it is back.
"""

import time


def present(name, members, timeout=300):
    """Have the machines with the addresses `members` in the pool of this one, whole, within `timeout` seconds."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "all are in the pool"}
    peers = __salt__["glusterfs.peers"]()
    if __opts__["test"] and peers is None:
        return _would(ret, {"would join": members})
    missing = [address for address in members if address not in (peers or {})]
    if not missing:
        down = [address for address in members if not peers[address]]
        return {**ret, "comment": f"in the pool, but down: {', '.join(down)}"} if down else ret
    if __opts__["test"]:
        return _would(ret, {"would join": missing})
    end, error = time.monotonic() + timeout, ""
    while True:
        for address in missing:
            error = __salt__["glusterfs.run"]("peer", "probe", address)["error"] or error
        peers = __salt__["glusterfs.peers"]() or {}
        waiting = [address for address in missing if not peers.get(address)]
        if not waiting:
            return {**ret, "changes": {"joined": missing}, "comment": "joined"}
        if time.monotonic() > end:
            comment = f"not in the pool in {timeout} s: {', '.join(waiting)}; {error}"
            return {**ret, "result": False, "comment": comment}
        time.sleep(2)


def nobody_else(name, members):
    """Let go of the machines of the pool that are not among `members`; their bricks must be gone before."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "nobody else is in the pool"}
    known = {address for address in (__salt__["glusterfs.peers"]() or {}) if _is_address(address)}
    others = sorted(known - set(members))
    if not others:
        return ret
    if __opts__["test"]:
        return _would(ret, {"would leave": others})
    for address in others:
        error = __salt__["glusterfs.run"]("peer", "detach", address, "force", patience=60)["error"]
        if error:
            return {**ret, "result": False, "comment": f"{address}: {error}"}
    return {**ret, "changes": {"left": others}, "comment": "left"}


def _is_address(name):
    return name.replace(".", "").isdigit()


def _would(ret, changes):
    return {**ret, "result": None, "changes": changes, "comment": "the pool would change"}
