"""Flags from dataclasses, by tyro; numbers that must be in a range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import tyro

from gpae.errors import UserError

Flags = TypeVar("Flags")


@dataclass
class Command(ABC):
    """A command: its docstring is its help, its fields are its flags, `run` is what it does."""

    imports: Annotated[list[str], tyro.conf.Suppress] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def run(self) -> int:
        """Does it; the exit code."""


def parse(kind: type[Flags], command: str, words: Sequence[str], default: Flags | None = None) -> Flags:
    """The flags of `gpae command` from words; prints help or errors and exits where there is nothing to run."""
    for flag in _OF_PAIRS:
        words = gathered(words, flag)
    flags: Any = tyro.cli(
        kind, default=default, prog=f"gpae {command}", args=words, config=(tyro.conf.OmitArgPrefixes,)
    )
    return flags


_OF_PAIRS = ("--env-options", "--scale", "--slurm")
"""Flags that take several words of the form NAME=VALUE."""


def gathered(words: Sequence[str], flag: str) -> list[str]:
    """`words` with everything that is given to `flag` in one place, at the end: of two flags neither is forgotten."""
    others: list[str] = []
    found: list[str] = []
    first = more = False
    for word in words:
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            first, more = not equals, True
            found += [value] if equals else []
        elif not word.startswith("-") and (first or (more and equals)):
            found.append(word)
            first = False
        else:
            others.append(word)
            first = more = False
    return [*others, flag, *found] if found else list(words)


def in_range(flag: str, value: float, least: float, most: float = 2**32 - 1) -> None:
    """Raises a UserError unless least <= value <= most."""
    if not least <= value <= most:
        raise UserError(f"{flag} is {value}; it must be between {least} and {most}")
