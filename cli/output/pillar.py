"""A machine's pillar in words: the list of machines, where a value comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cli.output.structured import dump
from cli.output.terminal import print_table, write

if TYPE_CHECKING:
    from reclass_model.inventory import Node

ROLE_PREFIX = "system.role."


def print_machines(nodes: Iterable[Node]) -> None:
    """One line for each machine: name, address, roles, number of states files."""
    from reclass_model.inventory import get

    rows = [
        (
            node.name,
            str(get(node.parameters, "_param:address", "")),
            " ".join(name.removeprefix(ROLE_PREFIX) for name in node.classes if name.startswith(ROLE_PREFIX)),
            " ".join(node.applications),
        )
        for node in nodes
    ]
    print_table(("machine", "address", "roles", "states"), rows, styles=("bold", "", "cyan", "dim"))


def print_why(path: str, answer: Mapping[str, Any]) -> None:
    """The value, then every file:line that set it; the last one wins."""
    write(f"{path} = {_short(answer['value'])}", style="bold")
    _print_settings(answer["set_by"], indent=2)
    for reference in answer["references"]:
        write(f"through ${{{reference['path']}}}", style="cyan", indent=2)
        _print_settings(reference["set_by"], indent=4)


def _print_settings(settings: Iterable[Mapping[str, Any]], indent: int) -> None:
    settings = list(settings)
    for number, setting in enumerate(settings, 1):
        wins = number == len(settings)
        write(
            f"{setting['file']}:{setting['line']}  {_short(setting['value'])}",
            style="green" if wins else "dim",
            indent=indent,
        )


def _short(value: Any, width: int = 100) -> str:
    text = value if isinstance(value, str) else dump(value, "json").strip().replace("\n", " ")
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
