"""E environments at once: their first rows, what is seen in them, and one row more with the automatic reset."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.envs.protocol import Environment, Outcome
from gpae.threefry import split
from gpae.types import View


@struct.dataclass
class VectorState:
    """E environments in the midst of their episodes: what `advance` carries from row to row."""

    state: Any
    """The environments' states, each leaf [E, ...]."""
    is_first: Array
    """[E] bool: this row begins an episode."""
    over: Array
    """[E] bool: this row shows the final state of a truncated episode; its action will not be executed."""
    survivors: Array | None = None
    """[E, N] bool: who was in play when the episode before ended; None where nobody asks."""


def begin(env: Environment, key: Array, num_envs: int, *, survivors: bool = False) -> VectorState:
    """E = `num_envs` environments, each at the first row of an episode; `survivors`: whether they are kept."""
    state = jax.vmap(env.reset)(split(key, num_envs))
    nobody = jnp.zeros((num_envs, env.spec.num_agents), bool) if survivors else None
    return VectorState(state, jnp.ones(num_envs, bool), jnp.zeros(num_envs, bool), nobody)


def observe(env: Environment, vector: VectorState) -> View:
    """What can be seen in each of E environments, [E, ...]."""
    return jax.vmap(env.observe)(vector.state)


def unexecuted(outcome: Outcome, over: Array) -> Outcome:
    """`outcome`, and where the episode was `over` before it, [E], that of an action that is not executed."""
    own = outcome.agent_rewards
    return Outcome(
        reward=jnp.where(over, jnp.zeros_like(outcome.reward), outcome.reward),
        terminated=outcome.terminated & ~over,
        truncated=outcome.truncated | over,
        won=outcome.won & ~over,
        agent_rewards=None if own is None else jnp.where(over[:, None], jnp.zeros_like(own), own),
    )


def advance(env: Environment, key: Array, vector: VectorState, actions: Array) -> tuple[VectorState, Outcome, Array]:
    """One row in every environment, with the automatic reset of training.

    After a termination the next row begins a new episode. After a truncation one more row shows the final state,
    so that it can be valued; only the row after that begins a new episode:

        row of the step    next row    the row after
        terminated         is_first    -
        truncated          over        is_first

    Observations are no part of this: compute them once per row, by `observe`.

    Args:
      env: any environment.
      key: one key, for all E.
      vector: where the environments are.
      actions: [E, N] int32, or [E, N, D] float32; not executed where `vector.over`.

    Returns:
      vector: the next row.
      outcome: what this row brought, leaves [E]. Where `vector.over`: reward 0, truncated, neither terminated nor won.
      valid: [E] bool, whether the row's action was executed: not `vector.over`.
    """
    over = vector.over
    # [E, 2] keys; split per environment and not per purpose, so that it shards along E.
    keys = jax.vmap(split)(split(key, over.shape[0]))
    stepped, outcome = jax.vmap(env.step)(keys[:, 0], vector.state, actions)
    fresh = jax.vmap(env.reset)(keys[:, 1])
    outcome = unexecuted(outcome, over)
    is_first = outcome.terminated | over

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(is_first.reshape(is_first.shape + (1,) * (new.ndim - 1)), new, old)

    survivors = vector.survivors
    if survivors is not None:
        # What is over was not stepped any more.
        before, after = (jax.vmap(env.observe)(state).alive for state in (vector.state, stepped))
        survivors = jnp.where(is_first[:, None], jnp.where(over[:, None], before, after), survivors)
    following = VectorState(
        state=jax.tree.map(choose, fresh, stepped),
        is_first=is_first,
        over=outcome.truncated & ~over,
        survivors=survivors,
    )
    return following, outcome, ~over
