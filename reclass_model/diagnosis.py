"""What the engine complains of, turned into file, line and what would be right.

reclass-rs names the thing but not the place. This reads the files again, strictly, and finds it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import yaml

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import Repository
from reclass_model.sources import Source, Sources, entries, line_of, nearest
from reclass_model.validation.files import missing_classes

_LOOKUP = re.compile(r"reference '\$\{(?P<reference>.*?)\}' (?:in|for) parameter '(?P<parameter>.*?)'")
_MISSING_KEY = re.compile(r"key '(?P<key>[^']*)' not found")
_LOOP = re.compile(r"reference loop with reference paths \[(?P<paths>.*?)\]")
_MERGE = re.compile(r"In (?P<parameter>.*?): Can't merge (?P<what>\S+) over (?P<other>\S+)")
_MALFORMED = re.compile(r"Error parsing reference '(?P<text>.*)'", re.DOTALL)


def diagnose(repository: Repository, node: str, said: str) -> Problem:
    """The problem behind an engine's message `said` about machine `node`."""
    sources = Sources(repository)
    try:
        machine = sources.machine(node)
    except OperatorError as error:
        return error.problems[0]
    reached = [sources.read(sources.class_files[name], name) for name in sources.classes(node)]
    for source in (*reached, machine):
        if source.problems:
            return source.problems[0]
    for source in (machine, *reached):
        for problem in missing_classes(source, sources):
            return replace(problem, node=node)
    chain = [*reached, machine]
    if found := _LOOP.search(said):
        return _loop(chain, node, re.findall(r'"(.*?)"', found["paths"]))
    if found := _LOOKUP.search(said):
        return _missing_reference(chain, node, said, found["reference"], found["parameter"])
    if found := _MERGE.search(said):
        return _merge(chain, node, found["parameter"], found["what"], found["other"])
    if found := _MALFORMED.search(said):
        place = _last(hit for hit in scalars(chain) if hit.text == found["text"])
        what = f"a reference is not closed or empty in {found['text']!r}"
        return _at(place, "E108", what, node, "a reference is ${a:b}; a literal one is written \\${a:b}")
    if said.startswith("Error while discovering"):  # a link in a circle, a directory that cannot be read
        return Problem("E107", said)
    return Problem(
        "E100",
        said.removeprefix(f"Error while rendering {node}: "),
        node,
        file=machine.file,
    )


class Scalar:
    """One scalar of the model's text and where it stands."""

    __slots__ = ("dotted", "file", "line", "path", "text")

    def __init__(self, source: Source, path: tuple[str, ...], node: yaml.ScalarNode) -> None:
        self.file, self.line, self.text = source.file, line_of(node), str(node.value)
        self.path = ":".join(path)
        self.dotted = re.sub(r"\.(\[\d+\])", r"\1", ".".join(path))


def scalars(chain: Sequence[Source]) -> Iterator[Scalar]:
    """Every scalar under `parameters`, in the order of merging."""
    for source in chain:
        yield from _scalars(source, (), source.parameters)


def _scalars(source: Source, path: tuple[str, ...], node: yaml.Node | None) -> Iterator[Scalar]:
    if isinstance(node, yaml.ScalarNode):
        yield Scalar(source, path, node)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _scalars(source, (*path, f"[{index}]"), item)
    for key, _, value in entries(node):
        yield from _scalars(source, (*path, key), value)


def _last(found: Iterator[Scalar]) -> Scalar | None:
    return next(iter(deque(found, maxlen=1)), None)


def _at(place: Scalar | None, code: str, message: str, node: str, hint: str) -> Problem:
    if place is None:
        return Problem(code, message, node, hint=hint)
    return Problem(code, message, node, place.path, place.file, place.line, hint)


def _loop(chain: Sequence[Source], node: str, paths: Sequence[str]) -> Problem:
    asked = [path.replace(".", ":") for path in paths]
    place = None
    for start, following in zip(asked, [*asked[1:], asked[0]], strict=True):
        text = "${" + following + "}"
        place = _last(hit for hit in scalars(chain) if hit.path == start and text in hit.text)
        if place is not None:
            break
    circle = f": {' → '.join([*asked, asked[0]])}" if asked else ""
    return _at(place, "E105", f"references go in a circle{circle}", node, "give one of them a value")


def _missing_reference(
    chain: Sequence[Source], node: str, said: str, reference: str, parameter: str
) -> Problem:
    text = "${" + reference + "}"
    hits = [hit for hit in scalars(chain) if "${" in hit.text]
    exact = [hit for hit in hits if hit.dotted == parameter]
    holding = [hit for hit in hits if text in hit.text]
    both = [hit for hit in exact if text in hit.text]
    place = next((found[-1] for found in (both, holding, exact) if found), None)
    if reference.startswith("openstack:release:"):
        return _unknown_release(chain, node, reference.split(":")[2], place)
    return Problem(
        "E104",
        f"reference {text} leads to nothing",
        node,
        place.path if place else parameter.replace(".", ":"),
        place.file if place else chain[-1].file,
        place.line if place else None,
        _reference_hint(chain, said, reference),
    )


def _unknown_release(chain: Sequence[Source], node: str, release: str, place: Scalar | None) -> Problem:
    """A lookup of a release that the library does not know; the place is where its name is written."""
    known = sorted(
        {key for source in chain for key in _keys_below(source.parameters, ("openstack", "release"))}
    )
    written = place
    inner = re.search(r"\$\{([^${}]+)\}", place.text) if place else None
    for _ in range(20):
        if inner is None:
            break
        written = _last(hit for hit in scalars(chain) if hit.path == inner[1]) or written
        inner = re.fullmatch(r"\$\{([^${}]+)\}", written.text) if written else None
    hint = nearest(release, known) or f"known: {', '.join(known)}"
    return _at(written, "E301", f"unknown OpenStack release {release!r}", node, hint)


def _reference_hint(chain: Sequence[Source], said: str, reference: str) -> str | None:
    found = _MISSING_KEY.search(said)
    keys = reference.split(":")
    if found is None or found["key"] not in keys:
        return None
    depth = keys.index(found["key"])
    known = {key for source in chain for key in _keys_below(source.parameters, keys[:depth])}
    close = nearest(found["key"], sorted(known))
    above = ":".join(keys[:depth])
    return close or (f"`{above}` has no {found['key']!r}" if above else f"nothing sets `{found['key']}`")


def _keys_below(node: yaml.Node | None, path: Sequence[str]) -> Iterator[str]:
    for key, _, value in entries(node):
        if not path:
            yield key
        elif key == path[0]:
            yield from _keys_below(value, path[1:])


def _merge(chain: Sequence[Source], node: str, parameter: str, what: str, other: str) -> Problem:
    parameter = _disputed(chain, parameter)
    places = [
        (source.file, line_of(key), ":".join(path))
        for source in chain
        for path, key, _ in _mappings(source.parameters, ())
        if ".".join(path) == parameter
    ]
    file, line, where = places[-1] if places else (chain[-1].file, None, parameter.replace(".", ":"))
    before = f"; it was set in {places[-2][0]}:{places[-2][1]}" if len(places) > 1 else ""
    kind = what.removeprefix("Value::").lower()
    return Problem(
        "E106",
        f"a {kind} cannot be merged over a {other.removeprefix('Value::').lower()}{before}",
        node,
        where,
        file,
        line,
        "write `~key:` to replace the value instead of merging",
    )


def _disputed(chain: Sequence[Source], parameter: str) -> str:
    """The parameter that is of two kinds: itself, or on the way of the reference that stands there."""
    referring = _last(hit for hit in scalars(chain) if hit.dotted == parameter)
    inner = re.search(r"\$\{([^${}]+)\}", referring.text) if referring else None
    keys = inner[1].split(":") if inner else []
    above = [".".join(keys[:length]) for length in range(len(keys), 0, -1)]
    for candidate in (parameter, *above):
        kinds = {
            type(value)
            for source in chain
            for path, _, value in _mappings(source.parameters, ())
            if ".".join(path) == candidate
        }
        if len(kinds) > 1:
            return candidate
    return parameter


def _mappings(
    node: yaml.Node | None, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], yaml.Node, yaml.Node]]:
    for name, key, value in entries(node):
        yield (*path, name), key, value
        yield from _mappings(value, (*path, name))
