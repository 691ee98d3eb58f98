"""JaxMARL's heuristic enemy for E battles at once, computed from their states: it needs no observations.

It attacks whom it attacked last while that one is in range, otherwise the closest or a random one in range; where
nobody is, it walks towards a random one in sight; where nobody is in sight, towards the mirror image of where it began.

Source: jaxmarl.environments.smax.heuristic_enemy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from gpae.envs.smax.units import ATTACK_RANGE, FIRST_ATTACK, MAP_SIZE, SIGHT_RANGE, State, length, of_type

AttackMode = Literal["closest", "random"]


def enemy_actions(state: State, num_allies: int, whither: Array, whom: Array, mode: AttackMode) -> tuple[Array, State]:
    """What the enemies do, and the state with what they remember.

    Args:
      state: leaves [..., E].
      num_allies: N.
      whither: [M, E] in [0, 1), draws whom in sight an enemy walks to.
      whom: [M, E] in [0, 1), draws whom it attacks; used where `mode` is "random".
      mode: whom it attacks.

    Returns:
      [M, E] int32.
    """
    # Dead ones see nothing and believe to be at (0, 0), as their observations would say.
    alive = state.alive[num_allies:]
    own_x, own_y = (jnp.where(alive, p[num_allies:], 0.0) for p in (state.x, state.y))
    types, last = state.types[num_allies:], state.last_target
    sight, reach = of_type(SIGHT_RANGE, types), of_type(ATTACK_RANGE, types)
    # They count the allies from the last to the first; all that follows is [N, M, E].
    others_x, others_y, there = (v[:num_allies][::-1] for v in (state.x, state.y, state.alive))
    x, y = others_x[:, None] - own_x, others_y[:, None] - own_y
    visible = (length(x, y) < sight) & there[:, None] & alive
    # Observations are in units of the sight: the way there and back is rounded.
    x, y = (jnp.where(visible, v / sight * sight, 0.0) for v in (x, y))
    distance = length(x, y)
    close = visible & (distance < reach)

    def at(values: Array, number: Array) -> Array:
        """[M, E] of [N, M, E], by each enemy's own number of an ally."""
        return jnp.take_along_axis(values, number[None], axis=0)[0]

    target = _choose(close, whom) if mode == "random" else _closest(jnp.where(close, distance, jnp.inf))
    target = jnp.where((last >= 0) & at(close, jnp.maximum(last, 0)), last, target)
    can_shoot = close.any(axis=0)

    # The middle of the map is where those pass that go to the other side.
    first = (state.heading_x == 0.0) & (state.heading_y == 0.0) & (last == -1)
    half = MAP_SIZE / 2
    heading_x = jnp.where(first, -(own_x - half) + half, state.heading_x)
    heading_y = jnp.where(first, -(own_y - half) + half, state.heading_y)
    walked_to, sees = _choose(visible, whither), visible.any(axis=0)
    way_x = jnp.where(sees, at(x, walked_to) + own_x, heading_x) - own_x
    way_y = jnp.where(sees, at(y, walked_to) + own_y, heading_y) - own_y
    move, best = jnp.zeros(last.shape, jnp.int32), way_y
    for number, along in enumerate((way_x, -way_y, -way_x), 1):
        move, best = jnp.where(along > best, number, move), jnp.maximum(along, best)
    after = replace(
        state, heading_x=heading_x, heading_y=heading_y, last_target=jnp.where(can_shoot, target, -1).astype(jnp.int32)
    )
    return jnp.where(can_shoot, target + FIRST_ATTACK, move).astype(jnp.int32), after


def _closest(distance: Array) -> Array:
    """The first number of the smallest of `distance` [N, M, E], [M, E] int32: a loop, which is quicker than argmin."""

    def compare(number: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        here = jax.lax.dynamic_index_in_dim(distance, number, keepdims=False)
        return jnp.minimum(here, best[0]), jnp.where(here < best[0], number, best[1])

    start = (jnp.full(distance.shape[1:], jnp.inf), jnp.zeros(distance.shape[1:], jnp.int32))
    return jax.lax.fori_loop(0, len(distance), compare, start)[1]


def _choose(eligible: Array, u: Array) -> Array:
    """Of `eligible` [N, M, E] one by `u` [M, E] in [0, 1), as `jax.random.choice` does: [M, E] int32, 0 if none is."""
    cumulated = jnp.cumsum(eligible / jnp.maximum(eligible.sum(0), 1), axis=0)
    found = jnp.sum(cumulated < cumulated[-1] * (1.0 - u), axis=0)
    return jnp.minimum(found, len(eligible) - 1).astype(jnp.int32)
