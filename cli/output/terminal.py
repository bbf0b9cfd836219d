"""Tables for people; rich is loaded only here, and colour is used only on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 1000  # columns, where there is no terminal to ask: what reads a pipe reads lines


@cache
def console() -> Console:
    """The terminal, or a wide plain sheet when stdout is a file or a pipe."""
    from rich.console import Console

    made = Console(highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def write(text: str = "", style: str = "", indent: int = 0) -> None:
    """One line of text, never read as markup."""
    from rich.text import Text

    console().print(Text(" " * indent + text, style), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Rows under bold headings, no lines; `styles` colours the columns from the left."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, style=styles[number] if number < len(styles) else None, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if console().is_terminal:
        console().print(table)
        return
    with console().capture() as captured:
        console().print(table)
    for line in captured.get().splitlines():
        write(line.rstrip())
