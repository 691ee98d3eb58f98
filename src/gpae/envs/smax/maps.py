"""Which battles there are: JaxMARL's maps by name, and scenarios of two lists of units."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpae.envs.smax.units import UNIT_LETTERS, UNIT_TYPES
from gpae.errors import UserError, unknown_name

CUSTOM = "custom:"


@dataclass(frozen=True, eq=False)
class Scenario:
    """Who fights whom, with JaxMARL's names: one of its own scenarios will do as well."""

    unit_types: np.ndarray
    """Of the allies and then of the enemies, [U] uint8: indices of `UNIT_TYPES`."""
    num_allies: int
    num_enemies: int
    smacv2_position_generation: bool = False
    """Whether the teams begin anywhere, as in SMACv2, and not on two sides."""
    smacv2_unit_type_generation: bool = False
    """Whether each battle draws types of its own."""


def scenario(allies: str | Sequence[str], enemies: str | Sequence[str]) -> Scenario:
    """A battle of two unit lists, with the plain starting positions (allies left, enemies right).

    Args:
      allies: "3m2s" (letters of `UNIT_LETTERS`: note Z zealot, z zergling) or a list of names of `UNIT_TYPES`.
      enemies: likewise.

    Raises:
      UserError: an unknown unit type, or an empty team.
    """
    ours, theirs = _units(allies), _units(enemies)
    return Scenario(np.array(ours + theirs, np.uint8), len(ours), len(theirs))


def _units(units: str | Sequence[str]) -> list[int]:
    """Type indices of a team, given as "3m2s" or as a list of type names."""
    if isinstance(units, str):
        parts = re.findall(r"(\d+)([a-zA-Z])", units)
        if not parts or "".join(n + letter for n, letter in parts) != units:
            raise UserError(f"units {units!r}: expected counts and letters such as '3m2s'; letters {UNIT_LETTERS}")
        letters = [(int(n), letter) for n, letter in parts]
        if wrong := [letter for _, letter in letters if letter not in UNIT_LETTERS]:
            known = ", ".join(f"{letter} {name}" for letter, name in zip(UNIT_LETTERS, UNIT_TYPES, strict=True))
            raise UserError(f"units {units!r}: no unit type {wrong[0]!r}; there are {known}")
        types = [UNIT_LETTERS.index(letter) for n, letter in letters for _ in range(n)]
    else:
        for unit in units:
            if unit not in UNIT_TYPES:
                raise unknown_name("unit type", unit, UNIT_TYPES)
        types = [UNIT_TYPES.index(unit) for unit in units]
    if not types:
        raise UserError("a team needs at least one unit")
    return types


def _drawn(units: int) -> Scenario:
    """SMACv2's battles of so many units a side, whose types and positions are drawn."""
    return replace(
        scenario(f"{units}m", f"{units}m"), smacv2_position_generation=True, smacv2_unit_type_generation=True
    )


_MAPS = {
    "3m": scenario("3m", "3m"),
    "2s3z": scenario("2s3Z", "2s3Z"),
    "25m": scenario("25m", "25m"),
    "3s5z": scenario("3s5Z", "3s5Z"),
    "8m": scenario("8m", "8m"),
    "5m_vs_6m": scenario("5m", "6m"),
    "10m_vs_11m": scenario("10m", "11m"),
    "27m_vs_30m": scenario("27m", "30m"),
    "3s5z_vs_3s6z": scenario("3s5Z", "3s6Z"),
    "3s_vs_5z": scenario("3s", "5Z"),
    "6h_vs_8z": scenario("6h", "8Z"),
    "smacv2_5_units": _drawn(5),
    "smacv2_10_units": _drawn(10),
    "smacv2_20_units": _drawn(20),
}
"""JaxMARL's table. Here, since importing JaxMARL takes seconds; a test holds the two against each other."""


def _maps() -> dict[str, Scenario]:
    """Ours, and what else the user has given to JaxMARL's `register_scenario`: for that she has imported it."""
    theirs = sys.modules.get("jaxmarl.environments.smax.smax_env")
    return _MAPS | {k: v for k, v in getattr(theirs, "MAP_NAME_TO_SCENARIO", {}).items() if k not in _MAPS}


def map_names() -> list[str]:
    """JaxMARL's maps, those that were registered with its `register_scenario` included."""
    return list(_maps())


def named_scenario(name: str) -> Scenario:
    """The scenario of a map, or of "custom:3m2s_vs_4m1Z".

    Raises:
      UserError: no such map, or a wrong list of units.
    """
    if name.startswith(CUSTOM):
        allies, versus, enemies = name.removeprefix(CUSTOM).partition("_vs_")
        if not versus:
            raise UserError(f"custom scenario {name!r}: expected two unit lists, such as 'custom:3m2s_vs_4m1Z'")
        return scenario(allies, enemies)
    if (found := _maps().get(name)) is None:
        raise unknown_name("SMAX map", name, map_names())
    return found


def ally_types(scenario: Scenario) -> tuple[str, ...] | None:
    """The allies' unit types; None where every episode draws them anew."""
    if scenario.smacv2_unit_type_generation:
        return None
    types = np.asarray(scenario.unit_types)[: scenario.num_allies]
    return tuple(UNIT_TYPES[kind] for kind in types)
