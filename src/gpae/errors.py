"""Mistakes of the user's, as opposed to mistakes of ours: one clear line, no traceback, exit code 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """A request that cannot be carried out as it was made. The message names what is wrong and what would do.

    It is one line that can be read whatever it is made from: names of files and values from elsewhere may hold line
    breaks, codes that move a terminal's cursor, and words without end.
    """

    def __init__(self, message: str):
        super().__init__(re.sub(r"(\S{300})\S+", r"\1...", one_line(message)))


def one_line(text: str) -> str:
    """`text` with line breaks and tabs as spaces, and other characters that do not print as escapes."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text.strip())


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest that do."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
