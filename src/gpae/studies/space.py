"""What is searched: a setting's choices, or its range, as a tuning's file has them in the place of a value.

epochs = { choices = [2, 4, 8] }
gamma = { low = 0.9, high = 0.999 }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""

from __future__ import annotations

import itertools
import math
import random
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpae.errors import UserError, unknown_name
from gpae.settings import Setting

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_MOST_CHOICES = 1000
_MOST_CHECKED = 1000
"""Combinations of values that are checked before anything is trained; of more, so many drawn at random."""


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Any, ...]

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"choices": list(self.values)}


@dataclass(frozen=True)
class Interval:
    """A number from low to high, both included; `log`: its logarithm is what is drawn evenly."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> range | None:
        """Its numbers, where they are whole."""
        return range(self.low, self.high + 1) if isinstance(self.low, int) and isinstance(self.high, int) else None

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole is not None:
            return IntDistribution(self.whole[0], self.whole[-1], log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"low": self.low, "high": self.high, "log": self.log}


Domain = Choices | Interval


def read_domain(setting: Setting, table: Mapping[str, Any]) -> Domain:
    """What a file's table says of a setting.

    Raises:
      UserError: it says nothing that can be searched, or a value is not the setting's. The message follows its name.
    """
    for name in table:
        if name not in ("choices", "low", "high", "log"):
            raise UserError(str(unknown_name("word", name, ("choices", "low", "high", "log"))))
    if "choices" in table and len(table) == 1:
        return Choices(_choices(setting, table["choices"]))
    if "choices" in table or not {"low", "high"} <= table.keys():
        raise UserError("must be a value, { choices = [...] }, or { low = ..., high = ..., log = true or false }")
    kinds = set(typing.get_args(setting.kind) or (setting.kind,)) & {int, float}
    if not kinds:
        raise UserError("is no number and has no range: give { choices = [...] }")
    low, high, log = setting.read(table["low"]), setting.read(table["high"]), table.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"log must be true or false, not {log!r}")
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        raise UserError("low and high must be finite numbers")
    if not low < high:
        raise UserError(f"low = {low} must be below high = {high}")
    if log and low <= 0:
        raise UserError(f"low = {low} has no logarithm: it must be above 0, or log = false")
    return Interval(low, high, log)


def _choices(setting: Setting, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list) or not 2 <= len(given) <= _MOST_CHOICES:
        raise UserError(f"choices must be a list of 2 to {_MOST_CHOICES} values")
    values = [setting.read(value) for value in given]
    if isinstance(values[0], tuple):
        raise UserError("is a list itself, and cannot be searched")
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise UserError(f"{twice[0]!r} stands twice among the choices")
    return tuple(values)


def combinations(space: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Values that settings can have together: all combinations of choices and whole numbers, or of very many some, with
    the lower ends of all other ranges and with the upper ones.
    """
    listed: dict[str, Sequence[Any]] = {}
    ranges: dict[str, Interval] = {}
    for name, domain in space.items():
        if isinstance(domain, Choices):
            listed[name] = domain.values
        elif (whole := domain.whole) is not None:
            listed[name] = whole
        else:
            ranges[name] = domain
    picks: Iterable[tuple[Any, ...]] = itertools.product(*listed.values())
    if math.prod(map(len, listed.values())) > _MOST_CHECKED:
        chance = random.Random(0)
        ends = [tuple(values[end] for values in listed.values()) for end in (0, -1)]
        drawn = (tuple(map(chance.choice, listed.values())) for _ in range(_MOST_CHECKED - len(ends)))
        picks = itertools.chain(ends, drawn)
    for pick in picks:
        chosen = dict(zip(listed, pick, strict=True))
        yield chosen | {name: domain.low for name, domain in ranges.items()}
        if ranges:
            yield chosen | {name: domain.high for name, domain in ranges.items()}
