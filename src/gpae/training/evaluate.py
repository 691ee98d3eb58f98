"""Evaluation: whole episodes with fixed parameters, counted once each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.sharding import NamedSharding

from gpae.algorithms import Algorithm
from gpae.envs.protocol import Environment
from gpae.envs.vector import begin
from gpae.threefry import fold_in, split


@struct.dataclass
class Episodes:
    """The first whole episode of each of E environments."""

    returns: Array
    """Undiscounted, [E]."""
    lengths: Array
    """Steps, [E] int32."""
    won: Array
    """[E] bool."""
    states: Any
    """The environment's states in the first episode, [limit + 1, ...]; rows after its length mean nothing."""


def run_episodes(
    env: Environment, algorithm: Algorithm, params: Any, key: Array, greedy: Array, spread: NamedSharding | None = None
) -> Episodes:
    """Plays one episode in each environment, from its reset to its end.

    Args:
      env: where.
      algorithm: gives the actor.
      params: the actor's.
      key: decides resets, the environments' chance and the sampled actions.
      greedy: [E] bool; take the most probable action, or draw one.
      spread: of arrays [E, ...], over the devices that share the environments, evenly or not; None: one device. The
        episodes are the same ones.
    """

    def shared(tree: Any) -> Any:
        return tree if spread is None else jax.lax.with_sharding_constraint(tree, spread)

    spec, num_envs = env.spec, greedy.shape[0]
    limit = spec.episode_limit
    reset_key, key = split(key)
    start = shared(begin(env, reset_key, num_envs).state)
    first = jax.tree.map(lambda x: x[0], start)
    episodes = Episodes(
        returns=jnp.zeros(num_envs),
        lengths=jnp.zeros(num_envs, jnp.int32),
        won=jnp.zeros(num_envs, bool),
        states=jax.tree.map(lambda x: jnp.zeros((limit + 1, *x.shape), x.dtype).at[0].set(x), first),
    )
    carry = shared(algorithm.actor(spec).initial_carry(num_envs, spec.num_agents))
    loop = (jnp.int32(0), start, carry, jnp.zeros(num_envs, bool), episodes)

    def unfinished(loop: Any) -> Array:
        row, _, _, over, _ = loop
        return (row < limit) & ~jnp.all(over)

    def step(loop: Any) -> Any:
        row, state, carry, over, episodes = loop
        policy_key, env_key = split(fold_in(key, row))
        view = jax.vmap(env.observe)(state)
        carry, pi = algorithm.act(spec, params, carry, view, jnp.zeros(num_envs, bool))
        mode = pi.mode()
        actions = jnp.where(greedy.reshape(-1, *[1] * (mode.ndim - 1)), mode, pi.sample(policy_key))
        state, outcome = shared(jax.vmap(env.step)(split(env_key, num_envs), state, actions))
        episodes = Episodes(
            returns=episodes.returns + jnp.where(over, 0.0, outcome.reward),
            lengths=episodes.lengths + ~over,
            won=episodes.won | (outcome.won & ~over),
            states=jax.tree.map(lambda all_, x: all_.at[row + 1].set(x[0]), episodes.states, state),
        )
        return row + 1, state, carry, over | outcome.terminated | outcome.truncated, episodes

    *_, episodes = jax.lax.while_loop(unfinished, step, loop)
    return episodes
