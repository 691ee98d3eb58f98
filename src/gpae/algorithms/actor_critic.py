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

from gpae import losses, replay
from gpae.algorithms.registry import AlgorithmSpec, algorithm
from gpae.config import ExperimentConfig
from gpae.envs.base import Environment, Running, View, begin
from gpae.errors import UserError
from gpae.estimators import advantage_gap, gpae, importance_traces
from gpae.estimators.traces import LOG_LIMIT, Scheme
from gpae.networks import Actor, Critic, CriticInputs, CriticOutputs
from gpae.networks import distributions as policies
from gpae.replay import Segment, Window
from gpae.rollout import Policy, observe, unroll
from gpae.types import Targets, Trajectory

Metrics = dict[str, Array]
_STOP = "stop"
"""The action of an intervention, by its name in `EnvSpec.action_names`."""


@struct.dataclass
class Hyper:
    """Hyperparameters that are traced: they may differ between runs of one compiled program. All [] float32."""

    learning_rate: Array
    gamma: Array
    lambda_: Array
    eta: Array
    own_cap: Array
    """Infinite where nothing is capped."""
    clip: Array
    entropy: Array
    value_coefficient: Array
    max_grad_norm: Array
    gradient_steps: Array
    """Gradient steps over which the learning rate falls to 0."""


def hyper_of(config: ExperimentConfig) -> Hyper:
    """The traced hyperparameters of an experiment."""
    fields = {name: jnp.float32(getattr(config, name)) for name in Hyper.__dataclass_fields__}
    return Hyper(**fields | {"own_cap": jnp.float32(config.own_cap or jnp.inf)})


@struct.dataclass
class Networks:
    """One value for the actor and one for the critic: parameters, optimiser states, gradient norms ..."""

    actor: Any
    critic: Any


@struct.dataclass
class LearnerState:
    """Everything that training changes."""

    params: Networks
    optimiser: Networks
    running: Running
    """The environments, at the row where the next rollout begins."""
    memory: Networks
    """What the networks remember before that row, [E, N, H]."""
    window: Window
    key: Array
    gradient_steps: Array
    """[] int32."""


@struct.dataclass
class Evaluation:
    """Experience as the parameters at the start of the update see it: pi_old and EQ. W rows."""

    actions: Array
    """[W, E, N]: the actions taken; where a row's action was not executed, one drawn from pi_old."""
    probs: Array
    """pi_old, [W, E, N, A]."""
    log_probs: Array
    """log pi_old of the actions, [W, E, N]."""
    log_ratios: Array
    """log pi_old - log mu of the actions, [W, E, N]; 0 on invalid rows."""
    values: Array
    """[W, E, N]."""
    next_values: Array
    """The value of what follows each row, [W, E, N]."""
    memory: Networks
    """The memory after each row, [W, E, N, H]."""
    expected_error: Array | None
    """Unbiased samples of (V - E EQ^i)^2, the error of the expected value, [W, E, N]; may be negative one by one.
    None where there is none."""


@struct.dataclass
class Experience:
    """What an update learns from."""

    newest: Trajectory
    """This update's rollout, [T, E, ...]."""
    segment: Segment
    """The whole window, W rows, the rollout at its end."""
    evaluation: Evaluation
    targets: Targets


@struct.dataclass
class Batch:
    """The samples of an update: sequences of L rows, C of them. One permutation shuffles all of it, along C."""

    observations: Array
    states: Array
    legal_actions: Array
    starts: Array
    actions: Array
    probs: Array
    old_log_probs: Array
    """log pi_old, [L, C, N]."""
    log_mu: Array
    """log mu, [L, C, N]."""
    old_values: Array
    advantages: Array
    critic_targets: Array
    acting: Array
    """Samples that count for the policy, [L, C, N] bool."""
    valued: Array
    """Samples that count for the critic, [L, C, N] bool."""
    actor_weights: Array | None
    """min(eta, rho_old^-i), [L, C, N]; None where the policy's loss has no such weight."""
    expected_weights: Array | None
    """rho^-i over its mean, [L, C, N], for the loss of the expected value; None where there is none."""


@dataclass(frozen=True, eq=False)
class ActorCritic:
    """The learner of an experiment: everything about it that does not change."""

    config: ExperimentConfig
    env: Environment
    algorithm: AlgorithmSpec
    trace: Scheme
    actor: Actor
    critic: Critic

    @staticmethod
    def build(config: ExperimentConfig, env: Environment) -> ActorCritic:
        """The learner for `config` in `env`.

        Raises:
          UserError: unknown algorithm, settings out of range or that do not fit together.
        """
        config.validate()
        spec = algorithm(config.algorithm)
        trace = spec.trace if config.trace == "default" else config.trace
        if spec.ratios == "joint" and trace not in ("none", "it"):
            raise UserError(
                f"--trace {trace} tells an agent's own ratio from the others', but {spec.name} corrects with the team's"
                " joint ratio: use none or it"
            )
        if config.bootstrap != "sampled" and spec.critic != "joint_action":
            raise UserError(
                f"--bootstrap {config.bootstrap} is for critics of the joint action; what {spec.name}'s critic says of"
                " the next step does not depend on the others' actions: use sampled"
            )
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
            trace=trace,
            actor=make_actor(config, env.spec.num_actions),
            critic=Critic(
                inputs=spec.critic,
                num_agents=env.spec.num_agents,
                hidden_size=config.hidden_size,
                embedding_size=config.embedding_size,
                num_layers=config.critic_layers,
                head_layers=config.head_layers,
                recurrent=config.recurrent,
                layer_norm=config.layer_norm,
                identity=config.critic_identity,
                expected=config.bootstrap == "expected",
            ),
        )

    # -- state -----------------------------------------------------------------------------------------------------

    def init(self, key: Array) -> LearnerState:
        """The state before the first update."""
        num_envs, num_agents = self.config.envs_per_seed, self.env.spec.num_agents
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        running = begin(self.env, env_key, num_envs)
        memory = Networks(
            actor=self.actor.initial_memory(num_envs, num_agents), critic=self.critic.initial_memory(num_envs)
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
            critic=self.critic.init(critic_key, inputs, starts, memory.critic),
        )
        optimiser = jax.tree.map(self._optimiser(jnp.float32(1.0)).init, params, is_leaf=lambda x: isinstance(x, dict))
        state = LearnerState(
            params=params,
            optimiser=optimiser,
            running=running,
            memory=memory,
            window=None,  # type: ignore[arg-type]  # its shapes are a rollout's, which follow
            key=key,
            gradient_steps=jnp.int32(0),
        )
        _, example = jax.eval_shape(self.rollout, state, key)
        return replace(state, window=replay.empty(example, self.config.window))

    def _optimiser(self, max_grad_norm: Array) -> optax.GradientTransformation:
        """Adam on clipped gradients; the step size is applied apart, since it may be traced."""
        return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=self.config.adam_epsilon))

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
        last = observe(self.env, state.running)
        evaluation = self.evaluate(state.params, segment, last, state.running.starts, action_key)
        targets = self.targets(segment.trajectory, evaluation, hyper)
        memory = replace(state.memory, critic=jax.tree.map(lambda x: x[-1], evaluation.memory.critic))
        experience = Experience(newest=newest.trajectory, segment=segment, evaluation=evaluation, targets=targets)
        return replace(state, window=window, memory=memory, key=key), experience

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
        inputs = CriticInputs(states=states, observations=observations, actions=actions, probs=probs)
        found = self.criticise(params.critic, inputs, starts, segment.critic_memory)
        memory = jax.tree.map(lambda x: x[:-1], Networks(actor=actor_memory, critic=found.memories))

        def redraw(number: int) -> Array:
            """EQ^i of every row with the others' actions drawn afresh from pi_old, [W + 1, E, N]."""
            fresh = policies.sample(jax.random.fold_in(key, number), log_pi)
            before = replay.memories_before(segment.critic_memory, found.memories)
            return self.branch(params.critic, replace(inputs, actions=fresh), starts, before)

        following, expected_error = found.values, None
        if found.expected is not None:
            following = found.expected
            expected_error = ((following - redraw(1)) * (following - redraw(2)))[:-1]
        if self.config.bootstrap == "weighted":
            # The action after the last row was drawn from pi_old itself: ratio 1.
            others = jnp.concatenate([_others(log_ratios), jnp.zeros_like(log_ratios[:1])])
            following = jnp.exp(others) * found.values
        elif self.config.bootstrap == "resampled":
            following = redraw(1)
        evaluation = Evaluation(
            actions=taken,
            probs=probs[:-1],
            log_probs=log_probs,
            log_ratios=log_ratios,
            values=found.values[:-1],
            next_values=following[1:],
            memory=memory,
            expected_error=expected_error,
        )
        return jax.lax.stop_gradient(evaluation)

    def criticise(self, params: Any, inputs: CriticInputs, starts: Array, memory: Any) -> CriticOutputs:
        """The critic over rows [L, C, ...]."""
        outputs: Any = self.critic.apply(params, inputs, starts, memory)
        return CriticOutputs(*outputs)

    def branch(self, params: Any, inputs: CriticInputs, starts: Array, memory: Any) -> Array:
        """The critic's values where every row is one step branched off its own memory; no unroll.

        Args:
          params: the critic's.
          inputs: what is seen, [W, E, ...].
          starts: [W, E] bool.
          memory: the memory before each row, [W, E, M, H].

        Returns:
          [W, E, N].
        """

        def together(x: Array) -> Array:
            return x.reshape(1, -1, *x.shape[2:])

        before = jax.tree.map(lambda x: together(x)[0], memory)
        values = self.criticise(params, jax.tree.map(together, inputs), together(starts), before).values
        return values.reshape(*starts.shape, -1)

    def correction(self, log_ratios: Array) -> Array:
        """The log-ratios that the estimator corrects with, [W, E, N]: as they are, or the team's joint one for each."""
        if self.algorithm.ratios == "own":
            return log_ratios
        return jnp.broadcast_to(log_ratios.sum(-1, keepdims=True), log_ratios.shape)

    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Advantages and critic targets, [W, E, N]."""
        targets = self._estimate(trajectory, evaluation, hyper)
        if self.algorithm.advantages == "multi_step":
            return targets
        return replace(targets, advantages=self._one_step(trajectory, evaluation, hyper))

    def _one_step(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Array:
        """Advantages that look one step ahead."""
        hyper = replace(hyper, lambda_=jnp.zeros_like(hyper.lambda_))
        return self._estimate(trajectory, evaluation, hyper).advantages

    def _estimate(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        return gpae(
            trajectory.rewards,
            evaluation.values,
            evaluation.next_values,
            trajectory.terminated,
            trajectory.truncated,
            self.correction(evaluation.log_ratios),
            gamma=hyper.gamma,
            lambda_=hyper.lambda_,
            trace=self.trace,
            eta=hyper.eta,
            own_weight=self.config.own_weight,
            own_cap=hyper.own_cap,
        )

    def acting(self, trajectory: Trajectory) -> Array:
        """Samples that count for the policy, [W, E, N] bool: executed actions, of living agents if so configured."""
        valid = jnp.broadcast_to(trajectory.valid[..., None], trajectory.alive.shape)
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
        others, actor_weights, expected_weights = _others(evaluation.log_ratios), None, None
        if self.config.actor_weight == "own-others":
            actor_weights = jnp.exp(jnp.minimum(others, jnp.log(hyper.eta)))
        if self.config.bootstrap == "expected":
            total = jax.nn.logsumexp(others, where=valued) - jnp.log(jnp.maximum(jnp.sum(valued), 1))
            expected_weights = jnp.exp(others - total)
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
            expected_weights=expected_weights,
        )
        first = Networks(actor=segment.actor_memory, critic=segment.critic_memory)
        length = self.config.chunk_rows
        return replay.to_chunks(whole, length), replay.chunk_memories(first, evaluation.memory, length)

    def policy_loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The clipped surrogate and the entropy bonus, means over the samples that act."""
        log_pi, _ = self.actor.apply(params, batch.observations, batch.legal_actions, batch.starts, memory)
        log_probs = policies.log_prob(log_pi, batch.actions)
        surrogate = losses.clipped_surrogate(
            log_probs - batch.log_mu, batch.old_log_probs - batch.log_mu, batch.advantages, hyper.clip
        )
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

    def value_loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The critic's squared error, a mean over all executed rows; dead agents' values count.

        An expected value learns from the same targets, weighted by rho^-i: without it their mean would be over mu^-i.
        """
        inputs = CriticInputs(
            states=batch.states, observations=batch.observations, actions=batch.actions, probs=batch.probs
        )
        found = self.criticise(params, inputs, batch.starts, memory)
        error = losses.value_error(
            found.values, batch.old_values, batch.critic_targets, hyper.clip if self.config.clip_values else None
        )
        loss = losses.masked_mean(error, batch.valued)
        metrics = {"value_loss": loss}
        if found.expected is not None and batch.expected_weights is not None:
            error = batch.expected_weights * losses.value_error(
                found.expected, found.expected, batch.critic_targets, None
            )
            metrics["expected_loss"] = losses.masked_mean(error, batch.valued)
            loss = loss + metrics["expected_loss"]
        return hyper.value_coefficient * loss, metrics

    def minibatch_step(
        self, state: LearnerState, batch: Batch, memory: Networks, hyper: Hyper
    ) -> tuple[LearnerState, Metrics]:
        """One gradient step of actor and critic."""
        step_size = hyper.learning_rate
        if self.config.anneal:
            step_size = step_size * (1.0 - state.gradient_steps.astype(jnp.float32) / hyper.gradient_steps)
        transform = self._optimiser(hyper.max_grad_norm)
        metrics: Metrics = {"learning_rate": step_size}
        params, optimiser = {}, {}
        for name, loss in (("actor", self.policy_loss), ("critic", self.value_loss)):
            old = getattr(state.params, name)
            gradient, measured = jax.grad(loss, has_aux=True)(old, batch, getattr(memory, name), hyper)
            direction, optimiser[name] = transform.update(gradient, getattr(state.optimiser, name), old)
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
            return jax.random.permutation(key, config.sequences).reshape(config.minibatches, -1)

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
        ended = newest.valid & (newest.terminated | newest.truncated)
        metrics = {
            "explained_variance": losses.explained_variance(evaluation.values, targets.critic_targets, valued),
            "value_mean": losses.masked_mean(evaluation.values, valued),
            "advantage_std": jnp.sqrt(losses.masked_mean(jnp.square(targets.advantages), acting)),
            "reward_mean": losses.masked_mean(newest.rewards, newest.valid),
            "alive_fraction": losses.masked_mean(
                newest.alive * 1.0, jnp.broadcast_to(newest.valid[..., None], newest.alive.shape)
            ),
            "episodes": jnp.sum(ended).astype(jnp.float32),
            "wins": jnp.sum(newest.won & newest.valid).astype(jnp.float32),
        }
        if self.config.window > 1:
            metrics |= self._diagnose_correction(acting, evaluation.log_ratios, hyper)
        if evaluation.expected_error is not None:
            metrics["expected_rms_error"] = jnp.sqrt(
                jnp.maximum(losses.masked_mean(evaluation.expected_error, valued), 0.0)
            )
        if self.config.stop_agent >= 0:
            metrics |= self._diagnose_stop(experience, hyper)
        return metrics

    def _diagnose_stop(self, experience: Experience, hyper: Hyper) -> Metrics:
        """The advantage gap where the stopped agent was forced, by the run's estimator and by the one-step one."""
        newest, evaluation = experience.newest, experience.evaluation
        trajectory = experience.segment.trajectory
        rows = newest.valid.shape[0]
        one_step = self._one_step(trajectory, evaluation, hyper)
        gap, counted = advantage_gap(experience.targets.advantages[-rows:], newest.alive, self.config.stop_agent)
        gap_one_step, _ = advantage_gap(one_step[-rows:], newest.alive, self.config.stop_agent)
        counted = counted & newest.valid & newest.forced[..., self.config.stop_agent]
        return {
            "advantage_gap": losses.masked_mean(gap, counted),
            "advantage_gap_one_step": losses.masked_mean(gap_one_step, counted),
            "stops": jnp.sum(counted).astype(jnp.float32),
        }

    def _diagnose_correction(self, acting: Array, log_ratios: Array, hyper: Hyper) -> Metrics:
        """How far old experience has drifted, and what the traces make of it."""
        others = _others(log_ratios)
        traces = importance_traces(
            self.correction(log_ratios),
            scheme=self.trace,
            lambda_=hyper.lambda_,
            eta=hyper.eta,
            own_cap=hyper.own_cap,
        )
        log_eta = jnp.log(hyper.eta)
        # What the cap at 1 is applied to; "none" and "others" have none.
        uncut = {
            "none": jnp.zeros_like(log_ratios),
            "st": log_ratios + others,
            "it": self.correction(log_ratios),
            "dt": log_ratios + jnp.minimum(others, log_eta),
            "others": jnp.zeros_like(log_ratios),
        }[self.trace]

        def effective(log_weights: Array) -> Array:
            one = jax.nn.logsumexp(log_weights, where=acting)
            two = jax.nn.logsumexp(2.0 * log_weights, where=acting)
            return jnp.exp(2.0 * one - two) / jnp.maximum(jnp.sum(acting), 1).astype(log_weights.dtype)

        return {
            "ess_own": effective(log_ratios),
            "ess_others": effective(others),
            "trace_mean": losses.masked_mean(traces, acting),
            "cut_at_eta": losses.masked_mean((others > log_eta) * 1.0, acting),
            "cut_at_one": losses.masked_mean((uncut > 0.0) * 1.0, acting),
        }


def make_actor(config: ExperimentConfig, num_actions: int) -> Actor:
    """The actor that `config` describes."""
    return Actor(
        num_actions=num_actions,
        hidden_size=config.hidden_size,
        num_layers=config.actor_layers,
        head_layers=config.head_layers,
        recurrent=config.recurrent,
        layer_norm=config.layer_norm,
        identity=config.actor_identity,
    )


def _others(log_ratios: Array) -> Array:
    """Logarithm of rho^-i, [..., N]: the sum of the others' log-ratios, within the limits of the estimators."""
    return jnp.clip(log_ratios.sum(-1, keepdims=True) - log_ratios, -LOG_LIMIT, LOG_LIMIT)


def _row(tree: Any) -> Any:
    """A time axis of one row in front."""
    return jax.tree.map(lambda x: x[None], tree)


def _append(rows: Any, last: Any) -> Any:
    """One more row at the end of every array."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)
