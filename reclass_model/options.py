"""Which oslo.config options an image knows, by release, and whether a value suits one.

The lists are data in the class library, `options/<release>.json` beside the classes (and at cluster level, for what the
library does not know), written by `ostack-k8s images options --read` from the packages themselves:

    {"images": {<image>: [<namespace>, …]}, "namespaces": {<namespace>: {<section>: {<option>: <what it takes>}}}}

What an option takes is said in words: `text`, `boolean`, `integer 1..65535`, `number`, `list`, `one of a|b`,
`one of in any case a|b`, each also as `multi …` (may be repeated), or `renamed <section>/<option>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError
from reclass_model.repository import Repository, write_atomically
from reclass_model.secrets import is_secret

Namespaces = Mapping[str, Mapping[str, Mapping[str, str]]]  #: namespace → section → option → what it takes

DIRECTORY = "options"
_DEFAULT = "DEFAULT"
_BOOLEANS = {"true", "false", "yes", "no", "on", "off", "1", "0"}
_SUBSTITUTION = "$"  # oslo.config puts other options in: the text is not the value yet


@dataclass(frozen=True)
class Option:
    """One option that an image knows."""

    section: str
    name: str
    takes: str
    renamed: bool = False  #: asked for by a former name

    def __str__(self) -> str:
        return f"[{self.section}] {self.name}"

    @property
    def multi(self) -> bool:
        return self.takes.startswith("multi ")

    def refuses(self, value: Any) -> str | None:
        """What this option wants instead of a value (of a pillar, so no null); None when the value suits."""
        if isinstance(value, Mapping):
            if not self.multi:
                return "one value: it cannot be repeated"
            texts = [_text(each) for each in value.get("multi") or ()]
        elif isinstance(value, list):
            texts = [",".join(map(_text, value))]
        else:
            texts = [_text(value)]
        wanted = self.takes.removeprefix("multi ")
        unsuitable = (text for text in texts if not is_secret(text) and _SUBSTITUTION not in text)
        return next((words for text in unsuitable if (words := _refused(wanted, text))), None)


@dataclass(frozen=True)
class Options:
    """What one image knows."""

    sections: Mapping[str, Mapping[str, str]]

    def find(self, section: str, name: str) -> Option | None:
        """As oslo.config finds it: sections but DEFAULT in any case, `-` and `_` are the same."""
        known = self.section(section)
        name = name.replace("-", "_")
        takes = self.sections[known].get(name) if known else None
        if known is None or takes is None:
            return None
        if not takes.startswith("renamed "):
            return Option(known, name, takes)
        new_section, _, new_name = takes.removeprefix("renamed ").partition("/")
        new = self.sections.get(new_section, {}).get(new_name, "text")
        return Option(new_section, new_name, new, renamed=True)

    def section(self, name: str) -> str | None:
        if name in self.sections:
            return name
        return next(
            (each for each in self.sections if each.lower() == name.lower() and each != _DEFAULT), None
        )


@dataclass
class Catalog:
    """The lists of one release."""

    images: dict[str, list[str]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, release: str) -> Catalog:
        """Everything that the repo's classes know of a release; what is written at cluster level wins."""
        found = cls()
        paths = sorted(repository.classes_dir.rglob(f"{DIRECTORY}/{release}.json"))
        for path in sorted(paths, key=lambda path: path.is_relative_to(repository.cluster_dir)):
            read = cls.read(path, repository.relative(path))
            found.images.update(read.images)
            found.namespaces.update(read.namespaces)
        return found

    @classmethod
    def read(cls, path: Path, name: str) -> Catalog:
        """OperatorError E107 for a file that is none; no file is an empty one."""
        try:
            content = json.loads(path.read_text())
            return cls(dict(content["images"]), dict(content["namespaces"]))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            hint = "write it anew with `ostack-k8s images options --read`"
            raise OperatorError(
                f"not a list of options: {error}", code="E107", file=name, hint=hint
            ) from None

    def add(self, image: str, namespaces: Namespaces) -> None:
        """Take note of what an image said of itself. Two images may know different parts of a namespace."""
        self.images[image] = sorted(namespaces)
        for namespace, sections in namespaces.items():
            known = self.namespaces.setdefault(namespace, {})
            for section, options in sections.items():
                known[section] = {**known.get(section, {}), **options}

    def write(self, path: Path) -> None:
        """Replace the file in one step: an option a line, sorted, so that a release's news are a diff to read."""
        used = {namespace for namespaces in self.images.values() for namespace in namespaces}
        namespaces = {name: sections for name, sections in self.namespaces.items() if name in used}
        content = {"images": self.images, "namespaces": namespaces}
        write_atomically(path, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def options(self, image: str) -> Options | None:
        """What an image knows; None when nobody wrote that down."""
        if image not in self.images:
            return None
        sections: dict[str, dict[str, str]] = {}
        for namespace in self.images[image]:
            for section, options in self.namespaces.get(namespace, {}).items():
                known = sections.setdefault(section, {})
                for name, takes in options.items():
                    if name not in known or known[name].startswith("renamed "):
                        known[name] = takes
        return Options(sections)


def of_variable(name: str) -> tuple[str, str] | None:
    """The (section, option) that an environment variable OS_<SECTION>__<OPTION> sets; None: another variable."""
    found = re.fullmatch(r"OS_([A-Z0-9_]+?)__([A-Z0-9_]+)", name)
    return (found[1] if found[1] == _DEFAULT else found[1].lower(), found[2].lower()) if found else None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refused(wanted: str, text: str) -> str | None:
    kind, _, rest = wanted.partition(" ")
    if kind == "boolean":
        return None if text.lower() in _BOOLEANS else "true or false"
    if kind in ("integer", "number"):
        return _number_refused(kind, rest, text)
    if kind == "one":
        any_case = rest.startswith("of in any case ")
        choices = rest.removeprefix("of in any case " if any_case else "of ").split("|")
        return None if _among(text, choices, any_case) else f"one of {', '.join(choices)}"
    return None


def _among(text: str, choices: Iterable[str], any_case: bool) -> bool:
    return text.lower() in {choice.lower() for choice in choices} if any_case else text in choices


def _number_refused(kind: str, bounds: str, text: str) -> str | None:
    words = "a whole number" if kind == "integer" else "a number"
    try:
        number = int(text) if kind == "integer" else float(text)
    except ValueError:
        return words
    low, _, high = bounds.partition("..")
    if (low and number < float(low)) or (high and number > float(high)):
        return f"{words} " + " and ".join(
            f"{side} {bound}" for side, bound in (("of at least", low), ("at most", high)) if bound
        )
    return None
