"""A replicated volume of GlusterFS, kept by the first machine of the pool.

A volume holds on to the bricks it has. A brick is added while there are fewer than wanted, and a brick of a machine
that has left the model goes to a machine without one, or goes; gluster heals the data onto new bricks by itself.
"""


def present(name, addresses, path, replica, options, force=False):
    """Have the volume `name`, started, with a brick at `path` on `replica` of the machines `addresses`.

    `options` are set where they differ; others stay. `force`: bricks may lie on the system's own filesystem.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "as wanted"}
    volume = (__salt__["glusterfs.volumes"]() or {}).get(name)
    commands, changes = _difference(name, volume, addresses, path, replica, options, force)
    if not commands:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "would change"}
    for command in commands:
        error = __salt__["glusterfs.run"]("volume", *command, patience=60)["error"]
        if error:
            return {**ret, "result": False, "comment": f"gluster volume {' '.join(command)}: {error}"}
    return {**ret, "changes": changes, "comment": "changed"}


def _difference(name, volume, addresses, path, replica, options, force):
    """Commands (words after `gluster volume`) that make `volume` (None: none) what is wanted; their changes."""
    commands, changes = [], {}
    if volume is None:
        volume = {"started": False, "bricks": [], "options": {}}
        bricks = [f"{address}:{path}" for address in addresses[:replica]]
        kind = ["replica", str(len(bricks))] if len(bricks) > 1 else []
        commands.append(["create", name, *kind, *bricks, *(["force"] if force else [])])
        changes["created"] = bricks
    else:
        moves = _moves(volume["bricks"], addresses, path, replica)
        commands += [[verb, name, *words] for verb, *words in moves]
        if moves:
            changes["bricks"] = [" ".join(move) for move in moves]
    wrong = {key: value for key, value in sorted(options.items()) if volume["options"].get(key) != value}
    if wrong:
        commands.append(["set", name, *(word for pair in wrong.items() for word in pair)])
        changes["options"] = wrong
    if not volume["started"]:
        commands.append(["start", name])
        changes["started"] = True
    return commands, changes


def _moves(bricks, addresses, path, replica):
    """How bricks follow the machines there are: replaced or removed where a machine is gone, added where some lack."""
    holders = [brick.partition(":")[0] for brick in bricks]
    spare = [address for address in addresses if address not in holders]
    count, moves = len(bricks), []
    for brick, holder in zip(bricks, holders, strict=True):
        if holder in addresses:
            continue
        if spare:
            moves.append(("replace-brick", brick, f"{spare.pop(0)}:{path}", "commit", "force"))
        elif count > 1:
            count -= 1
            moves.append(("remove-brick", "replica", str(count), brick, "force"))
    while spare and count < replica:
        count += 1
        moves.append(("add-brick", "replica", str(count), f"{spare.pop(0)}:{path}", "force"))
    return moves
