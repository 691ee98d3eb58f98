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

from gpae.envs.smax.units import ATTACK_RANGE, FIRST_ATTACK, MAP_SIZE, SIGHT_RANGE, State, of_type

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
    types = state.types[num_allies:]
    sight, reach = of_type(SIGHT_RANGE, types), of_type(ATTACK_RANGE, types)
    # They count the allies from the last to the first.
    others = tuple(v[:num_allies][::-1] for v in (state.x, state.y, state.alive))
    last = state.last_target

    def look(number: Array) -> tuple[Array, Array, Array, Array, Array]:
        """One ally as all enemies see it: relative position, distance, whether visible, whether in range, [M, E]."""
        x, y, there = (jax.lax.dynamic_slice_in_dim(v, number, 1) for v in others)
        x, y = x - own_x, y - own_y
        visible = (jnp.sqrt(x * x + y * y) < sight) & there & alive
        # Observations are in units of the sight: the way there and back is rounded.
        x, y = (jnp.where(visible, v / sight * sight, 0.0) for v in (x, y))
        distance = jnp.sqrt(x * x + y * y)
        return x, y, distance, visible, visible & (distance < reach)

    def survey(number: Array, seen: tuple[Array, ...]) -> tuple[Array, ...]:
        in_sight, in_range, closest, at, again = seen
        _, _, distance, visible, close = look(number)
        nearer = close & (distance < closest)
        return (
            in_sight + visible,
            in_range + close,
            jnp.where(nearer, distance, closest),
            jnp.where(nearer, number, at),
            again | (close & (last == number)),
        )

    none = jnp.zeros(last.shape, jnp.int32)
    nothing = (none, none, jnp.full(last.shape, jnp.inf), none, jnp.zeros(last.shape, bool))
    in_sight, in_range, _, target, again = jax.lax.fori_loop(0, num_allies, survey, nothing)

    # The first whose cumulated probability reaches 1 - u, as `jax.random.choice` draws.
    walk_to = (1.0 - whither) * in_sight.astype(jnp.float32)
    shoot_at = (1.0 - whom) * in_range.astype(jnp.float32)

    def pick(number: Array, found: tuple[Array, ...]) -> tuple[Array, ...]:
        walked, shot, x, y, drawn = found
        rel_x, rel_y, _, visible, close = look(number)
        before_walk, before_shot = walked.astype(jnp.float32), shot.astype(jnp.float32)
        walked, shot = walked + visible, shot + close
        here = visible & (before_walk < walk_to) & (walked.astype(jnp.float32) >= walk_to)
        x, y = jnp.where(here, rel_x + own_x, x), jnp.where(here, rel_y + own_y, y)
        if mode == "random":
            here = close & (before_shot < shoot_at) & (shot.astype(jnp.float32) >= shoot_at)
            drawn = jnp.where(here, number, drawn)
        return walked, shot, x, y, drawn

    # The middle of the map is where those that return to the other side pass.
    first = (state.heading_x == 0.0) & (state.heading_y == 0.0) & (last == -1)
    half = MAP_SIZE / 2
    heading_x = jnp.where(first, -(own_x - half) + half, state.heading_x)
    heading_y = jnp.where(first, -(own_y - half) + half, state.heading_y)
    _, _, to_x, to_y, drawn = jax.lax.fori_loop(0, num_allies, pick, (none, none, heading_x, heading_y, none))

    if mode == "random":
        target = drawn
    target = jnp.where(again, last, target)
    can_shoot = in_range > 0
    way_x, way_y = to_x - own_x, to_y - own_y
    move, best = jnp.zeros(last.shape, jnp.int32), way_y
    for number, along in enumerate((way_x, -way_y, -way_x), 1):
        move, best = jnp.where(along > best, number, move), jnp.maximum(along, best)
    actions = jnp.where(can_shoot, target + FIRST_ATTACK, move)
    after = replace(
        state, heading_x=heading_x, heading_y=heading_y, last_target=jnp.where(can_shoot, target, -1).astype(jnp.int32)
    )
    return actions.astype(jnp.int32), after
