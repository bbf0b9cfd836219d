"""The files of the model themselves: YAML, shape, classes that exist, values that two YAML versions read apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import SETTINGS_FILE
from reclass_model.sources import Source, Sources, entries, line_of, nearest

_PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
_TAG = "tag:yaml.org,2002:"


def file_problems(sources: Sources) -> Iterator[Problem]:
    """Problems of every file that makes a machine, and of every other file at cluster level."""
    repository = sources.repository
    names = repository.node_names()
    if not names:
        raise OperatorError(
            "the model has no machines", code="E002", file="nodes", hint="`ostack-k8s node add`"
        )
    if not repository.cluster_dir.is_dir():
        name = repository.settings.cluster_name
        yield Problem(
            "E002",
            f"the cloud is named {name!r}, but classes/cluster/{name} does not exist",
            file=SETTINGS_FILE,
            hint="`cluster_name` is the name of the directory in classes/cluster",
        )
    machines = {repository.node_file(name) for name in names}
    for path in set(repository.nodes_dir.rglob("*.y*ml")) - machines:
        what, hint = (
            "this is no machine's file: one is nodes/<fqdn>.yml itself",
            "move it there, or out of nodes/",
        )
        yield Problem("E107", what, file=repository.relative(path), hint=hint)
    seen: dict[str, Source] = {}
    for name in names:
        for source in sources.chain(name):
            seen[source.file] = source
    for name, path in sources.class_files.items():
        if path.is_relative_to(repository.cluster_dir) and path != repository.lock_file:
            seen.setdefault(repository.relative(path), sources.read(path, name))
    for source in seen.values():
        yield from source.problems
        yield from missing_classes(source, sources)
        yield from _ambiguous(source.parameters, source.file)


def missing_classes(source: Source, sources: Sources) -> Iterator[Problem]:
    """The classes that a file includes and that do not exist."""
    for name, line in source.includes():
        if name not in sources.class_files:
            hint = nearest(name, sources.class_files) or "classes lie in classes/, dots are directories"
            yield Problem("E103", f"class {name!r} does not exist", file=source.file, line=line, hint=hint)


def _ambiguous(node: yaml.Node | None, file: str) -> Iterator[Problem]:
    if isinstance(node, yaml.ScalarNode):
        if not node.style and _reads_differently(node):
            yield Problem(
                "W101",
                f"{node.value} is read differently by YAML 1.1 and 1.2",
                file=file,
                line=line_of(node),
                hint=f'write "{node.value}"'
                if not node.tag.endswith(":bool")
                else "write true, false or quote it",
            )
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _ambiguous(item, file)
    else:
        for _, key, value in entries(node):
            yield from _ambiguous(key, file)
            yield from _ambiguous(value, file)


def _reads_differently(node: yaml.ScalarNode) -> bool:
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if kind == "bool":
        return text not in ("true", "false")
    if kind == "int":
        return not _PLAIN_INTEGER.fullmatch(text)
    if kind == "float":
        return (
            bool(re.fullmatch(r"[0-9]+\.[0-9]+0", text)) or ":" in text or "_" in text
        )  # 2026.10 becomes 2026.1
    return kind == "timestamp"
