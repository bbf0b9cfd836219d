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


def keys(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """(path, type, meaning) of every key below a schema; `*` stands for any key of a mapping."""
    for key, value in (schema.get("properties") or {}).items():
        yield from entry(value, f"{path}:{key}")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from entry(schema["additionalProperties"], f"{path}:*")


def entry(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    below = list(keys(schema, path))
    if not below or "description" in schema:
        kind = schema.get("type") or ("enum" if "enum" in schema else "")
        words = " or ".join(kind) if isinstance(kind, list) else kind
        if "enum" in schema:
            words = " or ".join(f"`{value}`" for value in schema["enum"])
        yield path, words, schema.get("description", "")
    yield from below


def table() -> str:
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for schema in contracts():
        if schema.consumer == "underlay":
            path = ":".join(schema.pillar_path)
            rows += [
                f"| `{key}` | {kind} | {meaning.replace('|', chr(92) + '|')} |"
                for key, kind, meaning in keys(schema.document, path)
            ]
    return "\n".join(rows) + "\n"


def test_readme_has_every_key() -> None:
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if os.environ.get("GOLDEN_WRITE"):
        README.write_text(before + BEGIN + table() + END + after)
    assert README.read_text() == before + BEGIN + table() + END + after, "run `make golden`"


def test_pillar_example_is_right() -> None:
    pillar = yaml.safe_load((FORMULA / "pillar.example").read_text())
    spoken = {schema.pillar_path[0] for schema in contracts() if schema.consumer == "underlay"}
    assert set(pillar) <= spoken
    for schema in contracts():
        for path, value in select(pillar, schema.pillar_path):
            problems = [error.message for error in schema.validator.iter_errors(value)]
            assert not problems, (path, problems)
