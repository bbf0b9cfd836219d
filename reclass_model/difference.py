"""Two states of the model compared: which rendered values changed, on which machines, and where that was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from reclass_model.inventory import Inventory
from reclass_model.provenance import Setting, locate, origin
from reclass_model.schemas import contracts, select
from reclass_model.secrets import mask, stable
from reclass_model.sources import Sources

Kind = Literal["add", "change", "remove"]
_ABSENT: Any = object()
_CLASSES = "_reclass_:classes"  # which classes a machine has says nothing that their values do not say


@dataclass(frozen=True)
class Change:
    """One value that changed the same way on one or many machines. An empty path: the machine itself."""

    nodes: tuple[str, ...]
    path: str
    kind: Kind
    before: Any  #: secrets are `***`; None when it was not there
    after: Any  #: secrets are `***`; None when it is gone
    file: str | None  #: where the new value (or, of what is gone, the old one) is written
    line: int | None
    derived: bool = False  #: only something it refers to was changed

    @property
    def node(self) -> str:
        """The first of the machines."""
        return self.nodes[0]


def changes(before: Inventory | None, after: Inventory) -> list[Change]:
    """What changed from `before` to `after`, what a person wrote first. Nothing before: nothing to compare."""
    if before is None:
        return []
    old_names, new_names = set(before.repository.node_names()), set(after.repository.node_names())
    old_sources, new_sources = Sources(before.repository), Sources(after.repository)
    made_alike = _comparison(old_sources, new_sources)
    grouped: dict[tuple[str, str, str], tuple[list[str], Kind, Any, Any]] = {}
    for name in sorted(old_names & new_names):
        if made_alike(name):
            continue
        old, new = before.node(name).parameters, after.node(name).parameters
        for path, was, now in _differences(old, new, ()):
            if path == _CLASSES:
                continue
            kind: Kind = "add" if was is _ABSENT else "remove" if now is _ABSENT else "change"
            was, now = (None if value is _ABSENT else value for value in (was, now))
            key = (path, _canonical(was), _canonical(now))
            grouped.setdefault(key, ([], kind, was, now))[0].append(name)
    found = [
        _change(old_sources, new_sources, tuple(nodes), path, kind, mask(was), mask(now))
        for (path, _, _), (nodes, kind, was, now) in grouped.items()
    ]
    machines = [
        *(
            Change((name,), "", "add", None, name, f"nodes/{name}.yml", 1)
            for name in sorted(new_names - old_names)
        ),
        *(
            Change((name,), "", "remove", name, None, f"nodes/{name}.yml", 1)
            for name in sorted(old_names - new_names)
        ),
    ]
    return [*machines, *sorted(found, key=lambda change: (change.derived, change.path, change.nodes))]


def _comparison(old: Sources, new: Sources) -> Callable[[str], bool]:
    """Whether a machine is made of the same files in both, so that rendering it would say nothing new: most are."""

    @cache
    def same(file: str) -> bool:
        return (old.repository.root / file).read_bytes() == (new.repository.root / file).read_bytes()

    def made_alike(name: str) -> bool:
        before, after = ([source.file for source in side.chain(name)] for side in (old, new))
        return before == after and all(same(file) for file in after)

    return made_alike


def _change(
    old: Sources, new: Sources, nodes: tuple[str, ...], path: str, kind: Kind, was: Any, now: Any
) -> Change:
    """The change with the place of the new value (of what is gone, the old one), as the first machine has it."""
    settings = [locate(side.repository, nodes[0], path, sources=side) for side in (old, new)]
    side = old if kind == "remove" else new
    place = origin(side.repository, nodes[0], path, sources=side)
    file, line = (place.file, place.line) if place else (None, None)
    return Change(nodes, path, kind, was, now, file, line, derived=_same(*settings))


def _same(old: Setting | None, new: Setting | None) -> bool:
    return bool(old and new) and (old.file, old.path, old.value) == (new.file, new.path, new.value)  # type: ignore[union-attr]


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, str(key)))
    elif stable(old) != stable(new):
        yield ":".join(path), old, new


def _canonical(value: Any) -> str:
    named = json.loads(
        json.dumps(stable(value), default=str)
    )  # YAML has keys of several types, which do not sort
    return json.dumps(named, sort_keys=True)


def underlay(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a pillar that the Salt states read: what a schema with `x-consumer: underlay` speaks of."""
    part: dict[str, Any] = {}
    for schema in contracts():
        if schema.consumer == "underlay":
            for path, value in select(parameters, schema.pillar_path):
                place = part
                for key in path[:-1]:
                    place = place.setdefault(key, {})
                place[path[-1]] = value
    if certificates := part.get("pki", {}).get("certificate"):  # those of pods are no part of any state
        own = {name: each for name, each in certificates.items() if not (each or {}).get("overlay")}
        part["pki"] = {**part["pki"], "certificate": own}
    return part


def underlay_digest(parameters: Mapping[str, Any]) -> str:
    """12 hex digits over `underlay`; needs no key and does not change with `rekey`."""
    return hashlib.sha256(_canonical(underlay(parameters)).encode()).hexdigest()[:12]
