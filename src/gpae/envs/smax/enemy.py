"""JaxMARL's heuristic enemy for E battles at once, computed from their states: it needs no observations.

It attacks whom it attacked last while that one is in range, otherwise the closest or a random one in range; where
nobody is, it walks towards a random one in sight; where nobody is in sight, towards the mirror image of where it began.

Source: jaxmarl.environments.smax.heuristic_enemy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gpae.envs.smax.units import ATTACK_RANGE, FIRST_ATTACK, MAP_SIZE, SIGHT_RANGE, State, length, of_type, over_units

AttackMode = Literal["closest", "random"]
_BLOCK = 16
"""XLA's cumulative sum adds up blocks of so many, and then the blocks; so does `_choose`, to round as it does."""


class Ally(NamedTuple):
    """One ally as the enemies see it, each [M, E]."""

    x: Array
    """Away from the enemy, and so is y."""
    y: Array
    distance: Array
    visible: Array
    close: Array
    """In range."""


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
    nobody, infinite = jnp.zeros(last.shape, bool), jnp.full(last.shape, jnp.inf)

    def ally(number: Array) -> Ally:
        """They count the allies from the last to the first."""
        row = partial(jax.lax.dynamic_slice_in_dim, start_index=num_allies - 1 - number, slice_size=1)
        x, y = row(state.x) - own_x, row(state.y) - own_y
        visible = (length(x, y) < sight) & row(state.alive) & alive
        # Observations are in units of the sight: the way there and back is rounded.
        x, y = x / sight * sight, y / sight * sight
        distance = length(x, y)
        return Ally(x, y, distance, visible, visible & (distance < reach))

    def look(number: Array, found: tuple[Array, ...]) -> tuple[Array, ...]:
        sees, best, target, keeps = found
        now = ally(number)
        better = now.close & (now.distance < best)
        return (
            sees | now.visible,
            jnp.where(better, now.distance, best),
            jnp.where(better, number, target),
            keeps | (now.close & (last == number)),
        )

    start = (nobody, infinite, jnp.zeros_like(last), nobody)
    sees, best, target, keeps = over_units(num_allies, look, start)
    can_shoot = best < jnp.inf
    if mode == "random":
        target = _choose(num_allies, lambda n: ally(n).close, whom)
    target = jnp.where(keeps, last, target)

    # The middle of the map is where those pass that go to the other side.
    first = (state.heading_x == 0.0) & (state.heading_y == 0.0) & (last == -1)
    half = MAP_SIZE / 2
    heading_x = jnp.where(first, -(own_x - half) + half, state.heading_x)
    heading_y = jnp.where(first, -(own_y - half) + half, state.heading_y)
    walked_to = _choose(num_allies, lambda n: ally(n).visible, whither)
    chosen_x, chosen_y = (
        jnp.take_along_axis(p[:num_allies], num_allies - 1 - walked_to, axis=0) for p in (state.x, state.y)
    )
    way_x = jnp.where(sees, (chosen_x - own_x) / sight * sight + own_x, heading_x) - own_x
    way_y = jnp.where(sees, (chosen_y - own_y) / sight * sight + own_y, heading_y) - own_y
    move, best = jnp.zeros_like(last), way_y
    for number, along in enumerate((way_x, -way_y, -way_x), 1):
        move, best = jnp.where(along > best, number, move), jnp.maximum(along, best)
    after = replace(state, heading_x=heading_x, heading_y=heading_y, last_target=jnp.where(can_shoot, target, -1))
    return jnp.where(can_shoot, target + FIRST_ATTACK, move), after


def _choose(count: int, eligible: Callable[[Array], Array], u: Array) -> Array:
    """Of those that are `eligible` [M, E] one by `u` [M, E] in [0, 1), as `jax.random.choice` does; int32."""
    zero = jnp.zeros_like(u)
    number = over_units(count, lambda i, n: n + eligible(i), jnp.zeros(u.shape, jnp.int32))
    each = 1.0 / jnp.maximum(number, 1)

    def add(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        """The blocks before, and this one so far."""
        before, block = sums
        begins = i % _BLOCK == 0
        before = jnp.where(begins, before + block, before)
        return before, jnp.where(begins, 0.0, block) + jnp.where(eligible(i), each, 0.0)

    before, block = over_units(count, add, (zero, zero))
    threshold = (before + block) * (1.0 - u)

    def passed(i: Array, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before, block = add(i, found[:2])
        return before, block, found[2] + (before + block < threshold)

    found = over_units(count, passed, (zero, zero, jnp.zeros(u.shape, jnp.int32)))[2]
    return jnp.minimum(found, count - 1)
