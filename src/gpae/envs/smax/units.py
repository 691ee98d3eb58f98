"""What units are, which battles there are, and the state of one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.envs._jaxmarl import MAP_NAME_TO_SCENARIO, Scenario
from gpae.errors import UserError, unknown_name

UNIT_TYPES = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")
"""Names of the unit types, in JaxMARL's order."""
UNIT_LETTERS = "mMsZzh"
"""One letter each: m marine, M marauder, s stalker, Z zealot, z zergling, h hydralisk."""
MOVES = ("north", "east", "south", "west", "stop")
FIRST_ATTACK = len(MOVES)
"""The action that attacks the first of the other team."""
CUSTOM = "custom:"

# By unit type. Lengths in units of the map, times in seconds.
VELOCITY = np.array([3.15, 2.25, 4.13, 3.15, 4.13, 3.15], np.float32)
ATTACK = np.array([9.0, 10.0, 13.0, 8.0, 5.0, 12.0], np.float32)
ATTACK_RANGE = np.array([5.0, 6.0, 6.0, 2.0, 2.0, 5.0], np.float32)
SIGHT_RANGE = np.array([9.0, 10.0, 10.0, 9.0, 8.0, 9.0], np.float32)
RADIUS = np.array([0.375, 0.5625, 0.625, 0.5, 0.375, 0.625], np.float32)
HEALTH = np.array([45.0, 125.0, 160.0, 150.0, 35.0, 80.0], np.float32)
COOLDOWN = np.array([0.61, 1.07, 1.87, 0.86, 0.5, 0.59], np.float32)

MAP_SIZE = 32.0
"""Width and height of the map."""
TICKS = 8
"""Steps of the physics in one step of the environment."""
SECONDS = 1.0 / 16
"""Of one of them."""


@struct.dataclass
class State:
    """A battle of U = N + M units, the N allies first. In batched code each leaf has the environments last."""

    x: Array
    """[U] float32."""
    y: Array
    """[U] float32, upwards."""
    alive: Array
    """[U] bool."""
    health: Array
    """[U] float32."""
    types: Array
    """[U] uint8, indices of `UNIT_TYPES`."""
    cooldown: Array
    """[U] float32: seconds until the weapon can be used again."""
    move_x: Array
    """[U] float32: direction of the last movement; zero where there was none."""
    move_y: Array
    """[U] float32."""
    attack: Array
    """[U] int32: the last action where it was an attack, otherwise 0."""
    step: Array
    """[] int32: steps made."""
    heading_x: Array
    """[M] float32: where an enemy goes that sees nobody."""
    heading_y: Array
    """[M] float32."""
    last_target: Array
    """[M] int32: whom an enemy attacked last, allies counted from the last to the first; -1 nobody."""


def of_type(table: np.ndarray, types: Array) -> Array:
    """`table` [6] looked up by type: comparisons, which XLA fuses with their neighbours as it does not a gather."""
    found = jnp.full(types.shape, table[0], table.dtype)
    for kind, value in enumerate(table[1:], 1):
        found = jnp.where(types == kind, value, found)
    return found


def length(x: Array, y: Array) -> Array:
    """Of vectors. Squares are rounded before they are added, as JaxMARL's: compilers do not fuse through `maximum`."""
    return jnp.sqrt(jnp.maximum(x * x, 0.0) + jnp.maximum(y * y, 0.0))


def map_names() -> list[str]:
    """JaxMARL's maps, those that were registered with its `register_scenario` included."""
    return list(MAP_NAME_TO_SCENARIO)


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


def scenario(allies: str | Sequence[str], enemies: str | Sequence[str]) -> Scenario:
    """A battle of two unit lists, with the plain starting positions (allies left, enemies right).

    Args:
      allies: "3m2s" (letters of `UNIT_LETTERS`: note Z zealot, z zergling) or a list of names of `UNIT_TYPES`.
      enemies: likewise.

    Raises:
      UserError: an unknown unit type, or an empty team.
    """
    ours, theirs = _units(allies), _units(enemies)
    return Scenario(
        unit_types=jnp.array(ours + theirs, dtype=jnp.uint8),
        num_allies=len(ours),
        num_enemies=len(theirs),
        smacv2_position_generation=False,
        smacv2_unit_type_generation=False,
    )


def ally_types(scenario: Scenario) -> tuple[str, ...] | None:
    """The allies' unit types; None where every episode draws them anew."""
    if scenario.smacv2_unit_type_generation:
        return None
    types = np.asarray(scenario.unit_types)[: scenario.num_allies]
    return tuple(UNIT_TYPES[kind] for kind in types)


def named_scenario(name: str) -> Scenario:
    """The scenario of a map, or of "custom:3m2s_vs_4m1Z"."""
    if name.startswith(CUSTOM):
        allies, versus, enemies = name.removeprefix(CUSTOM).partition("_vs_")
        if not versus:
            raise UserError(f"custom scenario {name!r}: expected two unit lists, such as 'custom:3m2s_vs_4m1Z'")
        return scenario(allies, enemies)
    if name not in MAP_NAME_TO_SCENARIO:
        raise unknown_name("SMAX map", name, map_names())
    return MAP_NAME_TO_SCENARIO[name]
