"""Runs inside a package image, alone, with the image's own Python: prints which oslo.config options it knows.

Every library says its options through the entry points `oslo.config.opts`. Options that depend on a plugin (how to
authenticate, say) are not among them: `<option>=<entry points>` on the command line names the plugins that bring
options to every section with that option. The answer, as JSON: `namespaces` (namespace → section → option → what it
takes, in the words of `reclass_model.options`) and `failed` (what cannot be asked in this image, and why).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any

FAILED: dict[str, str] = {}  #: what is loaded → why it could not be
_KINDS = {"Boolean": "boolean", "Integer": "integer", "Port": "integer", "Float": "number", "List": "list"}


def takes(option: Any) -> str:
    """What an option takes: "integer 1..65535", "one of a|b", "multi text" …"""
    kind = option.type
    name = type(kind).__name__
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    high = None if high == sys.maxsize else high
    if choices := getattr(kind, "choices", None):
        any_case = " in any case" if getattr(kind, "ignore_case", False) else ""
        said = f"one of{any_case} {'|'.join(str(choice) for choice in choices)}"
    elif name in _KINDS and (low is not None or high is not None):
        said = f"{_KINDS[name]} {'' if low is None else low}..{'' if high is None else high}"
    else:
        said = _KINDS.get(name, "text")
    return f"multi {said}" if getattr(option, "multi", False) else said


def names(section: str, option: Any) -> Iterator[tuple[str, str, str]]:
    """(section, option, what it takes): the option, and its former names as "renamed <section>/<option>"."""
    yield section, option.dest, takes(option)
    for old in getattr(option, "deprecated_opts", None) or getattr(option, "deprecated", None) or ():
        former = (getattr(old, "group", None) or section, (old.name or option.name).replace("-", "_"))
        if former != (section, option.dest):
            yield *former, f"renamed {section}/{option.dest}"


def listed(declared: Iterable[tuple[Any, Iterable[Any]]]) -> dict[str, dict[str, str]]:
    """Section → option → what it takes, of one namespace."""
    sections: dict[str, dict[str, str]] = {}
    for group, options in declared:
        section = str(getattr(group, "name", group) or "DEFAULT")
        for option in options:
            for place, name, said in names(section, option):
                known = sections.setdefault(place, {})
                if not said.startswith("renamed ") or name not in known:
                    known[name] = said
    return sections


def of_plugins(group: str) -> list[Any]:
    """The options of all plugins of an entry point group."""
    return [option for _, plugin in loaded(group) for option in plugin().get_options()]


def loaded(group: str) -> Iterator[tuple[str, Any]]:
    """What an entry point group names and what can be imported here."""
    for point in entry_points(group=group):
        try:
            found = point.load()
        except Exception as error:  # whatever a library does when what it could use is not installed
            FAILED[point.value] = str(error)
        else:
            yield point.name, found


def main(*plugins: str) -> None:
    bring = {option: of_plugins(group) for option, group in (plugin.split("=", 1) for plugin in plugins)}
    namespaces: dict[str, dict[str, dict[str, str]]] = {}
    for namespace, declare in loaded("oslo.config.opts"):
        try:
            sections = listed(declare())
        except Exception as error:  # see above
            FAILED[namespace] = str(error)
            continue
        for section, known in sections.items():
            for option in bring.keys() & known.keys():
                for place, name, said in (found for each in bring[option] for found in names(section, each)):
                    sections[place].setdefault(name, said)
        namespaces[namespace] = {section: known for section, known in sections.items() if known}
    json.dump({"namespaces": namespaces, "failed": FAILED}, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
