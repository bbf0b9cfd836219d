"""The bundle's artifacts on a machine: fetched by URL and held against the checksum of the pillar."""

import hashlib

from salt.exceptions import SaltException


def fetch(source, sha256):
    """Path of the artifact at `source` (file:// in place, http(s):// cached); ValueError if it is absent or another."""
    if source.startswith("file://"):
        path = source.removeprefix("file://")
    else:
        path, why = "", ""
        try:
            path = __salt__["cp.cache_file"](source, source_hash=sha256)
        except (SaltException, OSError) as error:
            why = f": {error}"
        if not path:
            raise ValueError(f"cannot be fetched (is bundle:url right, and does the bundle have it?){why}")
    digest = hashlib.sha256()
    with open(path, "rb") as artifact:
        while block := artifact.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise ValueError(
            f"checksum is {digest.hexdigest()}, the pillar says {sha256}: is the bundle another one than the model's? "
            "(`ostack-k8s bundle verify`)"
        )
    return path


def without_checksum(ret, name):
    """A state's result for an artifact that has no checksum: a failure; in test mode a change with a warning."""
    missing = (
        f"The pillar has no checksum for {name} in this version (bundle:checksum): "
        "run `ostack-k8s bundle verify --record` and commit what it writes"
    )
    if __opts__["test"]:
        return {**ret, "result": None, "comment": missing, "warnings": [missing]}
    return {**ret, "result": False, "changes": {}, "comment": missing}
