"""What units are, and the state of a battle of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.accelerator import accelerated

UNIT_TYPES = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")
"""Names of the unit types, in JaxMARL's order."""
UNIT_LETTERS = "mMsZzh"
"""One letter each: m marine, M marauder, s stalker, Z zealot, z zergling, h hydralisk."""
MOVES = ("north", "east", "south", "west", "stop")
FIRST_ATTACK = len(MOVES)
"""The action that attacks the first of the other team."""

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


def over_units(number: int, body: Callable[[Any, Any], Any], start: Any) -> Any:
    """`body` for unit 0, 1 ... number - 1, as `jax.lax.fori_loop`: a loop on a CPU, one fused kernel elsewhere."""
    return jax.lax.fori_loop(0, number, body, start, unroll=number if accelerated() else None)
