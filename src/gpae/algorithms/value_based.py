"""The value-based learner: one update of VDN, QMIX and IQL, from experience to new parameters.

    rollout (epsilon-greedy) -> replay -> gradient steps on sequences drawn afresh -> target networks, now and then

The agents' values Q^i(tau^i, a^i) come from one recurrent network, and a mixer makes the team's value of them
(`gpae.networks.mixers`). With theta the parameters and theta' their copy of some updates ago,

    a'^i_t = argmax over legal a of Q^i_theta(tau^i_t, a)
    v_t = Q_tot,theta'(t, a'_t)
    y_t = c r_t + gamma (1 - terminated_t) [ (1 - lambda) v_{t+1} + lambda y_{t+1} ]
    loss = mean over executed rows of (Q_tot,theta(t, a_t) - y_t)^2

With lambda = 0 it is Q-learning; otherwise Peng's Q(lambda), which looks further ahead, does not correct for the
actions that were explored, and learns faster from rewards that come late (Peng and Williams 1996).

What follows row t is row t + 1, also at a time limit (`gpae.types`), so that the target of a truncated step values the
episode's final observation, and `terminated_t` is that of the step itself. Shifted by one row it would bootstrap from
the first row of the next episode and cut off the first step of every episode, as JaxMARL's Q-learning scripts do.

Sequences begin with the memory that was carried when they were collected (Kapturowski et al. 2019, R2D2).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from gpae.algorithms import losses, replay
from gpae.algorithms.base import Algorithm, Budget, Metrics, act
from gpae.algorithms.batch import PerNetwork
from gpae.algorithms.groups import whole_gradient
from gpae.algorithms.optimise import adam, descend, norm, step_size
from gpae.algorithms.replay import Buffer, Segment
from gpae.algorithms.rollout import Policy, measure_rollout, unroll
from gpae.algorithms.statistics import with_inputs
from gpae.envs.protocol import Environment, EnvSpec
from gpae.envs.vector import VectorState, begin, observe
from gpae.errors import UserError
from gpae.estimators import gae
from gpae.networks import Actor, Mixer, QNetwork, UnsharedActor, of_taken
from gpae.networks.normalisers import without_statistics
from gpae.settings import Range, Size, Unit, settings
from gpae.threefry import split
from gpae.types import View


@struct.dataclass
class ValueState:
    """Everything that training changes."""

    params: PerNetwork
    """Of the agents' network (actor) and the mixer (critic)."""
    target: PerNetwork
    """What the targets are computed with: `params` of some updates ago."""
    optimiser: Any
    vector: VectorState
    """The environments, at the row where the next rollout begins."""
    carry: Any
    """What the agents remember before that row, [E, N, H]."""
    buffer: Buffer
    key: Array
    updates: Array
    """[] int32."""
    gradient_steps: Array
    """[] int32."""


@settings
class ValueBased(Algorithm):
    """Q-learning of a team's value that is mixed of the agents' values."""

    epsilon_start: Unit = 1.0
    """How often agents explore when training begins: the probability of an action drawn evenly from the legal ones."""
    # With 1 the most probable action would not be the best one.
    epsilon_end: Annotated[float, Range(0, 1)] = 0.05
    """How often they explore after that, and in sampled evaluations."""
    epsilon_fraction: Unit = 0.1
    """Share of training over which exploration falls linearly from `epsilon_start` to `epsilon_end`."""
    replay_segments: Size = 64
    """Rollouts kept for replay, each of `num_envs` x `rollout_length`."""
    replay_sequences: Size = 32
    """Sequences of `rollout_length` rows, each of one environment, drawn from the replay for each gradient step."""
    target_period: Size = 10
    """Updates between two copies of the networks into those that the targets are computed with."""

    @abstractmethod
    def mixer(self) -> Mixer:
        """What makes the team's value of the agents' (`gpae.networks.mixers`)."""

    def validate(self) -> None:
        """See `Algorithm.validate`."""
        super().validate()
        rows = self.experience.rollout_length
        if rows < 2:
            raise UserError(
                f"--rollout-length is {rows}; {self.name} needs at least 2: the last row of a sequence only shows what"
                " follows"
            )
        if self.networks.share_parameters == "critic":
            raise UserError(f"--share-parameters critic: {self.name} has no critic to share; try true, type or false")

    def actor(self, spec: EnvSpec) -> Actor | UnsharedActor:
        """The agents' network."""
        network = QNetwork(num_actions=spec.num_actions, sizes=self.networks, epsilon=self.epsilon_end)
        return self.unshared_actor(spec, network)

    # -- state -----------------------------------------------------------------------------------------------------

    def init(self, env: Environment, key: Array) -> ValueState:
        """The state before the first update."""
        spec, num_envs = env.spec, self.experience.envs
        actor = self.actor(spec)
        actor_key, mixer_key, env_key, key = split(key, 4)
        vector = begin(env, env_key, num_envs)
        carry = actor.initial_carry(num_envs, spec.num_agents)
        view = jax.tree.map(lambda x: x[None], observe(env, vector))
        params = PerNetwork(
            actor=actor.init(actor_key, view.observations, view.action_mask, vector.is_first[None], carry),
            critic=self.mixer().init(mixer_key, jnp.zeros(view.alive.shape), view.state),
        )
        state = ValueState(
            params=params,
            # A copy, since the state is donated whole: one array cannot be given away twice.
            target=jax.tree.map(jnp.copy, params),
            optimiser=adam(self.optimisation).init(params),
            vector=vector,
            carry=carry,
            buffer=None,  # type: ignore[arg-type]  # its shapes are a rollout's, which follow
            key=key,
            updates=jnp.int32(0),
            gradient_steps=jnp.int32(0),
        )
        _, example = jax.eval_shape(lambda state, key: self.collect(env, state, jnp.float32(0.0), key), state, key)
        return replace(state, buffer=replay.buffer(example, self.replay_segments))

    def begun_with(self, state: ValueState, params: PerNetwork) -> ValueState:
        """See `Algorithm.begun_with`."""
        return replace(state, params=params, target=jax.tree.map(jnp.copy, params))

    # -- one update ------------------------------------------------------------------------------------------------

    def update(self, env: Environment, state: ValueState, budget: Budget) -> tuple[ValueState, Metrics]:
        """Collects experience and learns from the replay.

        Returns:
          The next state, and what was measured, each [] float32 (docs/metrics.md says what each means).
        """
        key, rollout_key, sample_key = split(state.key, 3)
        epsilon = self.epsilon(state.updates, budget)
        state, newest = self.collect(env, state, epsilon, rollout_key)
        state, metrics = self.learn(env.spec, replace(state, key=key), newest, budget, sample_key)
        return state, metrics | {"epsilon": epsilon}

    def collect(self, env: Environment, state: ValueState, epsilon: Array, key: Array) -> tuple[ValueState, Segment]:
        """T rows of experience."""
        behaviour = self.behaviour(env.spec, state.params.actor, epsilon)
        rows = self.experience.rollout_length
        vector, carry, trajectory = unroll(behaviour, env, state.vector, state.carry, key, rows)
        segment = Segment(self.kept(trajectory), actor_carry=state.carry, critic_carry=())
        return replace(state, vector=vector, carry=carry), segment

    def learn(
        self, spec: EnvSpec, state: ValueState, newest: Segment, budget: Budget, key: Array
    ) -> tuple[ValueState, Metrics]:
        """Learns from the replay, to which a rollout is added, wherever it was collected."""
        state = replace(state, buffer=replay.add(state.buffer, newest))
        state, metrics = self.optimise(spec, state, budget, key)
        if self.normalises_inputs:
            state = replace(state, params=with_inputs(state.params, newest.trajectory.view))
        updates = state.updates + 1
        copied = updates % self.target_period == 0
        target = jax.tree.map(lambda new, old: jnp.where(copied, new, old), state.params, state.target)
        return replace(state, target=target, updates=updates), metrics | measure_rollout(newest.trajectory)

    def epsilon(self, updates: Array, budget: Budget) -> Array:
        """How often to explore in the update after `updates` others: linear over `epsilon_fraction` of training."""
        span = self.epsilon_fraction * budget.updates
        done = updates.astype(jnp.float32)
        progress = jnp.where(done < span, done / jnp.maximum(span, 1e-9), 1.0)
        return self.epsilon_start + progress * (self.epsilon_end - self.epsilon_start)

    def behaviour(self, spec: EnvSpec, params: Any, epsilon: Array) -> Policy:
        """The policy that collects experience."""

        def policy(carry: Any, view: View, is_first: Array, key: Array) -> tuple[Any, Array, Array, Array]:
            carry, pi = act(self.actor(spec), params, carry, view, is_first, epsilon=epsilon)
            actions = pi.sample(key)
            return carry, actions, pi.log_prob(actions), jnp.zeros(actions.shape, bool)

        return policy

    def acting(self, spec: EnvSpec, state: ValueState, budget: Budget) -> tuple[Policy, Any]:
        """See `Algorithm.acting`."""
        return self.behaviour(spec, state.params.actor, self.epsilon(state.updates, budget)), state.carry

    # -- the gradient ----------------------------------------------------------------------------------------------

    def values(self, spec: EnvSpec, params: Any, segment: Segment) -> Array:
        """Q^i of all actions, legal or not, [T, C, N, A]; `params` are the agents' network's."""
        rows = segment.trajectory
        values, _ = self.actor(spec).apply(
            params, rows.view.observations, rows.is_first, segment.actor_carry, method="logits"
        )
        return values

    def mix(self, params: Any, values: Array, states: Array) -> Array:
        """Q_tot, [T, C, M], from the agents' values [T, C, N]; `params` are the mixer's."""
        mixed: Array = self.mixer().apply(params, values, states)
        return mixed

    def targets(self, spec: EnvSpec, target: PerNetwork, values: Array, segment: Segment) -> Array:
        """What the values of all rows should be, [T, C, M]; that of the last row is meaningless.

        Args:
          spec: of the environment.
          target: the parameters of some updates ago.
          values: Q^i of all actions with today's, [T, C, N, A].
          segment: the sequences.
        """
        rows = segment.trajectory
        # Double Q-learning: today's parameters choose, those of some updates ago say what the choice is worth.
        chosen = jnp.argmax(jnp.where(rows.view.action_mask, values, jnp.finfo(values.dtype).min), axis=-1)
        worth = self.mix(target.critic, of_taken(self.values(spec, target.actor, segment), chosen), rows.view.state)
        rewards = self.reward_scale * self.rewards(rows)
        return q_targets(rewards, worth, rows.terminated, rows.truncated, gamma=self.gamma, lambda_=self.lambda_)

    def loss(self, spec: EnvSpec, params: PerNetwork, target: PerNetwork, segment: Segment) -> tuple[Array, Metrics]:
        """The squared error of the values of what was done, a mean over all executed rows."""
        rows = segment.trajectory
        values = self.values(spec, params.actor, segment)
        mixed = self.mix(params.critic, of_taken(values, rows.actions), rows.view.state)
        targets = jax.lax.stop_gradient(self.targets(spec, target, jax.lax.stop_gradient(values), segment))
        counted = jnp.broadcast_to(rows.valid[..., None], mixed.shape)
        loss = losses.masked_mean(jnp.square(mixed - targets), counted)
        return loss, {"td_loss": loss, "q_mean": losses.masked_mean(mixed, counted)}

    def gradient_step(
        self, spec: EnvSpec, state: ValueState, segment: Segment, budget: Budget
    ) -> tuple[ValueState, Metrics]:
        """One gradient step of both networks on the sequences of `segment`."""
        size = step_size(self.optimisation, state.gradient_steps, budget)
        gradient, metrics = jax.grad(self.loss, argnums=1, has_aux=True)(spec, state.params, state.target, segment)
        gradient = whole_gradient(gradient)
        params, optimiser = descend(adam(self.optimisation), gradient, state.optimiser, state.params, size)
        metrics |= {"learning_rate": size, "gradient_norm": norm(gradient)}
        return replace(state, params=params, optimiser=optimiser, gradient_steps=state.gradient_steps + 1), metrics

    def optimise(self, spec: EnvSpec, state: ValueState, budget: Budget, key: Array) -> tuple[ValueState, Metrics]:
        """`epochs` gradient steps, each on sequences drawn afresh; the metrics are means over them."""
        held = state.buffer
        light = replace(state, buffer=None)  # type: ignore[arg-type]  # the loop need not carry what it only reads

        def step(state: ValueState, key: Array) -> tuple[ValueState, Metrics]:
            return self.gradient_step(spec, state, replay.sample(held, key, self.replay_sequences), budget)

        light, metrics = jax.lax.scan(step, light, split(key, self.optimisation.steps))
        metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        # A norm is finite only if every parameter is.
        learnt = (without_statistics(light.params.actor), without_statistics(light.params.critic))
        return replace(light, buffer=held), metrics | {"parameter_norm": norm(learnt)}


def q_targets(
    rewards: Array, worth: Array, terminated: Array, truncated: Array, *, gamma: ArrayLike, lambda_: ArrayLike
) -> Array:
    """y_t = r_t + gamma (1 - terminated_t) [ (1 - lambda) v_{t+1} + lambda y_{t+1} ], [T, ..., M].

    At a truncation lambda is 0: row t + 1 shows what is left to value, and nothing follows it. The last row's target is
    meaningless, and no other needs it if the row before is an end (`replay.sample` makes it one).

    Args:
      rewards: of each row's step, [T, ...].
      worth: v_t, the value of the best actions in each row, [T, ..., M].
      terminated: the episode came to its end by the row's own step, [T, ...] bool.
      truncated: it was cut off after the row's step, [T, ...] bool.
      gamma: discount.
      lambda_: how far ahead.

    Source: Peng and Williams 1996, "Incremental multi-step Q-learning"; for QMIX, Hu et al. 2021 (arXiv 2102.03479).
    """
    following = jnp.concatenate([worth[1:], jnp.zeros_like(worth[:1])])
    return gae(rewards, worth, following, terminated, truncated, gamma=gamma, lambda_=lambda_).critic_targets
