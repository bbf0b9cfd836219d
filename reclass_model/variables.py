"""`{name}` in a string of the model: a value that is known only when it is used.

A check's request takes what an earlier answer gave (`{token}`), a file for operators where it lies (`{directory}`).
A string that holds a secret has no variables, so a password is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reclass_model.secrets import is_secret

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def used(value: Any) -> set[str]:
    """The names of all variables anywhere in a value."""
    if isinstance(value, Mapping):
        return set().union(*map(used, value.values()))
    if isinstance(value, list):
        return set().union(*map(used, value))
    return set(_VARIABLE.findall(value)) if isinstance(value, str) and not is_secret(value) else set()


def fill(value: Any, known: Mapping[str, str], reveal: Callable[[Any], Any]) -> Any:
    """The value with its variables replaced, all of which are known, and its secrets opened."""
    if isinstance(value, Mapping):
        return {key: fill(each, known, reveal) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [fill(each, known, reveal) for each in value]
    if not isinstance(value, str):
        return value
    return reveal(value) if is_secret(value) else _VARIABLE.sub(lambda found: known[found[1]], value)
