"""The contracts as JSON Schemas: found, read, and laid over the parts of a pillar they speak of.

The engine's own lie in `reclass_model/schema/`, a service's beside its class (`classes/system/**/schema.json`, vendored
into the repo). Two extra keys: `x-pillar-path` (where it applies; `*` is any key) and `x-consumer` (who reads it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError
from reclass_model.repository import Repository

SCHEMA_DIR = Path(__file__).parent / "schema"


@dataclass(frozen=True, eq=False)
class Schema:
    """One contract."""

    file: str
    pillar_path: tuple[str, ...]
    consumer: str
    document: Mapping[str, Any]

    @cached_property
    def validator(self) -> Any:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.document)


@cache
def contracts() -> tuple[Schema, ...]:
    """The engine's own schemas."""
    return tuple(read(path, path.name) for path in sorted(SCHEMA_DIR.glob("*.json")))


def schemas(repository: Repository) -> tuple[Schema, ...]:
    """The engine's schemas and those of the class library in the repo."""
    found = sorted(repository.classes_dir.rglob("schema.json"))
    return (*contracts(), *(read(path, repository.relative(path)) for path in found))


def read(path: Path, name: str) -> Schema:
    """Raises OperatorError E120 for a schema that is none."""
    try:
        document = json.loads(path.read_text())
        return Schema(name, tuple(document["x-pillar-path"].split(":")), document["x-consumer"], document)
    except ValueError as error:
        raise OperatorError(f"not valid JSON: {error}", code="E120", file=name) from None
    except KeyError as error:
        raise OperatorError(f"the schema lacks {error}", code="E120", file=name) from None


def select(parameters: Mapping[str, Any], pattern: Iterable[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every part of a pillar that a path with `*` reaches; nulls are not there."""
    found: list[tuple[tuple[str, ...], Any]] = [((), parameters)]
    for wanted in pattern:
        found = [
            ((*path, str(key)), item)
            for path, value in found
            if isinstance(value, Mapping)
            for key, item in (value.items() if wanted == "*" else ((wanted, value.get(wanted)),))
            if item is not None and key not in ("_param", "_reclass_")
        ]
    yield from found
