"""Data for programs: JSON or YAML on stdout, keys in the order of the contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` as what JSON knows: dataclasses become mappings, paths text, tuples and sets lists."""
    return json.loads(json.dumps(value, default=_plain))


def dump(value: Any, format: str) -> str:
    """`value` as `json` or `yaml` text that ends with a newline."""
    if format == "json":
        return json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n"
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(plain(value), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def stream(items: Iterable[tuple[str, Any]], format: str) -> Iterator[str]:
    """One mapping of all items, piece by piece, so that a thousand machines need the memory of one."""
    if format == "yaml":
        yield from (dump({key: value}, format) for key, value in items)
        return
    opening = "{\n"
    for key, value in items:
        yield f"{opening}{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, default=_plain)}"
        opening = ",\n"
    yield "{}\n" if opening == "{\n" else "\n}\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not data")
