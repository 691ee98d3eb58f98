"""Collecting experience: a policy and a batch of environments, unrolled for T rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.algorithms.groups import total
from gpae.algorithms.losses import masked_mean
from gpae.algorithms.replay import with_last
from gpae.envs.protocol import Environment, EnvSpec, Outcome
from gpae.envs.vector import VectorState, advance, observe
from gpae.networks import Distribution
from gpae.threefry import split
from gpae.types import Trajectory, View, forgetting

Word = Callable[[Any, View, Array], tuple[Any, Distribution]]
Choice = Callable[[Array, Distribution, View], tuple[Array, Array, Array]]


class Policy(Protocol):
    """One step of acting: carry, what is seen, whose memory is emptied, a key -> carry, actions, log mu, forced."""

    def __call__(self, carry: Any, view: View, is_first: Array, key: Array) -> tuple[Any, Array, Array, Array]:
        """Acts for one row."""
        ...


@struct.dataclass
class Acting:
    """What the actor made of the rows of a rollout, while its parameters are those that acted."""

    policy: Distribution
    """Of the rows and the one after them, [T + 1, E, N]."""
    carries: Any
    """The actor's after each row, [T, E, ...]."""


@struct.dataclass
class Last:
    """What is seen after the last row of a rollout."""

    view: View
    """Leaves [E, ...]."""
    is_first: Array
    """Whether it begins an episode, [E] bool."""
    survivors: Array | None = None
    """See `gpae.envs.vector.VectorState.survivors`, [E, N]."""
    acting: Acting | None = None
    """The actor's word on the rollout, where that is all there is to learn from."""

    @staticmethod
    def of(env: Environment, vector: VectorState) -> Last:
        """Of environments where a rollout left them."""
        return Last(observe(env, vector), vector.is_first, vector.survivors)

    @property
    def forgets(self) -> Array:
        """Whose memory the row empties: see `gpae.types.forgetting`."""
        return forgetting(self.is_first, self.survivors, self.view)


def record(
    view: View,
    is_first: Array,
    acted: tuple[Array, Array, Array],
    outcome: Outcome,
    valid: Array,
    survivors: Array | None = None,
) -> Trajectory:
    """One row of a trajectory, [E, ...]; `acted` is actions, log mu and where they were forced."""
    actions, log_probs, forced = acted
    return Trajectory(
        view=view,
        actions=actions,
        log_probs=log_probs,
        forced=forced,
        is_first=is_first,
        valid=valid,
        rewards=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        won=outcome.won,
        agent_rewards=outcome.agent_rewards,
        survivors=survivors,
    )


@dataclass(frozen=True)
class Played:
    """An environment that was played elsewhere, outside JAX: what a rollout in it brought, whoever asks for one."""

    spec: EnvSpec
    vector: VectorState
    """After the last row; its state is what is seen there."""
    carry: Any
    """The policy's, after the last row."""
    trajectory: Trajectory
    """[T, E, ...]."""

    def observe(self, state: View) -> View:
        """What is seen is all there is of the state."""
        return state


def unroll(
    policy: Policy, env: Environment, vector: VectorState, carry: Any, key: Array, num_rows: int
) -> tuple[VectorState, Any, Trajectory]:
    """Acts for `num_rows` rows in E environments.

    Args:
      policy: resets `carry` itself where `is_first`.
      env: the environment.
      vector: the environments, where the last call left them.
      carry: the policy's before the first row.
      key: for the policy and the environments.
      num_rows: T.

    Returns:
      The environments and the carry after the last row, and the trajectory [T, E, ...].
    """
    if isinstance(env, Played):
        return env.vector, env.carry, env.trajectory

    def row(before: tuple[VectorState, Any], key: Array) -> tuple[tuple[VectorState, Any], Trajectory]:
        vector, carry = before
        policy_key, env_key = split(key)
        view = observe(env, vector)
        carry, *acted = policy(carry, view, forgetting(vector.is_first, vector.survivors, view), policy_key)
        following, now = _executed(env, vector, view, (acted[0], acted[1], acted[2]), env_key)
        return (following, carry), now

    (vector, carry), trajectory = jax.lax.scan(row, (vector, carry), split(key, num_rows))
    return vector, carry, trajectory


def _executed(
    env: Environment, vector: VectorState, view: View, acted: tuple[Array, Array, Array], key: Array
) -> tuple[VectorState, Trajectory]:
    """What follows when all act, and the row."""
    following, outcome, valid = advance(env, key, vector, acted[0])
    return following, record(view, vector.is_first, acted, outcome, valid, vector.survivors)


def unroll_noting(
    word: Word, choose: Choice, env: Environment, vector: VectorState, carry: Any, key: Array, num_rows: int
) -> tuple[VectorState, Any, Trajectory, Last]:
    """`unroll` that keeps what the actor made of every row, and has its word on the one after them.

    Args:
      word: of the actor: its carry, what is seen, whose memory is emptied -> the carry after it, a policy.
      choose: a key, a policy, what is seen -> actions, log mu, where they were forced.
      env: as in `unroll`, and so are the others.
      vector: see `unroll`.
      carry: see `unroll`.
      key: see `unroll`.
      num_rows: T.
    """

    def row(before: tuple[VectorState, Any], key: Array) -> tuple[tuple[VectorState, Any], Any]:
        vector, carry = before
        policy_key, env_key = split(key)
        view = observe(env, vector)
        carry, pi = word(carry, view, forgetting(vector.is_first, vector.survivors, view))
        following, now = _executed(env, vector, view, choose(policy_key, pi, view), env_key)
        return (following, carry), (now, pi, carry)

    (vector, carry), (trajectory, policies, carries) = jax.lax.scan(row, (vector, carry), split(key, num_rows))
    last = Last.of(env, vector)
    _, after = word(carry, last.view, last.forgets)
    return vector, carry, trajectory, replace(last, acting=Acting(with_last(policies, after), carries))


def measure_rollout(newest: Trajectory) -> dict[str, Array]:
    """Facts about a rollout, each [] float32 (docs/metrics.md)."""
    ended = newest.valid & (newest.terminated | newest.truncated)
    alive = newest.view.alive
    executed = jnp.broadcast_to(newest.valid[..., None], alive.shape)
    return {
        "reward_mean": masked_mean(newest.rewards, newest.valid),
        "alive_fraction": masked_mean(alive * 1.0, executed),
        "episodes": total(ended).astype(jnp.float32),
        "wins": total(newest.won & newest.valid).astype(jnp.float32),
    }
