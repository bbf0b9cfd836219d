"""Where a value of a pillar comes from: every file and line that set it, and the references it passed.

Serves `why`, and gives errors and plans their file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.sources import Source, Sources, is_null, line_of, nearest, plain

PURE = re.compile(
    r"\$\{([^${}]+)\}"
)  #: a reference and nothing around it (fullmatch), or an innermost one (search)
_MAX_HOPS = 20  #: references followed before giving up; the engine refuses loops anyway


@dataclass(frozen=True)
class Setting:
    """One place that set a value."""

    file: str  #: relative to the root of the repo
    line: int  #: 1-based, of the key
    value: Any  #: as written there, references unresolved
    path: str = ""  #: what was set: the path asked for, or one above it
    replaces: bool = False  #: `~key`: what came before is dropped


@dataclass(frozen=True)
class Reference:
    """A reference that the value passed."""

    path: str
    set_by: tuple[Setting, ...]


@dataclass(frozen=True)
class Why:
    """Where a value comes from: the answer of `why`."""

    value: Any  #: as rendered; secrets are tokens
    set_by: tuple[Setting, ...]  #: in the order of merging, the last wins
    references: tuple[Reference, ...]


def locate(repository: Repository, node: str, path: str, *, sources: Sources | None = None) -> Setting | None:
    """The last place that set this path, or the nearest one above it that is set."""
    chain = (sources or Sources(repository)).chain(node)
    keys = path.split(":")
    for depth in range(len(keys), 0, -1):
        if found := _settings(chain, keys[:depth]):
            return found[-1]
    return None


def origin(repository: Repository, node: str, path: str, *, sources: Sources | None = None) -> Setting | None:
    """The place where the value itself is written: `locate`, then along references that stand alone."""
    sources = sources or Sources(repository)
    found = locate(repository, node, path, sources=sources)
    for _ in range(_MAX_HOPS):
        if found is None or not isinstance(found.value, str) or not (match := PURE.fullmatch(found.value)):
            break
        rest = path.removeprefix(found.path)
        path = match[1] + rest
        following = locate(repository, node, path, sources=sources)
        if following is None:
            break
        found = following
    return found


def why(repository: Repository, node: str, path: str) -> Why:
    """Raises OperatorError E104 when the machine has no such value, and what rendering raises."""
    parameters = Inventory(repository).node(node).parameters
    value = get(parameters, path, _MISSING)
    if value is _MISSING:
        raise OperatorError(f"{node} has no {path!r}", code="E104", hint=_hint(parameters, path.split(":")))
    chain = Sources(repository).chain(node)
    set_by = _set_by(chain, path)
    return Why(value, set_by, tuple(_references(chain, parameters, path, set_by)))


_MISSING = object()


def _hint(parameters: Mapping[str, Any], keys: Sequence[str]) -> str:
    value: Any = parameters
    for depth, key in enumerate(keys):
        if not isinstance(value, Mapping):
            return f"`{':'.join(keys[:depth])}` is not a mapping"
        if key not in value:
            return (
                nearest(key, [str(known) for known in value])
                or f"there is: {', '.join(map(str, list(value)[:12]))}"
            )
        value = value[key]
    return ""


def _set_by(chain: Sequence[Source], path: str) -> tuple[Setting, ...]:
    """Everything that set a path; where only something above it is set (to a reference), that."""
    keys = path.split(":")
    for depth in range(len(keys), 0, -1):
        if found := _settings(chain, keys[:depth]):
            return tuple(found)
    return ()


def _references(
    chain: Sequence[Source], parameters: Mapping[str, Any], path: str, set_by: Sequence[Setting]
) -> Iterator[Reference]:
    """The references in what won, then those behind them, each once."""
    waiting = list(_targets(set_by[-1], path, parameters)) if set_by else []
    seen: set[str] = set()
    while waiting:
        target = waiting.pop(0)
        if target in seen:
            continue
        seen.add(target)
        behind = _set_by(chain, target)
        yield Reference(target, behind)
        if behind:
            waiting.extend(_targets(behind[-1], target, parameters))


def _targets(setting: Setting, path: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """The paths that the text of a setting refers to, inner references resolved."""
    for text in _texts(setting.value):
        while match := PURE.search(text):
            alone = match[0] == text
            yield match[1] + (path.removeprefix(setting.path) if alone else "")
            inner = get(parameters, match[1], "")
            text = text[: match.start()] + str(inner).replace("${", "") + text[match.end() :]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _settings(chain: Sequence[Source], keys: Sequence[str]) -> list[Setting]:
    """Every place that set exactly this path, or cut it off above (`~key`, null, a plain value)."""
    found: list[Setting] = []
    for source in chain:
        found.extend(_settings_in(source, keys))
    exact = ":".join(keys)
    return found if any(setting.path == exact for setting in found) else []


def _settings_in(source: Source, keys: Sequence[str]) -> Iterator[Setting]:
    node: yaml.Node | None = source.parameters
    for depth, wanted in enumerate(keys):
        if not isinstance(node, yaml.MappingNode):
            return
        entry = next((pair for pair in node.value if str(pair[0].value).lstrip("~=") == wanted), None)
        if entry is None:
            return
        key, node = entry
        replaces = str(key.value).startswith("~")
        last = depth == len(keys) - 1
        if last or replaces or is_null(node):
            path = ":".join(keys[: depth + 1])
            yield Setting(source.file, line_of(key), plain(node), path, replaces)
