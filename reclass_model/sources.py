"""The YAML files behind the rendered model, with the line of every key.

The engine forgets where things stood; this module is how errors, `why` and `plan` find file and line again. It reads
files strictly: invalid YAML, duplicate keys and a wrong shape are problems here, whatever the engine thinks of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import Repository

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CONFIG_ROLE = "system.role.config"  #: the class of the machine that builds images and runs rollouts
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    f"{_TAG}{name}"
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value", "binary")
)
_DEEPEST, _LARGEST = 100, 1_000_000  #: of a file's values, with every alias written out
TOP_LEVEL = ("classes", "applications", "parameters", "environment", "exports")


@dataclass(frozen=True)
class Source:
    """One file of the model."""

    file: str  #: relative to the root of the repo
    name: str  #: class name, or the machine's name
    root: yaml.MappingNode | None  #: None: an empty file
    problems: tuple[Problem, ...] = ()  #: what is wrong with the file itself

    def section(self, name: str) -> yaml.Node | None:
        """The node under a top level key."""
        if self.root is not None:
            for key, value in self.root.value:
                if key.value == name:
                    return value  # type: ignore[no-any-return]
        return None

    @property
    def parameters(self) -> yaml.MappingNode | None:
        found = self.section("parameters")
        return found if isinstance(found, yaml.MappingNode) else None

    def includes(self) -> list[tuple[str, int]]:
        """Absolute class names with the lines they stand on."""
        found = self.section("classes")
        if not isinstance(found, yaml.SequenceNode):
            return []
        return [(absolute(item.value, self.name), line_of(item)) for item in found.value]


class Sources:
    """The files of a repository, each read once."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._files: dict[Path, Source] = {}
        self._below: dict[str, tuple[str, ...]] = {}

    @cached_property
    def class_files(self) -> dict[str, Path]:
        """Class name → file."""
        found: dict[str, Path] = {}
        top = str(self.repository.classes_dir)
        for directory, _, names in os.walk(top):
            for name in names:
                if name.endswith(".yml"):
                    path = os.path.join(directory, name)
                    stem = path[len(top) + 1 : -len(".yml")].replace("/", ".")
                    found[stem.removesuffix(".init")] = Path(path)
        return found

    def read(self, path: Path, name: str) -> Source:
        if path not in self._files:
            file = self.repository.relative(path)
            try:
                self._files[path] = parse(path.read_text(), file, name)
            except (OSError, UnicodeError) as error:
                self._files[path] = Source(file, name, None, OperatorError.unreadable(error, file).problems)
        return self._files[path]

    def machine(self, node: str) -> Source:
        """The file of a machine. Raises OperatorError E003 when there is none."""
        path = self.repository.node_file(node)
        if "/" in node or not path.is_file():
            raise OperatorError(
                f"the model has no machine {node!r}",
                code="E003",
                hint=_meant(node, self.repository.node_names()) or "`ostack-k8s inventory` lists them",
            )
        return self.read(path, node)

    def classes(self, node: str) -> tuple[str, ...]:
        """The classes of a machine in the order of merging: the last wins. Unknown ones are left out."""
        order: dict[str, None] = {}
        for name, _ in self.machine(node).includes():
            order.update(dict.fromkeys(self._with_parents(name, ())))
        return tuple(order)

    def _with_parents(self, name: str, above: tuple[str, ...]) -> tuple[str, ...]:
        if name in self._below:
            return self._below[name]
        if name not in self.class_files or name in above:
            return ()
        order: dict[str, None] = {}
        for parent, _ in self.read(self.class_files[name], name).includes():
            order.update(dict.fromkeys(self._with_parents(parent, (*above, name))))
        self._below[name] = (*order, name)
        return self._below[name]

    def config_machines(self) -> list[str]:
        """The machines with the config role; a whole model has exactly one."""
        return [name for name in self.repository.node_names() if CONFIG_ROLE in self.classes(name)]

    def chain(self, node: str) -> list[Source]:
        """Every file that makes a machine, in the order of merging; its own file is last."""
        classes = (self.read(self.class_files[name], name) for name in self.classes(node))
        return [*classes, self.machine(node)]


def parse(text: str, file: str, name: str) -> Source:
    """Read one file of the model, keeping the lines; what is wrong with it goes to `problems`."""
    try:
        root = Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        unclosed = "expected ',' or" in what  # the parser notices far behind the bracket that is open
        mark = error.context_mark if unclosed else error.problem_mark or error.context_mark
        hint = "indent with spaces, not tabs" if "tab" in what or "any token" in what else None
        hint = "a bracket or brace that opens here is not closed" if unclosed else hint
        line = mark.line + 1 if mark else None
        for number, written in enumerate(text.splitlines(), 1):
            if written.startswith("<<<<<<< "):
                line, hint = number, "git merged this file and could not settle it: `git status`"
                break
        return Source(
            file, name, None, (Problem("E101", f"not valid YAML: {what}", file=file, line=line, hint=hint),)
        )
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        what = f"not valid YAML: {error.reason}"
        return Source(file, name, None, (Problem("E101", what, file=file, line=line),))
    if root is None:
        return Source(file, name, None)
    if odd := _not_plain(root, file):
        return Source(file, name, None, (odd,))
    if not isinstance(root, yaml.MappingNode):
        what = f"a file of the model is a mapping of {', '.join(TOP_LEVEL[:3])}"
        return Source(file, name, None, (Problem("E107", what, file=file, line=line_of(root)),))
    return Source(file, name, root, (*_shape(root, file), *_duplicates(root, file)))


def _not_plain(root: yaml.Node, file: str) -> Problem | None:
    """What is YAML, but not data that every reader understands alike and that has an end; the first such thing."""
    waiting, count = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _LARGEST:
            what = f"more than {_DEEPEST} levels deep or {_LARGEST} values large"
            hint = "an alias (*x) inside of itself, or aliases of aliases: write it out"
            return Problem("E107", what, file=file, line=line_of(node), hint=hint)
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace(_TAG, "!!")
            hint = "without the tag; a secret: `ostack-k8s secrets set`"
            return Problem(
                "E107", f"the tag {tag} has no meaning here", file=file, line=line_of(node), hint=hint
            )
        if isinstance(node, yaml.SequenceNode):
            waiting += ((item, depth + 1) for item in reversed(node.value))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    return Problem("E107", "a key is not a plain name", file=file, line=line_of(key))
                if key.tag == f"{_TAG}merge" and isinstance(value, yaml.ScalarNode):
                    what, hint = f"`<<` merges mappings, not {value.value!r}", "<<: *name, of a mapping &name"
                    return Problem("E107", what, file=file, line=line_of(key), hint=hint)
            waiting += ((value, depth + 1) for _, value in reversed(node.value))
    return None


def _shape(root: yaml.MappingNode, file: str) -> Iterator[Problem]:
    for key, value in root.value:
        line = line_of(key)
        if key.value not in TOP_LEVEL:
            close = nearest(key.value, TOP_LEVEL) or f"known: {', '.join(TOP_LEVEL)}"
            yield Problem(
                "E107",
                f"unknown key {key.value!r} at top level",
                file=file,
                line=line,
                hint=close,
            )
        elif key.value == "parameters" and not isinstance(value, yaml.MappingNode) and not is_null(value):
            yield Problem("E107", "`parameters` is not a mapping", file=file, line=line)
        elif key.value in ("classes", "applications"):
            if isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    if not isinstance(item, yaml.ScalarNode) or "${" in item.value:
                        what = f"an entry of `{key.value}` is not a plain name"
                        yield Problem(
                            "E107",
                            what,
                            file=file,
                            line=line_of(item),
                            hint="write the name itself",
                        )
            elif not is_null(value):
                hint = f"{key.value}: [{value.value}]" if isinstance(value, yaml.ScalarNode) else None
                yield Problem(
                    "E107",
                    f"`{key.value}` is not a list",
                    file=file,
                    line=line,
                    hint=hint,
                )


def _duplicates(node: yaml.Node, file: str) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield Problem(
                        "E102",
                        f"key {key.value!r} stands twice in one mapping",
                        file=file,
                        line=line_of(key),
                        hint=f"first in line {seen[key.value]}; keep one",
                    )
                seen.setdefault(key.value, line_of(key))
            yield from _duplicates(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicates(item, file)


def line_of(node: yaml.Node) -> int:
    """1-based."""
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def absolute(name: str, source: str) -> str:
    """A class name as written (`.server`, `..other`) in a class, made absolute."""
    if not name.startswith("."):
        return name
    dots = len(name) - len(name.lstrip("."))
    above = source.split(".")[: -dots or None]
    return ".".join([*above, name[dots:]])


def nearest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str | None:
    """ "did you mean `x`?", or nothing."""
    found = get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean `{found[0]}`?" if found else None


def _meant(node: str, machines: Sequence[str]) -> str | None:
    """The machine that a name without its domain, or a misspelt one, means."""
    short = next((name for name in machines if name.split(".")[0] == node), None)
    return f"did you mean `{short}`?" if short else nearest(node, machines)


def plain(node: yaml.Node) -> Any:
    """The value of a YAML node."""
    loader = Loader("")
    return loader.construct_document(node)


def entries(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """(key without `~` or `=`, key node, value node) of a mapping; nothing for anything else."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value).lstrip("~="), key, value


def override_parameters(text: str, parameters: Mapping[str, Any]) -> str:
    """A machine's file with some `_param` set; all other scalars keep the way they are written."""
    root = yaml.compose(text, Loader) or yaml.MappingNode("tag:yaml.org,2002:map", [])
    added = yaml.compose(yaml.safe_dump({"parameters": {"_param": dict(parameters)}}), Loader)
    assert added is not None
    _lay_over(root, added)
    return str(yaml.serialize(root))


def _lay_over(node: yaml.Node, added: yaml.Node) -> None:
    known = {key.value: value for key, value in node.value}
    for key, value in added.value:
        if isinstance(known.get(key.value), yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            _lay_over(known[key.value], value)
        else:
            node.value = [pair for pair in node.value if pair[0].value != key.value] + [(key, value)]
