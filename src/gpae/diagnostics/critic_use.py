"""Whether the critic listens to the others' actions at all."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses
from gpae.algorithms.base import Algorithm
from gpae.algorithms.batch import PerNetwork, critic_input
from gpae.algorithms.per_agent import PerAgent
from gpae.algorithms.replay import Segment, carries_before
from gpae.algorithms.rollout import Last, unroll
from gpae.envs.outside_jax import refuse_outside_jax
from gpae.envs.protocol import Environment
from gpae.envs.vector import begin
from gpae.errors import UserError
from gpae.settings import as_arrays
from gpae.training.experiment import Experiment


def critic_use(
    env: Environment, algorithm: Algorithm, params: PerNetwork, key: Array, *, num_envs: int = 64, shuffles: int = 8
) -> dict[str, float]:
    """How much worse EQ^i predicts when the others' present actions are those of other moments.

    Fresh on-policy experience, one time limit long; the joint actions of all its rows are shuffled over time and
    environments, and the critic makes one step with them, branched off its unshuffled carry. What agent i itself does
    is no input of EQ^i, so only the others' actions change. Earlier actions, which the carry holds, stay.

    Args:
      env: where.
      algorithm: one whose critic is shown the joint action.
      params: of actor and critic.
      key: draws experience and shuffles.
      num_envs: environments.
      shuffles: how many permutations the figures are means over.

    Returns:
      "error" and "shuffled_error", mean squared errors against the lambda-returns; "ratio", shuffled over unshuffled;
      "explained_variance" and "shuffled_explained_variance"; "change", the root mean square of what shuffling does to
      the values, over the values' standard deviation.

    Raises:
      UserError: the critic is not shown the joint action, or the environment is not in JAX.
    """
    if not isinstance(algorithm, PerAgent) or algorithm.shown != "joint_action":
        raise UserError(f"{algorithm.name} has no value EQ of the others' actions: there is nothing to shuffle")
    refuse_outside_jax(env, "what a critic makes of shuffled actions")
    spec = env.spec

    def measure(algorithm: PerAgent, params: PerNetwork, key: Array) -> dict[str, Array]:
        begin_key, play_key, action_key, shuffle_key = jax.random.split(key, 4)
        vector = begin(env, begin_key, num_envs)
        actor_carry = algorithm.actor(spec).initial_carry(num_envs, spec.num_agents)
        critic_carry = algorithm.initial_critic_carry(spec, num_envs)
        behaviour = algorithm.behaviour(spec, params.actor)
        vector, _, trajectory = unroll(behaviour, env, vector, actor_carry, play_key, spec.episode_limit)
        segment = Segment(trajectory=trajectory, actor_carry=actor_carry, critic_carry=critic_carry)
        evaluation = algorithm.reevaluate(spec, params, segment, Last.of(env, vector), action_key)
        targets = algorithm.targets(algorithm.scaled(trajectory), evaluation).critic_targets
        present = evaluation.critic.values
        counted = jnp.broadcast_to(trajectory.valid[..., None], targets.shape)
        inputs = critic_input(trajectory, evaluation)
        before = carries_before(critic_carry, evaluation.critic.carries)
        forgets = algorithm.critic_forgets(spec, trajectory.is_first, trajectory.forgets)

        def error(values: Array) -> Array:
            return losses.masked_mean(jnp.square(values - targets), counted)

        def shuffled(key: Array) -> tuple[Array, Array, Array]:
            together = evaluation.actions.reshape(-1, *evaluation.actions.shape[2:])
            moved = jax.random.permutation(key, together).reshape(evaluation.actions.shape)
            moved_inputs = replace(inputs, actions=moved)
            values = algorithm.branch(spec, params.critic, moved_inputs, forgets, before)
            change = losses.masked_mean(jnp.square(values - present), counted)
            return error(values), losses.explained_variance(values, targets, counted), change

        errors, explained, changes = jax.lax.map(shuffled, jax.random.split(shuffle_key, shuffles))
        mean = losses.masked_mean(present, counted)
        spread = losses.masked_mean(jnp.square(present - mean), counted)
        return {
            "error": error(present),
            "shuffled_error": errors.mean(),
            "ratio": errors.mean() / error(present),
            "explained_variance": losses.explained_variance(present, targets, counted),
            "shuffled_explained_variance": explained.mean(),
            "change": jnp.sqrt(changes.mean() / spread),
        }

    return {name: float(x) for name, x in jax.jit(measure)(as_arrays(algorithm), params, key).items()}


def of_experiment(
    experiment: Experiment, params: PerNetwork, *, number: int, num_envs: int, shuffles: int
) -> dict[str, float]:
    """`critic_use` of the first seed of a run; `number` says which experience."""
    seeds = experiment.seeds
    key = seeds.of(seeds.keys(6, number))
    with experiment.precision():
        return critic_use(
            experiment.env, experiment.algorithm, seeds.of(params), key, num_envs=num_envs, shuffles=shuffles
        )
