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
    flags: Any = tyro.cli(
        kind,
        default=default,
        prog=f"gpae {command}",
        args=list(words),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return flags


def in_range(flag: str, value: float, least: float, most: float = 2**32 - 1) -> None:
    """Raises a UserError unless least <= value <= most."""
    if not least <= value <= most:
        raise UserError(f"{flag} is {value}; it must be between {least} and {most}")
