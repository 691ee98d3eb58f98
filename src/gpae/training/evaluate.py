"""Evaluation: whole episodes with fixed parameters, counted once each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.algorithms.learners import Learner
from gpae.algorithms.rollout import observe
from gpae.envs.base import begin
from gpae.networks import distributions as policies


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
    """The environment's states in the first episode, [limit + 1, ...]; rows after its length are empty."""


def run_episodes(learner: Learner, params: Any, key: Array, greedy: Array) -> Episodes:
    """Plays one episode in each environment, from its reset to its end.

    Args:
      learner: gives environment and actor.
      params: the actor's.
      key: decides resets, the environments' chance and the sampled actions.
      greedy: [E] bool; take the most probable action, or draw one.
    """
    env, num_envs = learner.env, greedy.shape[0]
    limit = env.spec.episode_limit
    reset_key, key = jax.random.split(key)
    running = begin(env, reset_key, num_envs)
    first = jax.tree.map(lambda x: x[0], running.state)
    episodes = Episodes(
        returns=jnp.zeros(num_envs),
        lengths=jnp.zeros(num_envs, jnp.int32),
        won=jnp.zeros(num_envs, bool),
        states=jax.tree.map(lambda x: jnp.zeros((limit + 1, *x.shape), x.dtype).at[0].set(x), first),
    )
    memory = learner.actor.initial_memory(num_envs, env.spec.num_agents)
    carry = (jnp.int32(0), running.state, memory, jnp.zeros(num_envs, bool), episodes)

    def unfinished(carry: Any) -> Array:
        row, _, _, over, _ = carry
        return (row < limit) & ~jnp.all(over)

    def step(carry: Any) -> Any:
        row, state, memory, over, episodes = carry
        policy_key, env_key = jax.random.split(jax.random.fold_in(key, row))
        view = observe(env, replace(running, state=state))
        memory, log_pi = learner.act(params, memory, view, jnp.zeros(num_envs, bool))
        actions = jnp.where(greedy[:, None], policies.mode(log_pi), policies.sample(policy_key, log_pi))
        state, outcome = jax.vmap(env.step)(jax.random.split(env_key, num_envs), state, actions)
        episodes = Episodes(
            returns=episodes.returns + jnp.where(over, 0.0, outcome.reward),
            lengths=episodes.lengths + ~over,
            won=episodes.won | (outcome.won & ~over),
            states=jax.tree.map(lambda all_, x: all_.at[row + 1].set(x[0]), episodes.states, state),
        )
        return row + 1, state, memory, over | outcome.terminated | outcome.truncated, episodes

    *_, episodes = jax.lax.while_loop(unfinished, step, carry)
    return episodes
