"""Programs from the bundle, installed by checksum: a plain binary, or chosen members of a .tar.gz.

What was installed is recorded in /var/lib/ostack-k8s/artifact/<name>.json (checksum of the artifact and of each file),
so that a changed version, a changed file and a lost file are all seen, and test mode needs no download.
"""

import hashlib
import json
import os
import tarfile

RECORDS = "/var/lib/ostack-k8s/artifact"


def installed(name, source, sha256, files, mode="0755"):
    """Install `files` ({member: path}; member "" = the artifact itself) of the artifact at `source` (file:// or http(s)://)."""
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is installed"}
    wanted = {"sha256": sha256, "files": sorted(files.values())}
    if sha256 and _recorded(name, files) == wanted:
        return ret
    ret["changes"] = {name: {"old": _read(name).get("sha256"), "new": sha256}}
    if not sha256:
        return __salt__["bundle.without_checksum"](ret, name)
    if __opts__["test"]:
        ret.update(result=None, comment=f"{name} would be installed from {source}")
        return ret
    try:
        archive = __salt__["bundle.fetch"](source, sha256)
        sums = {path: _install(archive, member, path, mode) for member, path in files.items()}
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        return {**ret, "result": False, "changes": {}, "comment": f"{name} from {source}: {error}"}
    os.makedirs(RECORDS, exist_ok=True)
    _write(
        _record(name), lambda out: out.write(json.dumps({"sha256": sha256, "files": sums}).encode()), "0644"
    )
    ret["comment"] = f"{name} installed from {source}"
    return ret


def _record(name):
    return os.path.join(RECORDS, f"{name}.json")


def _read(name):
    try:
        with open(_record(name), encoding="utf-8") as record:
            return json.load(record)
    except (OSError, ValueError):
        return {}


def _recorded(name, files):
    """The recorded artifact, with only those of `files` that are still as they were installed."""
    record = _read(name)
    digests = {path: record.get("files", {}).get(path) for path in files.values()}
    kept = [path for path, digest in digests.items() if os.path.isfile(path) and _sha256(path) == digest]
    return {"sha256": record.get("sha256"), "files": sorted(kept)}


def _install(archive, member, path, mode):
    """Copy one member to `path` (atomically, also while the program runs); its checksum."""
    if not member:
        with open(archive, "rb") as source:
            _write(path, lambda out: _copy(source, out), mode)
    else:
        with tarfile.open(archive) as tar:
            source = tar.extractfile(_member(tar, member))
            _write(path, lambda out: _copy(source, out), mode)
    return _sha256(path)


def _member(tar, member):
    for name in (member, f"./{member}"):
        try:
            return tar.getmember(name)
        except KeyError:
            continue
    raise ValueError(f"the archive has no {member}")


def _copy(source, out):
    while block := source.read(1 << 20):
        out.write(block)


def _write(path, fill, mode):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.part"  # always the same: what a killed run left is written over
    try:
        with open(temporary, "wb") as out:
            fill(out)
        os.chmod(temporary, int(mode, 8))
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
