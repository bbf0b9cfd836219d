"""The formula's README names every pillar key, from the schemas; pillar.example is a pillar that they accept.

`GOLDEN_WRITE=1` writes the README's table anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kubernetes_formula.salt_loader import FORMULA
from reclass_model.schemas import contracts, select

README = FORMULA / "README.md"
BEGIN, END = "<!-- pillar keys: written by `make golden` -->\n", "<!-- end of pillar keys -->\n"


#: Who reads what the README tells of: the states, and the preflight before them.
CONSUMERS = ("underlay", "preflight")
SPOKEN = [schema for schema in contracts() if schema.consumer in CONSUMERS]


class Keys:
    """The rows of one schema: (path, type, meaning) of every key; `*` stands for any key of a mapping."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.definitions = document.get("$defs", {})
        self.document = document

    def below(self, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
        for key, value in (schema.get("properties") or {}).items():
            yield from self.entry(self.resolve(value), f"{path}:{key}")
        if any_key := self.any_key(schema):
            if "description" in any_key or list(self.below(any_key, path)):
                yield from self.entry(any_key, f"{path}:*")
            elif "description" not in schema:  # else its own row says what its values are
                yield f"{path}:*", self.kind(any_key), ""

    def entry(self, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
        below = list(self.below(schema, path))
        if not below or "description" in schema:
            yield path, self.kind(schema), schema.get("description", "")
        yield from below

    def kind(self, schema: Mapping[str, Any]) -> str:
        if "enum" in schema:
            return " or ".join(f"`{value}`" for value in schema["enum"])
        if (any_key := self.any_key(schema)) and not list(self.below(any_key, "")) and self.kind(any_key):
            return f"object of {self.kind(any_key)}"
        if schema.get("type") == "object" and schema.get("additionalProperties") is False:
            return "object" if schema.get("properties") else "`{}`"
        kind = schema.get("type") or ""
        return " or ".join(kind) if isinstance(kind, list) else str(kind)

    def any_key(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        value = schema.get("additionalProperties")
        return self.resolve(value) if isinstance(value, Mapping) and value else None

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in schema:
            return schema
        return {**self.definitions[schema["$ref"].removeprefix("#/$defs/")], **schema}


def rows() -> Iterator[tuple[str, str, str]]:
    for schema in SPOKEN:
        yield from Keys(schema.document).below(schema.document, ":".join(schema.pillar_path))


def table() -> str:
    lines = ["| key | value | meaning |", "|---|---|---|"]
    lines += [
        f"| `{key}` | {kind} | {meaning.replace('|', chr(92) + '|')} |" for key, kind, meaning in rows()
    ]
    return "\n".join(lines) + "\n"


def test_every_key_says_what_it_is_and_what_it_means() -> None:
    assert [key for key, kind, meaning in rows() if not kind or not meaning.strip()] == []
    assert {key.partition(":")[0] for key, _, _ in rows()} >= {"preflight", "glusterfs", "salt"}


def test_readme_has_every_key() -> None:
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if os.environ.get("GOLDEN_WRITE"):
        README.write_text(before + BEGIN + table() + END + after)
    assert README.read_text() == before + BEGIN + table() + END + after, "run `make golden`"


def test_pillar_example_has_every_part_and_is_right() -> None:
    pillar = yaml.safe_load((FORMULA / "pillar.example").read_text())
    assert set(pillar) == {schema.pillar_path[0] for schema in SPOKEN}
    unsaid = [":".join(schema.pillar_path) for schema in SPOKEN if not [*select(pillar, schema.pillar_path)]]
    assert unsaid == []
    for schema in contracts():
        for path, value in select(pillar, schema.pillar_path):
            problems = [error.message for error in schema.validator.iter_errors(value)]
            assert not problems, (path, problems)
