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

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from gpae.algorithms import losses, replay
from gpae.algorithms.method import Hyper, Metrics, Networks, actor_sizes, adam, of_taken
from gpae.algorithms.registry import AlgorithmSpec, algorithm
from gpae.algorithms.replay import Buffer, Segment
from gpae.algorithms.rollout import Policy, measure_rollout, observe, unroll
from gpae.envs.base import Environment, Running, View, begin
from gpae.errors import UserError
from gpae.estimators import gae
from gpae.networks import Mixer, QNetwork, make_mixer
from gpae.networks import distributions as policies
from gpae.training.config import ExperimentConfig, flag

_ONLY_ACTOR_CRITIC = ("window", "trace", "own_weight", "own_cap", "bootstrap", "actor_weight", "stop_agent")
"""Settings that ask for something that a value-based method does not have."""


@struct.dataclass
class ValueState:
    """Everything that training changes."""

    params: Networks
    """Of the agents' network (actor) and the mixer (critic)."""
    target: Networks
    """What the targets are computed with: `params` of some updates ago."""
    optimiser: Any
    running: Running
    """The environments, at the row where the next rollout begins."""
    memory: Any
    """What the agents remember before that row, [E, N, H]."""
    buffer: Buffer
    key: Array
    updates: Array
    """[] int32."""
    gradient_steps: Array
    """[] int32."""


@dataclass(frozen=True, eq=False)
class ValueBased:
    """The learner of an experiment: everything about it that does not change."""

    config: ExperimentConfig
    env: Environment
    algorithm: AlgorithmSpec
    actor: QNetwork
    mixer: Mixer

    @staticmethod
    def build(config: ExperimentConfig, env: Environment) -> ValueBased:
        """The learner for `config` in `env`.

        Raises:
          UserError: unknown algorithm, settings out of range or that do not fit together.
        """
        config.validate()
        spec = algorithm(config.algorithm)
        if spec.mixer is None:
            raise UserError(f"{spec.name} is not a value-based method")
        for name in _ONLY_ACTOR_CRITIC:
            if getattr(config, name) != getattr(ExperimentConfig, name):
                raise UserError(
                    f"{flag(name)} {getattr(config, name)}: {spec.name} learns values of actions by Q-learning, from a"
                    " replay; this setting is for methods with a critic of the policy"
                )
        if config.rollout_length < 2:
            raise UserError(
                f"--rollout-length is {config.rollout_length}; {spec.name} needs at least 2: the last row of a sequence"
                " only shows what follows"
            )
        if config.chunk_rows != config.rollout_length:
            raise UserError(
                f"--chunk-length {config.chunk_length}: {spec.name} replays whole rollouts; use --rollout-length"
                f" {config.chunk_length} --chunk-length 0"
            )
        return ValueBased(
            config=config,
            env=env,
            algorithm=spec,
            actor=make_actor(config, env.spec.num_actions),
            mixer=make_mixer(
                spec.mixer,
                embedding_size=config.embedding_size,
                hypernet_size=config.hypernet_size,
                layer_norm=config.layer_norm,
            ),
        )

    # -- state -----------------------------------------------------------------------------------------------------

    def init(self, key: Array) -> ValueState:
        """The state before the first update."""
        num_envs, num_agents = self.config.envs_per_seed, self.env.spec.num_agents
        actor_key, mixer_key, env_key, key = jax.random.split(key, 4)
        running = begin(self.env, env_key, num_envs)
        memory = self.actor.initial_memory(num_envs, num_agents)
        view = jax.tree.map(lambda x: x[None], observe(self.env, running))
        params = Networks(
            actor=self.actor.init(actor_key, view.observations, view.legal_actions, running.starts[None], memory),
            critic=self.mixer.init(mixer_key, jnp.zeros(view.alive.shape), view.state),
        )
        state = ValueState(
            params=params,
            # A copy, since the state is donated whole: one array cannot be given away twice.
            target=jax.tree.map(jnp.copy, params),
            optimiser=adam(self.config, jnp.float32(1.0)).init(params),
            running=running,
            memory=memory,
            buffer=None,  # type: ignore[arg-type]  # its shapes are a rollout's, which follow
            key=key,
            updates=jnp.int32(0),
            gradient_steps=jnp.int32(0),
        )
        _, example = jax.eval_shape(self.rollout, state, jnp.float32(0.0), key)
        # No more is allocated than training can fill.
        capacity = min(self.config.replay_segments, self.config.num_updates)
        return replace(state, buffer=replay.buffer(example, capacity))

    # -- one update ------------------------------------------------------------------------------------------------

    def update(self, state: ValueState, hyper: Hyper) -> tuple[ValueState, Metrics]:
        """Collects experience and learns from the replay.

        Returns:
          The next state, and what was measured, each [] float32 (docs/metrics.md says what each means).
        """
        key, rollout_key, sample_key = jax.random.split(state.key, 3)
        epsilon = self.epsilon(state.updates)
        state, newest = self.rollout(state, epsilon, rollout_key)
        state = replace(state, buffer=replay.add(state.buffer, newest), key=key)
        state, metrics = self.optimise(state, hyper, sample_key)
        updates = state.updates + 1
        copied = updates % self.config.target_period == 0
        target = jax.tree.map(lambda new, old: jnp.where(copied, new, old), state.params, state.target)
        metrics |= {"epsilon": epsilon} | measure_rollout(newest.trajectory)
        return replace(state, target=target, updates=updates), metrics

    def epsilon(self, updates: Array) -> Array:
        """How often to explore in the update after `updates` others: linear over `epsilon_fraction` of training."""
        config = self.config
        span = max(config.epsilon_fraction * config.num_updates, 1e-9)
        progress = jnp.minimum(updates.astype(jnp.float32) / span, 1.0)
        return config.epsilon_start + progress * (config.epsilon_end - config.epsilon_start)

    def act(
        self, params: Any, memory: Any, view: View, starts: Array, epsilon: Array | None = None
    ) -> tuple[Any, Array]:
        """One row of the policy: the memory after it and log pi, [E, N, A].

        It is epsilon-greedy with the epsilon that training ends with, unless one is given.
        """
        log_pi, memories = self.actor.apply(
            params, view.observations[None], view.legal_actions[None], starts[None], memory, epsilon
        )
        return jax.tree.map(lambda x: x[0], memories), log_pi[0]

    def behaviour(self, params: Any, epsilon: Array) -> Policy:
        """The policy that collects experience."""

        def policy(memory: Any, view: View, starts: Array, key: Array) -> tuple[Any, Array, Array, Array]:
            memory, log_pi = self.act(params, memory, view, starts, epsilon)
            actions = policies.sample(key, log_pi)
            return memory, actions, policies.log_prob(log_pi, actions), jnp.zeros(actions.shape, bool)

        return policy

    def rollout(self, state: ValueState, epsilon: Array, key: Array) -> tuple[ValueState, Segment]:
        """T rows of experience."""
        running, memory, trajectory = unroll(
            self.env,
            self.behaviour(state.params.actor, epsilon),
            state.running,
            state.memory,
            key,
            self.config.rollout_length,
        )
        segment = Segment(trajectory=trajectory, actor_memory=state.memory, critic_memory=())
        return replace(state, running=running, memory=memory), segment

    def values(self, params: Any, segment: Segment) -> Array:
        """Q^i of all actions, legal or not, [T, C, N, A]; `params` are the agents' network's."""
        rows = segment.trajectory
        values, _ = self.actor.apply(params, rows.observations, rows.starts, segment.actor_memory, method="logits")
        return values

    def mix(self, params: Any, values: Array, states: Array) -> Array:
        """Q_tot, [T, C, M], from the agents' values [T, C, N]; `params` are the mixer's."""
        mixed: Array = self.mixer.apply(params, values, states)
        return mixed

    def targets(self, target: Networks, values: Array, segment: Segment, hyper: Hyper) -> Array:
        """What the values of all rows should be, [T, C, M]; that of the last row is meaningless.

        Args:
          target: the parameters of some updates ago.
          values: Q^i of all actions with today's, [T, C, N, A].
          segment: the sequences.
          hyper: gamma and lambda.
        """
        rows = segment.trajectory
        # Double Q-learning: today's parameters choose, those of some updates ago say what the choice is worth.
        chosen = jnp.argmax(jnp.where(rows.legal_actions, values, jnp.finfo(values.dtype).min), axis=-1)
        worth = self.mix(target.critic, of_taken(self.values(target.actor, segment), chosen), rows.states)
        rewards = self.config.reward_scale * rows.rewards
        return q_targets(rewards, worth, rows.terminated, rows.truncated, gamma=hyper.gamma, lambda_=hyper.lambda_)

    def loss(self, params: Networks, target: Networks, segment: Segment, hyper: Hyper) -> tuple[Array, Metrics]:
        """The squared error of the values of what was done, a mean over all executed rows."""
        rows = segment.trajectory
        values = self.values(params.actor, segment)
        mixed = self.mix(params.critic, of_taken(values, rows.actions), rows.states)
        targets = jax.lax.stop_gradient(self.targets(target, jax.lax.stop_gradient(values), segment, hyper))
        counted = jnp.broadcast_to(rows.valid[..., None], mixed.shape)
        loss = losses.masked_mean(jnp.square(mixed - targets), counted)
        return loss, {"td_loss": loss, "q_mean": losses.masked_mean(mixed, counted)}

    def gradient_step(self, state: ValueState, segment: Segment, hyper: Hyper) -> tuple[ValueState, Metrics]:
        """One gradient step of both networks on the sequences of `segment`."""
        step_size = hyper.learning_rate
        if self.config.anneal:
            step_size = step_size * (1.0 - state.gradient_steps.astype(jnp.float32) / hyper.gradient_steps)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.params, state.target, segment, hyper)
        direction, optimiser = adam(self.config, hyper.max_grad_norm).update(gradient, state.optimiser, state.params)
        params = jax.tree.map(lambda p, d: p - step_size * d, state.params, direction)
        metrics |= {"learning_rate": step_size, "gradient_norm": optax.tree.norm(gradient)}
        return replace(state, params=params, optimiser=optimiser, gradient_steps=state.gradient_steps + 1), metrics

    def optimise(self, state: ValueState, hyper: Hyper, key: Array) -> tuple[ValueState, Metrics]:
        """Epochs x minibatches gradient steps, each on sequences drawn afresh; the metrics are means over them."""
        held = state.buffer
        light = replace(state, buffer=None)  # type: ignore[arg-type]  # the loop need not carry what it only reads

        def step(state: ValueState, key: Array) -> tuple[ValueState, Metrics]:
            return self.gradient_step(state, replay.sample(held, key, self.config.replay_sequences), hyper)

        steps = self.config.epochs * self.config.minibatches
        light, metrics = jax.lax.scan(step, light, jax.random.split(key, steps))
        metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        # A norm is finite only if every parameter is.
        return replace(light, buffer=held), metrics | {"parameter_norm": optax.tree.norm(light.params)}


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


def make_actor(config: ExperimentConfig, num_actions: int) -> QNetwork:
    """The agents' network that `config` describes."""
    return QNetwork(num_actions=num_actions, epsilon=config.epsilon_end, **actor_sizes(config))
