"""Mapping → text of a configuration file.

The model writes a configuration file as data: `{format: ini|oslo|yaml|json|shell|raw, mode: "0640", data: …}`. Images
bake such files (`<system>:<role>:image:config`), workloads mount them as Secrets
(`kubernetes:control:workload:*:secret`), operators' clients read them (`kubernetes:control:credentials`); all render
them here, so a setting reads the same wherever it ends up. Pure, and deterministic: the text depends on the data only,
never on the order of classes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from reclass_model.errors import OperatorError


def render(format: str, data: Any) -> str:
    """The text of a file. Keys are sorted and nulls (deleted settings) skipped.

    OperatorError E501 for what the format cannot say.
    """
    try:
        writer = _WRITERS[format]
    except KeyError:
        raise OperatorError(
            f"unknown configuration format {format!r}",
            code="E501",
            hint=f"one of: {', '.join(sorted(_WRITERS))}",
        ) from None
    return writer(data)


def _ini(data: Any) -> str:
    """`{section: {option: value}}`. A list is comma-joined; `{multi: [a, b]}` repeats the option."""
    if not isinstance(data, Mapping):
        raise OperatorError(f"an ini file is a mapping of sections, not {data!r}", code="E501")
    sections = []
    for section in sorted(data):
        options = data[section]
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise OperatorError(
                f"ini section {section!r} is a mapping of options, not {options!r}", code="E501"
            )
        lines = [f"[{section}]"]
        for option in sorted(options):
            lines += [f"{option} = {text}" for text in _ini_values(section, option, options[option])]
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def _ini_values(section: str, option: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping) and set(value) == {"multi"} and isinstance(value["multi"], list):
        return [_scalar(section, option, each) for each in value["multi"]]
    if isinstance(value, list):
        return [",".join(_scalar(section, option, each) for each in value)]
    return [_scalar(section, option, value)]


def _scalar(section: str, option: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value).rstrip("\n").replace("\n", "\n    ")
    raise OperatorError(
        f"[{section}] {option} cannot be {value!r}",
        code="E501",
        hint="a string, number, boolean, list of those, or {multi: [...]}",
    )


def _yaml(data: Any) -> str:
    import yaml

    return yaml.safe_dump(_without_nulls(data), sort_keys=True, default_flow_style=False, allow_unicode=True)


def _json(data: Any) -> str:
    return json.dumps(_without_nulls(data), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _shell(data: Any) -> str:
    """`{VARIABLE: value}`, exported to what a shell starts after it has read the file."""
    if not isinstance(data, Mapping):
        raise OperatorError(f"a shell file is a mapping of variables, not {data!r}", code="E501")
    return "".join(
        f"export {name}={shlex.quote(str(data[name]))}\n" for name in sorted(data) if data[name] is not None
    )


def _raw(data: Any) -> str:
    if not isinstance(data, str):
        raise OperatorError(f"a raw file is text, not {type(data).__name__}", code="E501")
    return data


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


_WRITERS: dict[str, Callable[[Any], str]] = {
    "ini": _ini,
    "json": _json,
    "oslo": _ini,  # of oslo.config: `validate` holds its options against the release's
    "raw": _raw,
    "shell": _shell,
    "yaml": _yaml,
}
