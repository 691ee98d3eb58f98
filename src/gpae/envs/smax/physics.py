"""The physics of E battles at once: arrays are [units, E], so that every operation runs along the environments.

The same numbers as JaxMARL's `SMAX._world_step` and what follows it, without its scatter, its gathers and its matrices
of pairs: damage is a comparison of targets, collisions are a loop over units.

Source: Rutherford et al. 2023 (arXiv 2311.10090); jaxmarl.environments.smax.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs.smax.units import (
    ATTACK,
    ATTACK_RANGE,
    COOLDOWN,
    FIRST_ATTACK,
    MAP_SIZE,
    RADIUS,
    SECONDS,
    VELOCITY,
    State,
    length,
    of_type,
    over_units,
)

# JaxMARL turns diagonal vectors by 45 degrees; a fused multiplication and addition leaves the rounding of a square.
_DIAGONAL = np.float32(1.0) / np.sqrt(np.float32(2.0))
_STEP = _DIAGONAL * _DIAGONAL + _DIAGONAL * _DIAGONAL
_REST = np.float32(np.float64(_DIAGONAL * _DIAGONAL) - np.float64(_DIAGONAL) ** 2)
# North, east, south, west.
MOVE_X = np.array([_REST, _STEP, -_REST, -_STEP], np.float32)
MOVE_Y = np.array([_STEP, _REST, -_STEP, -_REST], np.float32)


def decode(actions: Array) -> tuple[Array, Array, Array]:
    """Directions of movement x and y, and the attacks; 0 where an action is none. Each of the actions' shape."""
    x = y = jnp.zeros(actions.shape)
    for number in range(len(MOVE_X)):
        x = jnp.where(actions == number, MOVE_X[number], x)
        y = jnp.where(actions == number, MOVE_Y[number], y)
    return x, y, jnp.where(actions >= FIRST_ATTACK, actions, 0)


def targets(attack: Array, num_allies: int) -> Array:
    """Indices of the attacked units, [U, E]; -1 for nobody. Enemies count the units from the last to the first."""
    number = attack - FIRST_ATTACK
    ours = (np.arange(len(attack)) < num_allies)[:, None]
    return jnp.where(number < 0, -1, jnp.where(ours, num_allies + number, num_allies - 1 - number))


def push_apart(x: Array, y: Array, radius: Array, solid: Array) -> tuple[Array, Array]:
    """Positions after units that overlap have pushed each other, by half of the overlap each; `solid` ones alone."""
    # A unit of radius minus infinity overlaps with none.
    reach = jnp.where(solid, radius, -jnp.inf)

    def from_one(other: Array, pushed: tuple[Array, Array]) -> tuple[Array, Array]:
        row = partial(jax.lax.dynamic_slice_in_dim, start_index=other, slice_size=1)
        away_x, away_y = x - row(x), y - row(y)
        distance = length(away_x, away_y) + 1e-6  # of a unit to itself too: it is not pushed
        overlap = (reach + row(reach)) / distance - 1.0
        # Products are rounded before they are added, as JaxMARL's are: a compiler may not fuse through a choice.
        push_x, push_y = (jnp.where(overlap > 0.0, away * overlap, 0.0) for away in (away_x, away_y))
        return pushed[0] + push_x, pushed[1] + push_y

    zero = jnp.zeros_like(x)
    push_x, push_y = over_units(len(x), from_one, (zero, zero))
    return x + push_x / 2, y + push_y / 2


def damage(target: Array, amount: Array, num_allies: int) -> Array:
    """The damage that each unit takes, [U, E], of attackers' `amount` [U, E]."""

    def taken(first: int, number: int, target: Array, amount: Array) -> Array:
        """By the units first, first + 1 ... of one team, of the other's."""
        whom = np.arange(first, first + number)[:, None, None]
        return jnp.sum(jnp.where(target[None] == whom, amount[None], 0.0), axis=1)

    enemies = len(target) - num_allies
    by_enemies = taken(0, num_allies, target[num_allies:], amount[num_allies:])
    by_allies = taken(num_allies, enemies, target[:num_allies], amount[:num_allies])
    return jnp.concatenate([by_enemies, by_allies])


def battle(
    state: State, actions: Array, noise: Array, num_allies: int, *, walls_cause_death: bool, dead_bodies: bool
) -> State:
    """`TICKS` steps of the physics, with the same actions.

    Args:
      state: leaves [..., E].
      actions: [U, E] of all units.
      noise: [TICKS, U, E], deviations of the weapons' cooldowns in seconds.
      num_allies: N.
      walls_cause_death: whether units die at the edge of the map.
      dead_bodies: whether dead units move, push and are pushed, as in SMAX before 0.2.
    """
    move_x, move_y, attack = decode(actions)
    target = targets(attack, num_allies)
    none, whom = target < 0, jnp.maximum(target, 0)
    speed, reach = of_type(VELOCITY, state.types), of_type(ATTACK_RANGE, state.types)
    radius, harm, pause = (of_type(table, state.types) for table in (RADIUS, ATTACK, COOLDOWN))
    there = partial(jnp.take_along_axis, indices=whom, axis=0)

    def tick(now: tuple[Array, ...], noise: Array) -> tuple[tuple[Array, ...], None]:
        x, y, alive, health, cooldown = now
        away_x, away_y = x - there(x), y - there(y)
        near = length(away_x, away_y) < reach
        fires = near & alive & there(alive) & ~none & (cooldown <= 0.0)
        health = jnp.maximum(health - damage(target, jnp.where(fires, harm, 0.0), num_allies), 0.0)
        cooldown = cooldown + jnp.where(fires, pause + noise - cooldown, -SECONDS)
        moving = True if dead_bodies else alive
        x = jnp.where(moving, jnp.clip(x + move_x * speed * SECONDS, 0.0, MAP_SIZE), x)
        y = jnp.where(moving, jnp.clip(y + move_y * speed * SECONDS, 0.0, MAP_SIZE), y)
        if walls_cause_death:
            outside = (x <= 0.0) | (y <= 0.0) | (x >= MAP_SIZE) | (y >= MAP_SIZE)
            health = jnp.where(outside, 0.0, health)
        alive = health > 0.0
        x, y = push_apart(x, y, radius, jnp.ones_like(alive) if dead_bodies else alive)
        return (x, y, alive, health, cooldown), None

    before: tuple[Array, ...] = (state.x, state.y, state.alive, state.health, state.cooldown)
    (x, y, alive, health, cooldown), _ = jax.lax.scan(tick, before, noise)
    return replace(
        state,
        x=x,
        y=y,
        alive=alive,
        health=health,
        cooldown=cooldown,
        move_x=move_x,
        move_y=move_y,
        attack=attack,
        step=state.step + 1,
    )
