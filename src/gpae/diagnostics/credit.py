"""Credit made visible: what the estimator says of one episode, and whether the critic listens to the others at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses
from gpae.algorithms.actor_critic import ActorCritic, Hyper, Networks
from gpae.algorithms.per_agent import PerAgent
from gpae.algorithms.replay import Segment, memories_before
from gpae.algorithms.rollout import observe, record, unroll
from gpae.envs.base import begin, unexecuted
from gpae.errors import UserError
from gpae.networks import CriticInputs


@dataclass(frozen=True)
class CreditedEpisode:
    """One whole episode of L steps and N agents, as the estimator sees it. NumPy arrays."""

    advantages: Any
    """[L, N], not normalised."""
    values: Any
    """[L, N]."""
    actions: Any
    """[L, N] int."""
    alive: Any
    """Before each step and after the last one, [L + 1, N] bool."""
    rewards: Any
    """The team's, [L]."""
    won: bool
    states: Any
    """The environment's, each leaf [L + 1, ...]."""


def credited_episode(learner: ActorCritic, params: Networks, hyper: Hyper, key: Array) -> CreditedEpisode:
    """Plays one episode with drawn actions and estimates every agent's advantages in it.

    Args:
      learner: of the experiment.
      params: of actor and critic.
      hyper: gamma, lambda and eta.
      key: another one plays another episode.
    """
    env = learner.env
    limit = env.spec.episode_limit

    def play(params: Networks, key: Array) -> Any:
        reset_key, play_key, action_key = jax.random.split(key, 3)
        memory = Networks(
            actor=learner.actor.initial_memory(1, env.spec.num_agents), critic=learner.method.initial_memory(1)
        )
        act = learner.behaviour(params.actor)

        def row(carry: tuple[Any, Any, Array, Array], key: Array) -> Any:
            # Never reset: the row after the last step shows the final state, and what follows it counts for nothing.
            state, memory, starts, over = carry
            policy_key, env_key = jax.random.split(key)
            view = jax.vmap(env.observe)(state)
            memory, actions, log_probs, forced = act(memory, view, starts, policy_key)
            following, outcome = jax.vmap(env.step)(env_key[None], state, actions)
            outcome = unexecuted(outcome, over)
            trajectory = record(view, starts, (actions, log_probs, forced), outcome, ~over)
            over = over | outcome.terminated | outcome.truncated
            return (following, memory, jnp.zeros_like(starts), over), (state, trajectory)

        start = (jax.vmap(env.reset)(reset_key[None]), memory.actor, jnp.ones(1, bool), jnp.zeros(1, bool))
        (following, *_), (states, trajectory) = jax.lax.scan(row, start, jax.random.split(play_key, limit + 1))
        segment = Segment(trajectory=trajectory, actor_memory=memory.actor, critic_memory=memory.critic)
        last = jax.vmap(env.observe)(following)
        evaluation = learner.evaluate(params, segment, last, jnp.zeros(1, bool), action_key)
        targets = learner.targets(trajectory, evaluation, hyper)
        return jax.tree.map(lambda x: x[:, 0], (states, trajectory, evaluation.values, targets.advantages))

    states, trajectory, values, advantages = jax.device_get(jax.jit(play)(params, key))
    length = int(trajectory.valid.sum())
    return CreditedEpisode(
        advantages=advantages[:length],
        values=values[:length],
        actions=trajectory.actions[:length],
        alive=trajectory.alive[: length + 1],
        rewards=trajectory.rewards[:length],
        won=bool(trajectory.won.any()),
        states=jax.tree.map(lambda x: x[: length + 1], states),
    )


def critic_use(
    learner: ActorCritic, params: Networks, hyper: Hyper, key: Array, *, num_envs: int = 64, shuffles: int = 8
) -> dict[str, float]:
    """How much worse EQ^i predicts when the others' present actions are those of other moments.

    Fresh on-policy experience, one time limit long; the joint actions of all its rows are shuffled over time and
    environments, and the critic makes one step with them, branched off its unshuffled memory. What agent i itself does
    is no input of EQ^i, so only the others' actions change. Earlier actions, which the memory holds, stay.

    Args:
      learner: of an experiment whose critic is shown the joint action.
      params: of actor and critic.
      hyper: gamma, lambda and eta.
      key: draws experience and shuffles.
      num_envs: environments.
      shuffles: how many permutations the figures are means over.

    Returns:
      "error" and "shuffled_error", mean squared errors against the lambda-returns; "ratio", shuffled over unshuffled;
      "explained_variance" and "shuffled_explained_variance"; "change", the root mean square of what shuffling does to
      the values, over the values' standard deviation.

    Raises:
      UserError: the critic is not shown the joint action.
    """
    method, env = learner.method, learner.env
    if not isinstance(method, PerAgent) or method.inputs != "joint_action":
        raise UserError(f"{learner.algorithm.name} has no value EQ of the others' actions: there is nothing to shuffle")

    def measure(params: Networks, key: Array) -> dict[str, Array]:
        begin_key, play_key, action_key, shuffle_key = jax.random.split(key, 4)
        running = begin(env, begin_key, num_envs)
        actor_memory = learner.actor.initial_memory(num_envs, env.spec.num_agents)
        critic_memory = learner.method.initial_memory(num_envs)
        rows = env.spec.episode_limit
        running, _, trajectory = unroll(env, learner.behaviour(params.actor), running, actor_memory, play_key, rows)
        segment = Segment(trajectory=trajectory, actor_memory=actor_memory, critic_memory=critic_memory)
        evaluation = learner.evaluate(params, segment, observe(env, running), running.starts, action_key)
        targets = learner.targets(trajectory, evaluation, hyper).critic_targets
        counted = jnp.broadcast_to(trajectory.valid[..., None], targets.shape)
        inputs = CriticInputs(
            states=trajectory.states,
            observations=trajectory.observations,
            actions=evaluation.actions,
            probs=evaluation.probs,
        )
        before = memories_before(critic_memory, evaluation.memory.critic)

        def error(values: Array) -> Array:
            return losses.masked_mean(jnp.square(values - targets), counted)

        def shuffled(key: Array) -> tuple[Array, Array, Array]:
            together = evaluation.actions.reshape(-1, env.spec.num_agents)
            moved = jax.random.permutation(key, together).reshape(evaluation.actions.shape)
            values = method.branch(params.critic, replace(inputs, actions=moved), trajectory.starts, before)
            change = losses.masked_mean(jnp.square(values - evaluation.values), counted)
            return error(values), losses.explained_variance(values, targets, counted), change

        errors, explained, changes = jax.lax.map(shuffled, jax.random.split(shuffle_key, shuffles))
        mean = losses.masked_mean(evaluation.values, counted)
        spread = losses.masked_mean(jnp.square(evaluation.values - mean), counted)
        return {
            "error": error(evaluation.values),
            "shuffled_error": errors.mean(),
            "ratio": errors.mean() / error(evaluation.values),
            "explained_variance": losses.explained_variance(evaluation.values, targets, counted),
            "shuffled_explained_variance": explained.mean(),
            "change": jnp.sqrt(changes.mean() / spread),
        }

    return {name: float(x) for name, x in jax.jit(measure)(params, key).items()}
