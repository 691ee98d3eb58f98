"""The actor-critic learner: one update, from experience to new parameters, for every algorithm with a policy.

    collect (a rollout) -> learn: window -> reevaluate (policy and critic with the parameters at the update's start; of
    fresh rows the policy is known) -> targets (the estimator) -> batch -> optimise (epochs of minibatches) -> new state

Every stage is a method that can be called, or overridden, by itself. An algorithm adds a critic, what it is trained on,
and what it says of the actions taken. Whatever changes in training is in `LearnerState`.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses, replay
from gpae.algorithms.base import Budget, Metrics, act
from gpae.algorithms.batch import (
    Batch,
    CriticEvaluation,
    CriticExperience,
    Evaluation,
    LearnerState,
    PerNetwork,
    UpdateData,
    without_last,
)
from gpae.algorithms.blocks import block_by_block
from gpae.algorithms.intervention import Intervention
from gpae.algorithms.optimise import adam
from gpae.algorithms.ppo import PPO
from gpae.algorithms.replay import Buffer, Segment
from gpae.algorithms.rollout import Last, Played, Policy, measure_rollout, unroll, unroll_noting
from gpae.algorithms.statistics import moments_where, shift_and_scale, with_inputs, with_moments
from gpae.envs.protocol import Environment, EnvSpec
from gpae.envs.vector import begin, observe
from gpae.errors import UserError
from gpae.networks import CriticInput, Distribution, lecun
from gpae.settings import settings, settings_of
from gpae.threefry import fold_in, split
from gpae.types import Targets, Trajectory, View


@settings
class ActorCritic(PPO):
    """A critic of what the policy does, and advantages made from it."""

    normalise_advantages: bool = True
    """Scale the advantages of an update to mean 0 and standard deviation 1."""
    mask_dead: bool = True
    """Leave dead agents out of the policy's loss, the entropy and the advantages' statistics."""
    intervention: Intervention = Intervention()

    @property
    def only_fresh(self) -> bool:
        """Whether an update learns from nothing but what the parameters that it begins with have collected."""
        return self.experience.segments == 1

    @property
    def on_policy(self) -> bool:
        """Whether the policy at the start of an update is the one that acted: all ratios are 1 then."""
        return self.experience.segments == 1 and self.intervention.stop_agent is None

    @property
    def begins_with_newest(self) -> bool:
        """Whether a window begins with what was remembered before its newest segment, and not before its oldest."""
        return False

    # -- what an algorithm adds ------------------------------------------------------------------------------------

    @abstractmethod
    def critic(self, spec: EnvSpec) -> Any:
        """The network: `apply(params, inputs, is_first, carry)`, `init` alike, and `initial_carry(num_envs)`."""

    def init_critic(self, spec: EnvSpec, key: Array, inputs: CriticInput, is_first: Array, carry: Any) -> Any:
        """The critic's first parameters; `inputs` [1, E, ...] are an example."""
        return self.drawn(self.critic(spec).init(key, inputs, is_first, carry), key)

    def drawn(self, params: Any, key: Array) -> Any:
        """First parameters of a network with kernels as `initial_weights` wants them."""
        return lecun(params, key) if self.networks.initial_weights == "lecun" else params

    def critic_forgets(self, spec: EnvSpec, is_first: Array, forgets: Array) -> Array:
        """Whose memory of the critic rows empty: where an episode begins [L, C], or as the actors' `forgets` it."""
        return is_first

    def initial_critic_carry(self, spec: EnvSpec, num_envs: int) -> Any:
        """The critic's carry at the start of an episode, each array [E, ...]."""
        return self.critic(spec).initial_carry(num_envs)

    @abstractmethod
    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """The critic at the start of an update; it is called for blocks of environments, each with a key of its own.

        No gradient flows through what it returns.
        """

    @abstractmethod
    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Advantages of the policy and targets of the critic, [W, E, N]; rewards are scaled already."""

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """What `critic_loss` wants to know besides, for `Batch.extras`: each array [W, E, ...]."""
        return None

    def actor_weights(self, evaluation: Evaluation) -> Array | None:
        """Weights of the samples in the policy's loss, [W, E, N]; None: all alike."""
        return None

    def measure(self, trajectory: Trajectory, evaluation: Evaluation, policy_mask: Array) -> Metrics:
        """Facts about the experience; `policy_mask` [W, E, N] selects the samples that count for the policy."""
        return {}

    # -- settings --------------------------------------------------------------------------------------------------

    def fits(self, spec: EnvSpec) -> None:
        """See `Algorithm.fits`."""
        super().fits(spec)
        self.intervention.fits(spec)

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        found = super().idle()
        if self.intervention.stop_agent is None:
            found["stop_probability"] = "no agent is stopped (--stop-agent)"
        if self.on_policy and "clip_range" in settings_of(self):
            found["clip_range"] = "experience is on-policy: all old ratios are 1, and both ranges the same"
        return found

    # -- state -----------------------------------------------------------------------------------------------------

    def init(self, env: Environment, key: Array) -> LearnerState:
        """The state before the first update."""
        spec, num_envs = env.spec, self.experience.envs
        actor = self.actor(spec)
        actor_key, critic_key, env_key, key = split(key, 4)
        vector = begin(env, env_key, num_envs, survivors=self.forgets_apart)
        carry = PerNetwork(
            actor=actor.initial_carry(num_envs, spec.num_agents), critic=self.initial_critic_carry(spec, num_envs)
        )
        view = jax.tree.map(lambda x: x[None], observe(env, vector))
        is_first = vector.is_first[None]

        seen = (view.observations, view.action_mask, is_first, carry.actor)

        def shown() -> tuple[Array, Array]:
            """Actions and own slots like those that the critic will be shown."""
            pi, _ = actor.apply(actor.init(actor_key, *seen), *seen)
            return pi.mode(), pi.own_slot

        actions, own_slot = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(shown))
        inputs = CriticInput(view=view, actions=actions, own_slot=own_slot)
        params = PerNetwork(
            actor=self.drawn(actor.init(actor_key, *seen), actor_key),
            critic=self.init_critic(spec, critic_key, inputs, is_first, carry.critic),
        )
        state = LearnerState(
            params=params,
            optimiser=PerNetwork(
                actor=adam(self.optimisation).init(params.actor), critic=self.critic_optimiser().init(params.critic)
            ),
            vector=vector,
            carry=carry,
            window=None,  # type: ignore[arg-type]  # its shapes are a rollout's, which follow
            buffer=None,
            key=key,
            gradient_steps=jnp.int32(0),
        )
        _, example, _ = jax.eval_shape(lambda state, key: self.collect(env, state, key), state, key)
        window = replay.empty(example, self.experience.segments, counts=self.counts_nothing)
        return replace(state, window=window, buffer=self.empty_buffer(example))

    def empty_buffer(self, example: Segment) -> Buffer | None:
        """A place for older experience; None for algorithms that do not replay any."""
        return None

    # -- one update ------------------------------------------------------------------------------------------------

    def update(self, env: Environment, state: LearnerState, budget: Budget) -> tuple[LearnerState, Metrics]:
        """Collects experience and learns from it.

        Returns:
          The next state, and what was measured, each [] float32 (docs/metrics.md says what each means).
        """
        key, collect_key, learn_key = split(state.key, 3)
        state, segment, last = self.collect(env, replace(state, key=key), collect_key)
        return self.learn(env.spec, state, segment, last, budget, learn_key)

    def collect(self, env: Environment, state: LearnerState, key: Array) -> tuple[LearnerState, Segment, Last]:
        """T rows of experience with the current policy, and what is seen after them; the critic is not evaluated."""
        spec, params, carry = env.spec, state.params.actor, state.carry.actor
        where = (env, state.vector, carry, key, self.experience.rollout_length)
        if not self.only_fresh or isinstance(env, Played):
            vector, after, trajectory = unroll(self.behaviour(spec, params), *where)
            last = Last.of(env, vector)
        else:
            vector, after, trajectory, last = unroll_noting(
                partial(act, self.actor(spec), params), partial(self.intervention.act, spec), *where
            )
        segment = Segment(self.kept(trajectory), actor_carry=carry, critic_carry=state.carry.critic)
        return replace(state, vector=vector, carry=replace(state.carry, actor=after)), segment, last

    def learn(
        self, spec: EnvSpec, state: LearnerState, newest: Segment, last: Last, budget: Budget, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """Learns from a rollout, wherever it was collected."""
        state, data = self.prepare(spec, state, newest, last, key)
        key, shuffle_key = split(state.key)
        batch, carries = self.batch(data)
        if self.networks.normalise_values:
            state, batch = self.rescale_values(state, batch)
        state, metrics = self.optimise(spec, state, batch, carries, budget, shuffle_key)
        if self.normalises_inputs:
            state = replace(state, params=with_inputs(state.params, newest.trajectory.view))
        return replace(state, key=key), metrics | self.diagnose(data)

    def rescale_values(self, state: LearnerState, batch: Batch) -> tuple[LearnerState, Batch]:
        """Has the critic's scale count the update's targets; the batch's errors are then in units of it.

        What the network makes of a state stays as it was, so that values move with the scale; those at the start of
        the update, which clipped ones must stay near, move with them.
        """
        before = shift_and_scale(state.params.critic, "values")
        if before is None:
            raise UserError(f"--normalise-values: {self.name}'s critic has no scale; networks.ValueScale makes one")
        targets = batch.targets.critic_targets
        critic = with_moments(state.params.critic, "values", moments_where(targets, batch.value_mask))
        after = shift_and_scale(critic, "values")
        assert after is not None
        old = batch.evaluation.critic
        old_ones = {"values": old.values, "expected": old.expected}
        moved = jax.tree.map(lambda x: after[0] + after[1] * (x - before[0]) / before[1], old_ones)
        batch = replace(
            batch,
            evaluation=replace(batch.evaluation, critic=replace(old, **moved)),
            value_scale=jnp.broadcast_to(after[1], targets.shape),
        )
        return replace(state, params=replace(state.params, critic=critic)), batch

    def behaviour(self, spec: EnvSpec, params: Any) -> Policy:
        """The policy that collects experience: the actor's, with the intervention if there is one."""

        def policy(carry: Any, view: View, is_first: Array, key: Array) -> tuple[Any, Array, Array, Array]:
            carry, pi = act(self.actor(spec), params, carry, view, is_first)
            return carry, *self.intervention.act(spec, key, pi, view)

        return policy

    def acting(self, spec: EnvSpec, state: LearnerState, budget: Budget) -> tuple[Policy, Any]:
        """See `Algorithm.acting`."""
        return self.behaviour(spec, state.params.actor), state.carry.actor

    def prepare(
        self, spec: EnvSpec, state: LearnerState, newest: Segment, last: Last, key: Array
    ) -> tuple[LearnerState, UpdateData]:
        """The window that a rollout completes, and what the estimator makes of it. Nothing is learnt yet."""
        window, segment = replay.push(state.window, newest, carry=-1 if self.begins_with_newest else 0)
        state = replace(state, window=window)
        state, segment, last = self.add_replayed(state, newest, segment, last, key)
        evaluation = self.reevaluate(spec, state.params, segment, last, key)
        targets = self.targets(self.scaled(segment.trajectory), evaluation)
        carry = jax.tree.map(lambda x: x[-1, : self.experience.envs], evaluation.critic.carries)
        data = UpdateData(newest=newest.trajectory, segment=segment, evaluation=evaluation, targets=targets)
        return replace(state, carry=replace(state.carry, critic=carry)), data

    def add_replayed(
        self, state: LearnerState, newest: Segment, segment: Segment, last: Last, key: Array
    ) -> tuple[LearnerState, Segment, Last]:
        """Where an algorithm replays: keeps the newest experience, and puts replayed sequences beside the segment."""
        return state, segment, last

    def reevaluate(self, spec: EnvSpec, params: PerNetwork, segment: Segment, last: Last, key: Array) -> Evaluation:
        """The policy and the critic at the start of the update, over all rows and the one after them.

        Args:
          spec: of the environment.
          params: of both networks.
          segment: W rows, with the carries before the first.
          last: what is seen after the last row, and the actor's word on all of them, where it is known already.
          key: draws the actions that no behaviour policy took: on the row after the last, and on invalid rows.
        """
        actor, trajectory, known = self.actor(spec), segment.trajectory, last.acting
        # One draw of noise per environment serves all its rows: of these, only few are not executed.
        noise = actor.noise(key, *trajectory.log_probs.shape[1:])
        carries = PerNetwork(actor=segment.actor_carry, critic=segment.critic_carry)

        def of_block(
            rows: tuple[Trajectory, Distribution | None], others: tuple[PerNetwork, Last, Array], number: Array | int
        ) -> Evaluation:
            (trajectory, pi), (carry, last, noise), after = rows, others, None
            view, is_first, forgets = replay.with_last(*((x.view, x.is_first, x.forgets) for x in (trajectory, last)))
            if pi is None:
                pi, after = actor.apply(params.actor, view.observations, view.action_mask, forgets, carry.actor)
            drawn = pi.chosen_by(noise)
            executed = trajectory.valid.reshape(*trajectory.valid.shape, *[1] * (drawn.ndim - 2))
            taken = jnp.where(executed, trajectory.actions, drawn[:-1])
            actions = jnp.concatenate([taken, drawn[-1:]])
            log_probs = pi.log_prob(actions)[:-1]
            log_ratios = jnp.where(trajectory.valid[..., None], log_probs - trajectory.log_probs, 0.0)
            own_slot = pi.own_slot
            seen = CriticExperience(
                inputs=CriticInput(view=view, actions=actions, own_slot=own_slot),
                is_first=self.critic_forgets(spec, is_first, forgets),
                forgets=forgets,
                carry=carry.critic,
                policy=pi,
                log_ratios=log_ratios,
            )
            of_its_own = key if isinstance(number, int) else fold_in(key, number)
            return Evaluation(
                actions=taken,
                own_slot=own_slot[:-1],
                log_probs=log_probs,
                log_ratios=log_ratios,
                critic=self.evaluate_critic(spec, params.critic, seen, of_its_own),
                actor_carries=without_last(after),
            )

        rows = (trajectory, None if known is None else known.policy)
        found = block_by_block(of_block, rows, (carries, replace(last, acting=None), noise), spec.num_agents)
        if known is not None:
            found = replace(found, actor_carries=known.carries)
        return jax.lax.stop_gradient(found)

    def scaled(self, trajectory: Trajectory) -> Trajectory:
        """As values are learnt from it: with scaled rewards."""
        if self.reward_scale == 1.0:
            return trajectory
        own = trajectory.agent_rewards
        return replace(
            trajectory,
            rewards=self.reward_scale * trajectory.rewards,
            agent_rewards=None if own is None else self.reward_scale * own,
        )

    def one_step(self, trajectory: Trajectory, evaluation: Evaluation) -> Array:
        """Advantages that look one step ahead, [W, E, N]."""
        near = dataclasses.replace(self, lambda_=0.0 * self.lambda_)
        return near.targets(self.scaled(trajectory), evaluation).advantages

    def masks(self, trajectory: Trajectory) -> tuple[Array, Array]:
        """Samples that count for the policy and for the critic, [W, E, N] bool.

        For the policy: executed actions, of living agents if so configured; replayed sequences are the critic's alone.
        """
        alive = trajectory.view.alive
        fresh = jnp.arange(trajectory.valid.shape[1]) < self.experience.envs
        policy = jnp.broadcast_to((trajectory.valid & fresh)[..., None], alive.shape)
        value = jnp.broadcast_to(trajectory.valid[..., None], alive.shape)
        return policy & alive if self.mask_dead else policy, value

    def batch(self, data: UpdateData) -> tuple[Batch, PerNetwork]:
        """The samples, [W, E, ...], and the carries before the C sequences of L rows in them, [C, ...].

        They are cut where they are used (`replay.to_chunks`), since a copy of them all takes memory and time.
        """
        segment, evaluation, targets = data.segment, data.evaluation, data.targets
        policy_mask, value_mask = self.masks(segment.trajectory)
        if self.normalise_advantages:
            targets = replace(targets, advantages=losses.normalise(targets.advantages, policy_mask))
        batch = Batch(
            trajectory=segment.trajectory,
            evaluation=evaluation,
            targets=targets,
            policy_mask=policy_mask,
            value_mask=value_mask,
            actor_weights=self.actor_weights(evaluation),
            extras=self.samples(self.scaled(segment.trajectory), evaluation),
        )
        first = PerNetwork(actor=segment.actor_carry, critic=segment.critic_carry)
        after = PerNetwork(actor=evaluation.actor_carries, critic=evaluation.critic.carries)
        return batch, replay.chunk_carries(first, after, self.chunk_rows)

    # -- what is measured ------------------------------------------------------------------------------------------

    def diagnose(self, data: UpdateData) -> Metrics:
        """Facts about the experience."""
        trajectory, evaluation, targets = data.segment.trajectory, data.evaluation, data.targets
        policy_mask, value_mask = self.masks(trajectory)
        values = evaluation.critic.values
        metrics = {
            "explained_variance": losses.explained_variance(values, targets.critic_targets, value_mask),
            "value_mean": losses.masked_mean(values, value_mask),
            "advantage_rms": jnp.sqrt(losses.masked_mean(jnp.square(targets.advantages), policy_mask)),
        }
        metrics |= measure_rollout(data.newest) | self.measure(trajectory, evaluation, policy_mask)
        if self.intervention.stop_agent is not None:
            metrics |= self.intervention.measure(data, self.one_step(trajectory, evaluation))
        return metrics
