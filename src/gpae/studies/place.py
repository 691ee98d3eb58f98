"""Where a key stands in a TOML text, so that complaints can say so."""

from __future__ import annotations

import re
from collections.abc import Sequence


def locate(text: str, key: Sequence[str], value: str | None = None) -> int:
    """The line of a key in a TOML text, counted from 1; 1 if it is not there.

    Args:
      text: of the file.
      key: dotted path; where only the beginning of it is written (inline tables), its line.
      value: a string in the key's value; its line, if it stands on one of its own.
    """
    lines, table = text.splitlines(), []
    best = (0, 1)
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            table = found = _dotted(header.group(1))
        elif assigned := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w.\s-])+?)\s*=""", line):
            found = table + _dotted(assigned.group(1))
        else:
            continue
        # A table of a deeper name opens all those above it.
        common = next(
            (i for i, (a, b) in enumerate(zip(found, key, strict=False)) if a != b), min(len(found), len(key))
        )
        if (common == len(found) or common == len(key)) and common > best[0]:
            best = (common, number)
    if value is not None:
        for number in range(best[1], len(lines) + 1):
            if any(quote + value + quote in lines[number - 1] for quote in "\"'"):
                return number
    return best[1]


def _dotted(text: str) -> list[str]:
    """The parts of a dotted key."""
    return [a or b or c for a, b, c in re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\.?""", text)]
