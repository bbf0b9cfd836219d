"""Strategic merge: the operator's `patch:` over a rendered object, as `kubectl patch` would do it.

Mappings merge, null deletes, the lists of the table merge by their key (`$patch: delete` removes an entry), other lists
are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Field → the keys that may identify an entry, the first one present wins.
_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
}


def merge(base: Any, patch: Any, name: str = "") -> Any:
    """`patch` laid over `base`, both untouched; `name` is the field they are the value of."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = dict(base)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(merged.get(key), value, key)
        return merged
    if isinstance(base, list) and isinstance(patch, list) and name in _MERGE_KEYS:
        return _merge_list(base, patch, _MERGE_KEYS[name])
    if isinstance(patch, Mapping):
        return merge({}, patch, name)
    return patch


def _merge_list(base: list[Any], patch: list[Any], keys: tuple[str, ...]) -> list[Any]:
    merged = {_identity(entry, keys): entry for entry in base}
    for entry in patch:
        identity = _identity(entry, keys)
        if entry.get("$patch") == "delete":
            merged.pop(identity, None)
        else:
            merged[identity] = merge(merged.get(identity, {}), entry)
    return list(merged.values())


def _identity(entry: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)
