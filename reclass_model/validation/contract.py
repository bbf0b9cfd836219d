"""Each machine's pillar against the JSON Schemas: unknown keys, wrong types, values that are not allowed.

Nulls are deleted settings and are taken out before a schema sees them; a secret satisfies any pattern. Equal parts of
many machines are checked once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reclass_model.errors import Problem
from reclass_model.inventory import Node
from reclass_model.provenance import locate, origin
from reclass_model.repository import Repository
from reclass_model.schemas import Schema, schemas, select
from reclass_model.secrets import is_secret, mask
from reclass_model.sources import Sources, nearest

Finding = tuple[str, tuple[str, ...], str, str | None]  #: code, path below the schema's place, message, hint
_SHOWN = 60  #: characters of a wrong value in a message
_TEXT_RULES = ("pattern", "format", "minLength", "maxLength", "enum", "const")


class Contracts:
    """The schemas of a repo, with what was checked already."""

    def __init__(self, repository: Repository, sources: Sources) -> None:
        self.repository, self.sources = repository, sources
        self.schemas = schemas(repository)
        self._checked: dict[tuple[int, str], list[Finding]] = {}
        self._namespaces = _namespaces(self.schemas)

    def problems(self, node: Node) -> Iterator[Problem]:
        """What is wrong with the pillar of one machine."""
        yield from self._unknown_namespaces(node)
        for index, schema in enumerate(self.schemas):
            for path, value in select(node.parameters, schema.pillar_path):
                for code, below, message, hint in self._findings(index, value):
                    yield self._problem(node, code, (*path, *below), message, hint)

    def _findings(self, index: int, value: Any) -> list[Finding]:
        key = (index, json.dumps(value, default=str))
        if key not in self._checked:
            errors = self.schemas[index].validator.iter_errors(_without_nulls(value))
            self._checked[key] = [finding for error in errors for finding in _findings(error)]
        return self._checked[key]

    def _problem(
        self, node: Node, code: str, path: tuple[str, ...], message: str, hint: str | None
    ) -> Problem:
        where = ":".join(path)
        find = locate if code == "E110" else origin
        place = find(self.repository, node.name, where, sources=self.sources)
        file, line = (place.file, place.line) if place else (f"nodes/{node.name}.yml", None)
        return Problem(code, message, node.name, where, file, line, hint)

    def _unknown_namespaces(self, node: Node) -> Iterator[Problem]:
        for system, value in node.parameters.items():
            if system in ("_param", "_reclass_") or value is None:
                continue
            roles = self._namespaces.get(system)
            if roles is None:
                hint = nearest(system, self._namespaces)
                yield self._problem(
                    node, "W110", (system,), f"no schema speaks of the top level key {system!r}", hint
                )
            elif isinstance(value, Mapping) and "*" not in roles:
                for role in (
                    str(role) for role, item in value.items() if item is not None and role not in roles
                ):
                    hint = nearest(role, sorted(roles)) or f"known: {', '.join(sorted(roles))}"
                    yield self._problem(
                        node, "E110", (system, role), f"unknown key {role!r} in {system!r}", hint
                    )


def _namespaces(known: tuple[Schema, ...]) -> dict[str, set[str]]:
    """Top level key → the keys that schemas speak of below it; `*`: any."""
    found: dict[str, set[str]] = {}
    for schema in known:
        system, *below = schema.pillar_path
        if system != "*":
            found.setdefault(system, set()).add(below[0] if below else "*")
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _findings(error: Any) -> Iterator[Finding]:
    """A schema's error in the words of this house."""
    path = tuple(str(part) for part in error.absolute_path)
    rule, wanted, value = error.validator, error.validator_value, error.instance
    if rule in ("anyOf", "oneOf") and error.context:
        from jsonschema.exceptions import best_match

        alternatives = [part for part in error.context if part.validator != "type"] or error.context
        yield from _findings(best_match(alternatives))
    elif (
        rule in ("additionalProperties", "unevaluatedProperties")
        and isinstance(value, Mapping)
        and wanted is False
    ):
        known = _known_keys(error.schema)
        for key in value:
            if key not in known and not _matches_pattern(key, error.schema):
                hint = nearest(key, known) or (f"known: {', '.join(sorted(known)[:12])}" if known else None)
                yield "E110", (*path, key), f"unknown key {key!r}", hint
    elif rule == "required":
        missing = ", ".join(key for key in wanted if key not in value)
        yield "E113", path, f"{missing} is missing", _description(error.schema)
    elif rule == "type":
        kinds = " or ".join(
            _KINDS.get(kind, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted)
        )
        yield "E111", path, f"{_shown(value)} is not {kinds}", _description(error.schema)
    elif not (is_secret(value) and rule in _TEXT_RULES):
        hint = f"one of {', '.join(map(str, wanted))}" if rule == "enum" else _description(error.schema)
        said = {"pattern": f"does not match {wanted}", "enum": "is not allowed", "const": f"is not {wanted}"}
        what = said.get(rule) or error.message.removeprefix(repr(value)).strip()
        yield "E112", path, f"{_shown(value)} {what}", hint


_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string (quote it)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def _known_keys(schema: Mapping[str, Any]) -> list[str]:
    return list(schema.get("properties", {}))


def _matches_pattern(key: str, schema: Mapping[str, Any]) -> bool:
    import re

    return any(re.search(pattern, key) for pattern in schema.get("patternProperties", {}))


def _description(schema: Mapping[str, Any]) -> str | None:
    return schema.get("description")


def _shown(value: Any) -> str:
    text = json.dumps(mask(value), default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
