"""Collecting experience: a policy and a batch of running environments, unrolled for T rows."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms.losses import masked_mean
from gpae.envs.base import Environment, Outcome, Running, View, advance
from gpae.types import Trajectory


class Policy(Protocol):
    """One step of acting: memory, what is seen, where an episode starts, a key -> memory, actions, log mu, forced."""

    def __call__(self, memory: Any, view: View, starts: Array, key: Array) -> tuple[Any, Array, Array, Array]:
        """Acts for one row."""
        ...


def observe(env: Environment, running: Running) -> View:
    """What can be seen in each of E environments, [E, ...]."""
    return jax.vmap(env.observe)(running.state)


def record(view: View, starts: Array, acted: tuple[Array, Array, Array], outcome: Outcome, valid: Array) -> Trajectory:
    """One row of a trajectory, [E, ...]; `acted` is actions, log mu and where they were forced."""
    actions, log_probs, forced = acted
    return Trajectory(
        observations=view.observations,
        states=view.state,
        legal_actions=view.legal_actions,
        alive=view.alive,
        actions=actions,
        log_probs=log_probs,
        forced=forced,
        starts=starts,
        valid=valid,
        rewards=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        won=outcome.won,
    )


def unroll(
    env: Environment, policy: Policy, running: Running, memory: Any, key: Array, num_rows: int
) -> tuple[Running, Any, Trajectory]:
    """Acts for `num_rows` rows in E environments.

    Args:
      policy: resets `memory` itself where `starts`.
      running: the environments, where the last call left them.
      memory: the policy's memory before the first row.
      key: for the policy and the environments.

    Returns:
      The environments and the memory after the last row, and the trajectory [T, E, ...].
    """

    def row(carry: tuple[Running, Any], key: Array) -> tuple[tuple[Running, Any], Trajectory]:
        running, memory = carry
        policy_key, env_key = jax.random.split(key)
        view = observe(env, running)
        memory, actions, log_probs, forced = policy(memory, view, running.starts, policy_key)
        following, outcome, valid = advance(env, env_key, running, actions)
        recorded = record(view, running.starts, (actions, log_probs, forced), outcome, valid)
        return (following, memory), recorded

    (running, memory), trajectory = jax.lax.scan(row, (running, memory), jax.random.split(key, num_rows))
    return running, memory, trajectory


def measure_rollout(newest: Trajectory) -> dict[str, Array]:
    """Facts about a rollout, each [] float32 (docs/metrics.md)."""
    ended = newest.valid & (newest.terminated | newest.truncated)
    executed = jnp.broadcast_to(newest.valid[..., None], newest.alive.shape)
    return {
        "reward_mean": masked_mean(newest.rewards, newest.valid),
        "alive_fraction": masked_mean(newest.alive * 1.0, executed),
        "episodes": jnp.sum(ended).astype(jnp.float32),
        "wins": jnp.sum(newest.won & newest.valid).astype(jnp.float32),
    }
