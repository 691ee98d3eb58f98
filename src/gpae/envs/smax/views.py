"""What is seen of a battle: the allies' observations, the global state and the legal actions, of one battle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs.smax.units import (
    ATTACK_RANGE,
    COOLDOWN,
    FIRST_ATTACK,
    HEALTH,
    MAP_SIZE,
    SIGHT_RANGE,
    UNIT_TYPES,
    State,
    length,
    of_type,
)


def observations(state: State, num_allies: int, *, see_enemy_actions: bool, scaled: bool) -> Array:
    """What the allies see, [N, 13 (U - 1) + 10].

    Args:
      state: of one battle.
      num_allies: N.
      see_enemy_actions: whether the last actions of enemies are seen.
      scaled: whether last attacks and cooldowns are scaled to [0, 1], as since SMAX 0.2.
    """
    units = len(state.x)
    positions = jnp.stack([state.x, state.y], axis=1)
    sight = of_type(SIGHT_RANGE, state.types[:num_allies])[:, None]
    health = (state.health / of_type(HEALTH, state.types))[:, None]
    cooldown, attack = state.cooldown, state.attack.astype(jnp.float32)
    if scaled:
        cooldown = jnp.clip(cooldown / of_type(COOLDOWN, state.types), 0.0, 1.0)
        most = np.full(units, FIRST_ATTACK + (units - num_allies) - 1, np.float32)
        most[num_allies:] = FIRST_ATTACK + num_allies - 1
        attack = attack / most
    kind = jax.nn.one_hot(state.types, len(UNIT_TYPES))
    # What does not depend on the viewer, but health.
    plain = jnp.stack([state.move_x, state.move_y, attack], axis=1)
    if not see_enemy_actions:
        plain = plain.at[num_allies:].set(0.0)
    plain = jnp.concatenate([plain, cooldown[:, None], kind], axis=1)

    # Row i of `others` is x without its i-th entry: a choice between two shifts, which XLA fuses with what follows
    # into one loop over the result (the gather would be a loop of its own, and slower).
    before = np.arange(units - 1) < np.arange(num_allies)[:, None]

    def others(x: Array) -> Array:
        return jnp.where(before.reshape(before.shape + (1,) * (x.ndim - 1)), x[None, :-1], x[None, 1:])

    away_x, away_y = (others(p) - p[:num_allies, None] for p in (state.x, state.y))
    visible = (length(away_x, away_y) < sight) & others(state.alive) & state.alive[:num_allies, None]
    # Zeros by multiplication, column by column: XLA makes several times faster loops of it than of choices.
    visible = visible.astype(jnp.float32)
    seen = jnp.concatenate(
        [
            jnp.stack([others(health[:, 0]), away_x / sight, away_y / sight], axis=2) * visible[:, :, None],
            others(plain) * visible[:, :, None],
        ],
        axis=2,
    )  # [N, U - 1, 13]
    own = jnp.concatenate([health, positions / MAP_SIZE, cooldown[:, None], kind], axis=1)[:num_allies]
    own = jnp.where(state.alive[:num_allies, None], own, 0.0)
    return jnp.concatenate([seen.reshape(num_allies, -1), own], axis=1)


def world_state(state: State, num_allies: int) -> Array:
    """JaxMARL's `get_world_state`, [12 U]: neither positions nor cooldowns are scaled."""
    features = jnp.stack([state.health / of_type(HEALTH, state.types), state.x, state.y, state.cooldown], axis=1)
    features = jnp.concatenate([features, jax.nn.one_hot(state.types, len(UNIT_TYPES))], axis=1)
    features = jnp.where(state.alive[:, None], features, 0.0)
    teams = (np.arange(len(state.x)) >= num_allies).astype(np.float32)
    return jnp.concatenate([features.reshape(-1), teams, state.types.astype(jnp.float32)])


def legal_actions(state: State, num_allies: int) -> Array:
    """[N, 5 + M] bool: four moves while alive, stop always, attacks on living enemies in range."""
    alive = state.alive[:num_allies, None]
    away_x, away_y = (p[num_allies:] - p[:num_allies, None] for p in (state.x, state.y))
    reach = of_type(ATTACK_RANGE, state.types[:num_allies])[:, None]
    close = (length(away_x, away_y) < reach) & state.alive[num_allies:]
    moves = jnp.broadcast_to(alive, (num_allies, FIRST_ATTACK - 1))
    return jnp.concatenate([moves, jnp.ones((num_allies, 1), bool), close & alive], axis=1)
