"""What commands show: tables, and what takes a while. Plain whole lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDE = 10_000
"""Columns of a pipe or a file: nothing is cut there."""


def console() -> Console:
    """Standard output, as wide as its lines where it is no terminal, without characters that it cannot write."""
    made = Console(highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made = Console(highlight=False, soft_wrap=True, width=_WIDE)
    return made


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Prints a table; columns of numbers stand to the right."""
    title = None if title is None else printable(title)
    shown = Table(box=None, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        numbers = rows and rows[0][place].replace(",", "").replace(".", "").isdigit()
        shown.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        shown.add_row(*map(printable, row))
    console().print(shown)


def printable(text: str) -> str:
    """`text` as standard output can write it: "±" is "+-" in ASCII, and what has no likeness is a question mark."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for character, plain in (("±", "+-"), ("━", "-"), ("…", "..."), ("×", "x")):
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace(character, plain)
    return text.encode(encoding, "replace").decode(encoding)


def patience(text: str) -> AbstractContextManager[Any]:
    """Says on stderr, where a person looks on, what takes a while."""
    console = Console(stderr=True)
    return console.status(f"{text} ...", spinner="dots" if console.encoding.startswith("utf") else "line")
