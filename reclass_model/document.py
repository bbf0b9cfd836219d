"""A YAML file of the model, changed as a person would: comments, order and quotes stay.

Serves what writes into a repo that a person also edits: `secrets`, `node`, `init`, `update`, the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError
from reclass_model.repository import Repository, write_atomically


def load(path: Path) -> Any:
    """The file's content, empty where there is none. Raises OperatorError E101 with the line that cannot be read."""
    from ruamel.yaml.error import YAMLError

    try:
        return (_yaml().load(path.read_text()) if path.is_file() else None) or {}
    except (OSError, UnicodeError, YAMLError) as error:
        raise OperatorError.unreadable(error, Repository.find(path.parent).relative(path)) from None


def store(path: Path, content: Any) -> None:
    """Replace the file in one step."""
    text = StringIO()
    _yaml().dump(content, text)
    write_atomically(path, text.getvalue())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Load, change in place, store."""
    content = load(path)
    change(content)
    store(path, content)


def with_class(text: str, name: str, *, first: bool = False) -> str:
    """A machine's file with `name` as its last class, which wins over the others, or as its first."""
    content = _yaml().load(text)
    classes = content.setdefault("classes", [])
    if name in classes:
        classes.remove(name)
    classes.insert(0 if first else len(classes), name)
    changed = StringIO()
    _yaml().dump(content, changed)
    return changed.getvalue()


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 1 << 16  # secrets stay on one line
    yaml.preserve_quotes = True
    return yaml
