"""Settings as frozen dataclasses that are pytrees: every field carries its type, its range and whether it is traced.

    @settings
    class Clipping:
        clip: Annotated[float, above(0), TRACED] = 0.2
        \"\"\"How far the probability ratio may move.\"\"\"
        clip_values: bool = True
        \"\"\"Clip the critic's change, too.\"\"\"

Traced fields are leaves of the tree: changing them compiles nothing, and `jax.vmap` may run over them as it does over
seeds. All others are static. A field that is itself settings is a *part*; names are unique over all parts, so that
command lines, config.json, presets and studies are flat. A subclass takes a field away by naming it a `ClassVar`.
Every field has a default.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from gpae.errors import UserError, unknown_name

Part = TypeVar("Part")
TRACED = "traced"
"""Marks a field whose value is an input of compiled programs and no part of them."""


@dataclass(frozen=True)
class Range:
    """Which numbers a field may be."""

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        low = f"greater than {self.low:g}" if self.low_open else f"at least {self.low:g}"
        if math.isinf(self.high):
            return f"{low} and finite"
        if not (self.low_open or self.high_open):
            return f"between {self.low:g} and {self.high:.15g}"
        return f"{low} and {'below' if self.high_open else 'at most'} {self.high:g}"


def at_least(low: float) -> Range:
    """[low, infinity)."""
    return Range(low)


def above(low: float) -> Range:
    """(low, infinity)."""
    return Range(low, low_open=True)


def between(low: float, high: float) -> Range:
    """[low, high]."""
    return Range(low, high, high_open=False)


Count = Annotated[int, between(1, 2**40)]
"""A number of things of which there is at least one; 2^40 is beyond what any machine holds."""
Size = Annotated[int, between(1, 2**20)]
"""A width of layers, or of axes that are held in memory."""
Layers = Annotated[int, between(0, 100)]
Unit = Annotated[float, between(0, 1)]
TracedUnit = Annotated[float, between(0, 1), TRACED]
NotNegative = Annotated[float, at_least(0), TRACED]
Positive = Annotated[float, above(0), TRACED]


@dataclass(frozen=True)
class Setting:
    """One field of settings, as whoever reads values for it needs to know it."""

    name: str
    kind: Any
    """Its type, without annotations: bool, int, float, str, a Literal, tuple[str, ...], or one of them or None."""
    range: Range | None
    traced: bool
    default: Any
    owner: type
    """The class that declares it."""

    @property
    def flag(self) -> str:
        """How it is spelt on the command line."""
        return flag(self.name)

    @property
    def key(self) -> str:
        """How it is spelt in files: a trailing underscore, which Python needs, is left out."""
        return self.name.rstrip("_")

    def read(self, value: Any) -> Any:
        """`value`, from JSON, TOML or Python, as this setting has it.

        Raises:
          UserError: it has another type or is out of range; the message begins with a verb, for whoever names the key.
        """
        kind, optional = self.kind, False
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kinds = [k for k in typing.get_args(kind) if k is not type(None)]
            kind, optional = kinds[0], True
        if optional and (value is None or value == "None"):
            return None
        return self._ranged(_typed(kind, value, " or None" * optional))

    def _ranged(self, value: Any) -> Any:
        if self.range is not None and value not in self.range:
            raise UserError(f"is {value}; it must be {self.range}")
        return value


def _typed(kind: Any, value: Any, otherwise: str) -> Any:
    """`value` where it is of this kind; whole numbers are numbers, lists are tuples."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if isinstance(value, bool) and (word := str(value).lower()) in choices:
            return word
        if not isinstance(value, str) or value not in choices:
            raise UserError(f"is {value!r}; it must be one of {', '.join(map(str, choices))}{otherwise}")
        return value
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise UserError(f"must be a list of strings, not {_shown(value)}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"is {_shown(value)}, which is more than a number can be") from None
    if type(value) is not kind:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
        raise UserError(f"must be {words.get(kind, kind)}{otherwise}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[Part]) -> type[Part]:
    """Makes a class a frozen, keyword-only dataclass and a pytree; see the module's docstring."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    known, leaves = {}, []
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        kind: Any = hints[field.name]
        marks: list[Any] = []
        if typing.get_origin(kind) is Annotated:
            kind, *marks = typing.get_args(kind)
        traced = TRACED in marks
        if traced or is_settings(kind):
            leaves.append(field.name)
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        owner = next(c for c in made.__mro__ if field.name in inspect.get_annotations(c))
        known[field.name] = Setting(field.name, kind, ranges[0] if ranges else None, traced, field.default, owner)
    static = [name for name in known if name not in leaves]
    jax.tree_util.register_dataclass(made, data_fields=leaves, meta_fields=static)
    made.__settings__ = known  # type: ignore[attr-defined]
    settings_of(made)  # refuses a name that stands in two parts
    return made


def is_settings(kind: Any) -> bool:
    """Whether `kind` is a class of settings."""
    return isinstance(kind, type) and "__settings__" in kind.__dict__


def settings_of(kind: Any) -> dict[str, Setting]:
    """All settings of a class, or of a value of it, by name: those of its parts included.

    A class's parts are those that it has by default.
    """
    return _flat(kind, getattr(kind, "__name__", type(kind).__name__))


def _flat(kind: Any, where: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name, setting in kind.__settings__.items():
        part = setting.default if isinstance(kind, type) else getattr(kind, name)
        inner = _flat(part, name) if is_settings(type(part)) else {name: setting}
        if twice := sorted(found.keys() & inner.keys()):
            raise TypeError(f"{where}: {', '.join(twice)} stands in two parts")
        found |= inner
    return found


def parts_of(value: Any) -> dict[str, Any]:
    """The parts of settings, by the names of their fields."""
    fields = {name: getattr(value, name) for name in value.__settings__}
    return {name: part for name, part in fields.items() if is_settings(type(part))}


def values_of(value: Any) -> dict[str, Any]:
    """Name -> value of all settings, those of the parts included."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        here = getattr(value, field.name)
        found |= values_of(here) if is_settings(type(here)) else {field.name: here}
    return found


def replaced(value: Part, changes: Mapping[str, Any]) -> Part:
    """`value` with other values, each checked, in whatever part its name stands.

    Raises:
      UserError: a name that it does not have, or a value of another type or out of range.
    """
    known = settings_of(value)
    for name in changes:
        if name not in known:
            raise unknown_name("setting", name, known)
    return _replaced(value, {name: checked(known[name], new) for name, new in changes.items()})


def checked(setting: Setting, value: Any) -> Any:
    """`value` as the setting has it, or an error that begins with its flag."""
    try:
        return setting.read(value)
    except UserError as error:
        raise UserError(f"{setting.flag} {error}") from error


def _replaced(value: Any, changes: Mapping[str, Any]) -> Any:
    new = {name: _replaced(part, changes) for name, part in parts_of(value).items()}
    here = {f.name for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **new, **{n: v for n, v in changes.items() if n in here and n not in new})


def check_ranges(value: Any) -> None:
    """Checks types and ranges of settings that were made in Python.

    Raises:
      UserError: one is wrong; the message names its flag.
    """
    known = settings_of(value)
    for name, here in values_of(value).items():
        checked(known[name], here)


def as_arrays(value: Part) -> Part:
    """The same settings with their traced fields as float32 arrays, for compiled programs."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), value)


def named_values(option: str, words: Sequence[str]) -> dict[str, str]:
    """Name -> text, of options given as name=value.

    Args:
      option: the flag that they are given to, which errors name.
      words: one for each.

    Raises:
      UserError: no "=", no name before it, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not name.isidentifier():
            raise UserError(f"{option} {word}: an option is name=value")
        if name in found:
            raise UserError(f"{option} {word}: {name} is given twice")
        found[name] = text
    return found


def flag(name: str) -> str:
    """How the setting `name` is spelt on the command line."""
    return "--" + name.rstrip("_").replace("_", "-")
