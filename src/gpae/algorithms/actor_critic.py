"""The actor-critic learner: one update, from experience to new parameters, for every algorithm of the registry.

    rollout -> window -> evaluate (the policy and the critic, with the parameters at the start of the update)
            -> targets (the estimator) -> optimise (epochs of minibatches) -> new state

Every stage is a method that can be called by itself. The learner holds only what is fixed; whatever changes is in
`LearnerState`, and the hyperparameters that may vary between runs of one program are in `Hyper`, so that `jax.vmap`
trains several seeds or settings at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from gpae.algorithms import losses, replay
from gpae.algorithms.method import (
    Batch,
    Evaluation,
    Hyper,
    Method,
    Metrics,
    Networks,
    Seen,
    actor_sizes,
    adam,
    hyper_of,
    others,
)
from gpae.algorithms.registry import AlgorithmSpec, algorithm
from gpae.algorithms.replay import Buffer, Segment, Window
from gpae.algorithms.rollout import Policy, measure_rollout, observe, unroll
from gpae.envs.base import Environment, Running, View, begin
from gpae.errors import UserError
from gpae.estimators import advantage_gap
from gpae.networks import Actor, CriticInputs
from gpae.networks import distributions as policies
from gpae.training.config import ExperimentConfig
from gpae.types import Targets, Trajectory

__all__ = ["ActorCritic", "Experience", "Hyper", "LearnerState", "Networks", "hyper_of", "make_actor"]

_STOP = "stop"
"""The action of an intervention, by its name in `EnvSpec.action_names`."""


@struct.dataclass
class LearnerState:
    """Everything that training changes."""

    params: Networks
    optimiser: Networks
    running: Running
    """The environments, at the row where the next rollout begins."""
    memory: Networks
    """What the networks remember before that row, [E, ...]."""
    window: Window
    buffer: Buffer | None
    """Older experience for methods that replay it."""
    key: Array
    gradient_steps: Array
    """[] int32."""


@struct.dataclass
class Experience:
    """What an update learns from."""

    newest: Trajectory
    """This update's rollout, [T, E, ...]."""
    segment: Segment
    """The whole window, W rows, the rollout at its end; replayed sequences stand after the E environments."""
    evaluation: Evaluation
    targets: Targets


@dataclass(frozen=True, eq=False)
class ActorCritic:
    """The learner of an experiment: everything about it that does not change."""

    config: ExperimentConfig
    env: Environment
    algorithm: AlgorithmSpec
    actor: Actor
    method: Method
    """The critic and what is made of it."""

    @staticmethod
    def build(config: ExperimentConfig, env: Environment) -> ActorCritic:
        """The learner for `config` in `env`.

        Raises:
          UserError: unknown algorithm, settings out of range or that do not fit together.
        """
        config.validate()
        spec = algorithm(config.algorithm)
        if spec.method is None:
            raise UserError(f"{spec.name} is not an actor-critic algorithm")
        if config.stop_agent >= env.spec.num_agents:
            raise UserError(
                f"--stop-agent {config.stop_agent}: the agents of {env.spec.name} are numbered 0 to"
                f" {env.spec.num_agents - 1}"
            )
        if config.stop_agent >= 0 and _STOP not in env.spec.action_names:
            raise UserError(f"--stop-agent {config.stop_agent}: {env.spec.name} has no action called {_STOP}")
        return ActorCritic(
            config=config,
            env=env,
            algorithm=spec,
            actor=make_actor(config, env.spec.num_actions),
            method=spec.method(config, env.spec),
        )

    # -- state -----------------------------------------------------------------------------------------------------

    def init(self, key: Array) -> LearnerState:
        """The state before the first update."""
        num_envs, num_agents = self.config.envs_per_seed, self.env.spec.num_agents
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        running = begin(self.env, env_key, num_envs)
        memory = Networks(
            actor=self.actor.initial_memory(num_envs, num_agents), critic=self.method.initial_memory(num_envs)
        )
        view = _row(observe(self.env, running))
        inputs = CriticInputs(
            states=view.state,
            observations=view.observations,
            actions=jnp.zeros(view.alive.shape, jnp.int32),
            probs=view.legal_actions.astype(jnp.float32),
        )
        starts = running.starts[None]
        params = Networks(
            actor=self.actor.init(actor_key, view.observations, view.legal_actions, starts, memory.actor),
            critic=self.method.init(critic_key, inputs, starts, memory.critic),
        )
        optimiser = Networks(
            actor=adam(self.config, jnp.float32(1.0)).init(params.actor),
            critic=self.method.optimiser(jnp.float32(1.0)).init(params.critic),
        )
        state = LearnerState(
            params=params,
            optimiser=optimiser,
            running=running,
            memory=memory,
            window=None,  # type: ignore[arg-type]  # its shapes are a rollout's, which follow
            buffer=None,
            key=key,
            gradient_steps=jnp.int32(0),
        )
        _, example = jax.eval_shape(self.rollout, state, key)
        buffer = replay.buffer(example, self.config.replay_segments) if self.method.replays else None
        return replace(state, window=replay.empty(example, self.config.window), buffer=buffer)

    # -- one update ------------------------------------------------------------------------------------------------

    def update(self, state: LearnerState, hyper: Hyper) -> tuple[LearnerState, Metrics]:
        """Collects experience and learns from it.

        Returns:
          The next state, and what was measured, each [] float32 (docs/metrics.md says what each means).
        """
        state, experience = self.experience(state, hyper)
        key, shuffle_key = jax.random.split(state.key)
        batch, memories = self.batch(experience, hyper)
        state, metrics = self.optimise(state, batch, memories, hyper, shuffle_key)
        return replace(state, key=key), metrics | self.diagnose(experience, hyper)

    def experience(self, state: LearnerState, hyper: Hyper) -> tuple[LearnerState, Experience]:
        """A rollout, the window it completes, and what the estimator makes of it. Nothing is learnt yet."""
        key, rollout_key, action_key = jax.random.split(state.key, 3)
        state, newest = self.rollout(state, rollout_key)
        window, segment = replay.push(state.window, newest)
        last, starts = observe(self.env, state.running), state.running.starts
        if state.buffer is not None:
            buffer = replay.add(state.buffer, newest)
            state = replace(state, buffer=buffer)
            replayed = replay.sample(buffer, jax.random.fold_in(action_key, 1), self.config.replay_sequences)
            segment = replay.beside(segment, replayed)
            # A replayed sequence ends with a row that counts for nothing: so does what is shown after it.
            last, starts = jax.tree.map(
                lambda x: jnp.pad(x, [(0, self.config.replay_sequences)] + [(0, 0)] * (x.ndim - 1)), (last, starts)
            )
            last = replace(last, legal_actions=last.legal_actions.at[self.config.envs_per_seed :].set(True))
        evaluation = self.evaluate(state.params, segment, last, starts, action_key)
        targets = self.targets(segment.trajectory, evaluation, hyper)
        memory = jax.tree.map(lambda x: x[-1, : self.config.envs_per_seed], evaluation.memory.critic)
        experience = Experience(newest=newest.trajectory, segment=segment, evaluation=evaluation, targets=targets)
        return replace(state, window=window, memory=replace(state.memory, critic=memory), key=key), experience

    def act(self, params: Any, memory: Any, view: View, starts: Array) -> tuple[Any, Array]:
        """One row of the policy: the memory after it and log pi, [E, N, A]."""
        log_pi, memories = self.actor.apply(
            params, view.observations[None], view.legal_actions[None], starts[None], memory
        )
        return jax.tree.map(lambda x: x[0], memories), log_pi[0]

    def behaviour(self, params: Any) -> Policy:
        """The policy that collects experience: the actor's, with the intervention if there is one."""

        def policy(memory: Any, view: View, starts: Array, key: Array) -> tuple[Any, Array, Array, Array]:
            memory, log_pi = self.act(params, memory, view, starts)
            if self.config.stop_agent < 0:
                actions = policies.sample(key, log_pi)
                return memory, actions, policies.log_prob(log_pi, actions), jnp.zeros(actions.shape, bool)
            return memory, *self._stop_sometimes(key, log_pi, view)

        return policy

    def rollout(self, state: LearnerState, key: Array) -> tuple[LearnerState, Segment]:
        """T rows of experience with the current policy; the critic is not evaluated."""
        running, actor_memory, trajectory = unroll(
            self.env,
            self.behaviour(state.params.actor),
            state.running,
            state.memory.actor,
            key,
            self.config.rollout_length,
        )
        segment = Segment(trajectory=trajectory, actor_memory=state.memory.actor, critic_memory=state.memory.critic)
        return replace(state, running=running, memory=replace(state.memory, actor=actor_memory)), segment

    def _stop_sometimes(self, key: Array, log_pi: Array, view: View) -> tuple[Array, Array, Array]:
        """Actions, log mu and where they were forced: `stop_agent` plays (1 - p) pi + p [stop] wherever it lives."""
        key, force_key = jax.random.split(key)
        stop = self.env.spec.action_names.index(_STOP)
        here = jnp.broadcast_to(jnp.arange(log_pi.shape[-2]) == self.config.stop_agent, view.alive.shape)
        here = here & view.alive & view.legal_actions[..., stop]
        p = jnp.where(here, self.config.stop_probability, 0.0)
        forced = jax.random.uniform(force_key, here.shape) < p
        actions = jnp.where(forced, stop, policies.sample(key, log_pi))
        drawn = jnp.exp(policies.log_prob(log_pi, actions))
        log_mu = jnp.log((1.0 - p) * drawn + p * (actions == stop))
        return actions, log_mu, forced

    def evaluate(self, params: Networks, segment: Segment, last: View, starts: Array, key: Array) -> Evaluation:
        """The policy and the critic at the start of the update, over all rows and the one after them.

        Args:
          segment: W rows, with the memory before the first.
          last: what is seen after the last row, [E, ...]; `starts` [E], whether it begins an episode.
          key: draws the actions that no behaviour policy took: on the row after the last, and on invalid rows.
        """
        trajectory = segment.trajectory
        rows = _append(
            (trajectory.observations, trajectory.states, trajectory.legal_actions, trajectory.starts),
            (last.observations, last.state, last.legal_actions, starts),
        )
        observations, states, legal_actions, starts = rows
        log_pi, actor_memory = self.actor.apply(params.actor, observations, legal_actions, starts, segment.actor_memory)
        # One draw of noise per environment serves all its rows: of these, only few are not executed.
        drawn = jnp.argmax(log_pi + jax.random.gumbel(key, log_pi.shape[1:])[None], axis=-1).astype(jnp.int32)
        taken = jnp.where(trajectory.valid[..., None], trajectory.actions, drawn[:-1])
        actions = jnp.concatenate([taken, drawn[-1:]])
        log_probs = policies.log_prob(log_pi, actions)[:-1]
        log_ratios = jnp.where(trajectory.valid[..., None], log_probs - trajectory.log_probs, 0.0)
        probs = jnp.exp(log_pi)
        seen = Seen(
            inputs=CriticInputs(states=states, observations=observations, actions=actions, probs=probs),
            starts=starts,
            memory=segment.critic_memory,
            log_pi=log_pi,
            log_ratios=log_ratios,
        )
        found = self.method.evaluate(params.critic, seen, key)
        memory = Networks(actor=jax.tree.map(lambda x: x[:-1], actor_memory), critic=found.memories)
        evaluation = Evaluation(
            actions=taken,
            probs=probs[:-1],
            log_probs=log_probs,
            log_ratios=log_ratios,
            values=found.values,
            next_values=found.next_values,
            memory=memory,
            extras=found.extras,
        )
        return jax.lax.stop_gradient(evaluation)

    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Advantages and critic targets, [W, E, N], in units of the scaled reward."""
        return self.method.targets(self._rewarded(trajectory), evaluation, hyper)

    def one_step(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Array:
        """Advantages that look one step ahead, [W, E, N]."""
        hyper = replace(hyper, lambda_=jnp.zeros_like(hyper.lambda_))
        return self.targets(trajectory, evaluation, hyper).advantages

    def _rewarded(self, trajectory: Trajectory) -> Trajectory:
        """As values are learnt from it: with scaled rewards."""
        if self.config.reward_scale == 1.0:
            return trajectory
        return replace(trajectory, rewards=self.config.reward_scale * trajectory.rewards)

    def acting(self, trajectory: Trajectory) -> Array:
        """Samples that count for the policy, [W, E, N] bool: executed actions, of living agents if so configured.

        Replayed sequences are the critic's alone.
        """
        fresh = jnp.arange(trajectory.valid.shape[1]) < self.config.envs_per_seed
        valid = jnp.broadcast_to((trajectory.valid & fresh)[..., None], trajectory.alive.shape)
        return valid & trajectory.alive if self.config.mask_dead else valid

    def batch(self, experience: Experience, hyper: Hyper) -> tuple[Batch, Networks]:
        """The samples as C sequences of L rows, and the memory before each sequence's first row, [C, ...]."""
        segment, evaluation, targets = experience.segment, experience.evaluation, experience.targets
        trajectory = segment.trajectory
        acting = self.acting(trajectory)
        advantages = targets.advantages
        if self.config.normalise_advantages:
            advantages = losses.normalise(advantages, acting)
        valued = jnp.broadcast_to(trajectory.valid[..., None], acting.shape)
        actor_weights = None
        if self.config.actor_weight == "own-others":
            actor_weights = jnp.exp(jnp.minimum(others(evaluation.log_ratios), jnp.log(hyper.eta)))
        whole = Batch(
            observations=trajectory.observations,
            states=trajectory.states,
            legal_actions=trajectory.legal_actions,
            starts=trajectory.starts,
            actions=evaluation.actions,
            probs=evaluation.probs,
            old_log_probs=evaluation.log_probs,
            log_mu=trajectory.log_probs,
            old_values=evaluation.values,
            advantages=advantages,
            critic_targets=targets.critic_targets,
            acting=acting,
            valued=valued,
            actor_weights=actor_weights,
            extras=self.method.samples(self._rewarded(trajectory), evaluation),
        )
        first = Networks(actor=segment.actor_memory, critic=segment.critic_memory)
        length = self.config.chunk_rows
        return replay.to_chunks(whole, length), replay.chunk_memories(first, evaluation.memory, length)

    def policy_loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The clipped surrogate (or log pi A) and the entropy bonus, means over the samples that act."""
        log_pi, _ = self.actor.apply(params, batch.observations, batch.legal_actions, batch.starts, memory)
        log_probs = policies.log_prob(log_pi, batch.actions)
        if self.algorithm.policy_loss == "clipped":
            surrogate = losses.clipped_surrogate(
                log_probs - batch.log_mu,
                batch.old_log_probs - batch.log_mu,
                batch.advantages,
                hyper.clip,
                clip_range=self.config.clip_range,
            )
        else:
            surrogate = log_probs * batch.advantages
        if batch.actor_weights is not None:
            surrogate = surrogate * batch.actor_weights
        loss = -losses.masked_mean(surrogate, batch.acting)
        entropy = losses.masked_mean(policies.entropy(log_pi), batch.acting)
        change = log_probs - batch.old_log_probs
        metrics = {
            "policy_loss": loss,
            "entropy": entropy,
            "approx_kl": losses.masked_mean(jnp.expm1(change) - change, batch.acting),
            "clip_fraction": losses.masked_mean((jnp.abs(jnp.expm1(change)) > hyper.clip) * 1.0, batch.acting),
        }
        return loss - hyper.entropy * entropy, metrics

    def minibatch_step(
        self, state: LearnerState, batch: Batch, memory: Networks, hyper: Hyper
    ) -> tuple[LearnerState, Metrics]:
        """One gradient step of actor and critic."""
        step_size = hyper.learning_rate
        if self.config.anneal:
            step_size = step_size * (1.0 - state.gradient_steps.astype(jnp.float32) / hyper.gradient_steps)
        transforms = Networks(
            actor=adam(self.config, hyper.max_grad_norm), critic=self.method.optimiser(hyper.max_grad_norm)
        )
        metrics: Metrics = {"learning_rate": step_size}
        params, optimiser = {}, {}
        for name, loss in (("actor", self.policy_loss), ("critic", self.method.loss)):
            old = getattr(state.params, name)
            gradient, measured = jax.grad(loss, has_aux=True)(old, batch, getattr(memory, name), hyper)
            direction, optimiser[name] = getattr(transforms, name).update(gradient, getattr(state.optimiser, name), old)
            params[name] = jax.tree.map(lambda p, d: p - step_size * d, old, direction)
            metrics |= measured | {f"{name}_gradient_norm": optax.tree.norm(gradient)}
        state = replace(
            state, params=Networks(**params), optimiser=Networks(**optimiser), gradient_steps=state.gradient_steps + 1
        )
        return state, metrics

    def optimise(
        self, state: LearnerState, batch: Batch, memories: Networks, hyper: Hyper, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """Epochs of minibatches; the metrics are means over the gradient steps."""
        config = self.config

        def permutation(key: Array) -> Array:
            return jax.random.permutation(key, batch.starts.shape[1]).reshape(config.minibatches, -1)

        picks = jax.vmap(permutation)(jax.random.split(key, config.epochs))

        def step(state: LearnerState, pick: Array) -> tuple[LearnerState, Metrics]:
            if config.minibatches == 1:  # one minibatch is the batch: its order changes nothing
                return self.minibatch_step(state, batch, memories, hyper)
            piece = jax.tree.map(lambda x: jnp.take(x, pick, axis=1), batch)
            memory = jax.tree.map(lambda x: jnp.take(x, pick, axis=0), memories)
            return self.minibatch_step(state, piece, memory, hyper)

        state, metrics = jax.lax.scan(step, state, picks.reshape(-1, picks.shape[-1]))
        metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        # A norm is finite only if every parameter is.
        return state, metrics | {"parameter_norm": optax.tree.norm(state.params)}

    # -- what is measured ------------------------------------------------------------------------------------------

    def diagnose(self, experience: Experience, hyper: Hyper) -> Metrics:
        """Facts about the experience."""
        newest, trajectory = experience.newest, experience.segment.trajectory
        evaluation, targets = experience.evaluation, experience.targets
        acting = self.acting(trajectory)
        valued = jnp.broadcast_to(trajectory.valid[..., None], acting.shape)
        metrics = {
            "explained_variance": losses.explained_variance(evaluation.values, targets.critic_targets, valued),
            "value_mean": losses.masked_mean(evaluation.values, valued),
            "advantage_rms": jnp.sqrt(losses.masked_mean(jnp.square(targets.advantages), acting)),
        }
        metrics |= measure_rollout(newest)
        metrics |= self.method.measure(trajectory, evaluation, acting, hyper)
        if self.config.stop_agent >= 0:
            metrics |= self._diagnose_stop(experience, hyper)
        return metrics

    def _diagnose_stop(self, experience: Experience, hyper: Hyper) -> Metrics:
        """The advantage gap where the stopped agent was forced, by the run's estimator and by the one-step one."""
        newest, evaluation = experience.newest, experience.evaluation
        trajectory = experience.segment.trajectory
        rows = newest.valid.shape[0]
        one_step = self.one_step(trajectory, evaluation, hyper)
        gap, counted = advantage_gap(experience.targets.advantages[-rows:], newest.alive, self.config.stop_agent)
        gap_one_step, _ = advantage_gap(one_step[-rows:], newest.alive, self.config.stop_agent)
        counted = counted & newest.valid & newest.forced[..., self.config.stop_agent]
        return {
            "advantage_gap": losses.masked_mean(gap, counted),
            "advantage_gap_one_step": losses.masked_mean(gap_one_step, counted),
            "stops": jnp.sum(counted).astype(jnp.float32),
        }


def make_actor(config: ExperimentConfig, num_actions: int) -> Actor:
    """The actor that `config` describes."""
    return Actor(num_actions=num_actions, **actor_sizes(config))


def _row(tree: Any) -> Any:
    """A time axis of one row in front."""
    return jax.tree.map(lambda x: x[None], tree)


def _append(rows: Any, last: Any) -> Any:
    """One more row at the end of every array."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)
