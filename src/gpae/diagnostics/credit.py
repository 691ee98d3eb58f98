"""Credit made visible: what the estimator says of every agent in one episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Algorithm
from gpae.algorithms.batch import PerNetwork
from gpae.algorithms.replay import Segment
from gpae.algorithms.rollout import Last, record
from gpae.envs.outside_jax import OutsideJax
from gpae.envs.protocol import Environment
from gpae.envs.vector import unexecuted
from gpae.errors import UserError
from gpae.settings import as_arrays
from gpae.training.outside_jax import one_episode
from gpae.types import Trajectory


@dataclass(frozen=True)
class CreditedEpisode:
    """One whole episode of L steps and N agents, as the estimator sees it. NumPy arrays."""

    advantages: Any
    """[L, N], not normalised."""
    values: Any
    """[L, N]."""
    actions: Any
    """[L, N] int; [L, N, D] where they are continuous."""
    alive: Any
    """Before each step and after the last one, [L + 1, N] bool."""
    rewards: Any
    """The team's, [L]."""
    won: bool
    states: Any
    """The environment's, each leaf [L + 1, ...]."""


def with_advantages(algorithm: Algorithm) -> ActorCritic:
    """`algorithm`, if it estimates advantages.

    Raises:
      UserError: it does not.
    """
    if not isinstance(algorithm, ActorCritic):
        raise UserError(f"{algorithm.name} learns values of actions: it has no critic and no advantages")
    return algorithm


def credited_episode(env: Environment, algorithm: ActorCritic, params: PerNetwork, key: Array) -> CreditedEpisode:
    """Plays one episode with drawn actions and estimates every agent's advantages in it.

    Args:
      env: where.
      algorithm: whose policy, critic and estimator.
      params: of actor and critic.
      key: another one plays another episode.
    """
    spec = env.spec
    limit = spec.episode_limit

    def estimate(algorithm: ActorCritic, params: PerNetwork, trajectory: Trajectory, last: Last, key: Array) -> Any:
        carries = algorithm.actor(spec).initial_carry(1, spec.num_agents), algorithm.initial_critic_carry(spec, 1)
        segment = Segment(trajectory, *carries)
        evaluation = algorithm.reevaluate(spec, params, segment, last, key)
        targets = algorithm.targets(algorithm.scaled(trajectory), evaluation)
        return evaluation.critic.values, targets.advantages

    def play(algorithm: ActorCritic, params: PerNetwork, key: Array) -> Any:
        reset_key, play_key, action_key = jax.random.split(key, 3)
        actor_carry = algorithm.actor(spec).initial_carry(1, spec.num_agents)
        act = algorithm.behaviour(spec, params.actor)

        def row(before: tuple[Any, Any, Array, Array], key: Array) -> Any:
            # Never reset: the row after the last step shows the final state, and what follows it counts for nothing.
            state, carry, is_first, over = before
            policy_key, env_key = jax.random.split(key)
            view = jax.vmap(env.observe)(state)
            carry, actions, log_probs, forced = act(carry, view, is_first, policy_key)
            following, outcome = jax.vmap(env.step)(env_key[None], state, actions)
            outcome = unexecuted(outcome, over)
            trajectory = record(view, is_first, (actions, log_probs, forced), outcome, ~over)
            over = over | outcome.terminated | outcome.truncated
            return (following, carry, jnp.zeros_like(is_first), over), (state, trajectory)

        start = (jax.vmap(env.reset)(reset_key[None]), actor_carry, jnp.ones(1, bool), jnp.zeros(1, bool))
        (following, *_), (states, trajectory) = jax.lax.scan(row, start, jax.random.split(play_key, limit + 1))
        last = Last(jax.vmap(env.observe)(following), jnp.zeros(1, bool))
        estimated = estimate(algorithm, params, trajectory, last, action_key)
        return jax.tree.map(lambda x: x[:, 0], (states, trajectory, *estimated))

    def play_outside_jax(algorithm: ActorCritic, params: PerNetwork, key: Array) -> Any:
        assert isinstance(env, OutsideJax)
        play_key, action_key = jax.random.split(key)
        carry = algorithm.actor(spec).initial_carry(1, spec.num_agents)
        trajectory, last = one_episode(env, algorithm.behaviour(spec, params.actor), carry, play_key)
        estimated = jax.jit(estimate)(algorithm, params, trajectory, last, action_key)
        return jax.tree.map(lambda x: x[:, 0], (None, trajectory, *estimated))

    whole = play_outside_jax if isinstance(env, OutsideJax) else jax.jit(play)
    states, trajectory, values, advantages = jax.device_get(whole(as_arrays(algorithm), params, key))
    length = int(trajectory.valid.sum())
    return CreditedEpisode(
        advantages=advantages[:length],
        values=values[:length],
        actions=trajectory.actions[:length],
        alive=trajectory.view.alive[: length + 1],
        rewards=trajectory.rewards[:length],
        won=bool(trajectory.won.any()),
        states=jax.tree.map(lambda x: x[: length + 1], states),
    )
