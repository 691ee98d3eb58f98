"""DOP: decomposed off-policy policy gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses, replay
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Metrics, algorithm
from gpae.algorithms.batch import (
    Batch,
    CriticEvaluation,
    CriticExperience,
    Evaluation,
    LearnerState,
    PolicySamples,
    without_last,
)
from gpae.algorithms.replay import Buffer, Segment
from gpae.algorithms.rollout import Last
from gpae.envs.protocol import EnvSpec
from gpae.errors import UserError
from gpae.estimators import counterfactual_advantages, gae, tree_backup
from gpae.networks import CriticInput, DecomposedCritic, DecomposedOutput
from gpae.settings import Size, TracedUnit, between, settings, settings_of
from gpae.types import Targets, Trajectory


@algorithm("dop", source="Wang et al. 2021, arXiv 2007.12322")
@settings
class DOP(ActorCritic):
    r"""A critic that is a weighted sum over agents, which also learns off-policy; plain policy gradient.

        Q_tot(s, a) = sum_i k_i(s) Q_i(s, tau^i, a^i)
        A^i         = k_i ( Q_i(a^i) - sum_a pi^i(a) Q_i(a) )
        y^on        TD(lambda) of the actions taken, on the newest experience
        y^off       the tree backup (`gpae.estimators.tree_backup`) on replayed sequences, with
                    E Q_tot = sum_i k_i sum_a pi^i(a) Q_i(a), which is exact since Q_tot is linear

    The critic's loss is one mean over both, so that replayed experience weighs as its share of the rows
    (`replay_sequences` beside `num_envs`). Targets come from the critic as it was at the start of the update. Replayed
    sequences begin with the carry that was kept when they were collected. The policy learns from the newest experience
    only.

    Source: Wang et al. 2021 (arXiv 2007.12322) and its released code.
    """

    tree_lambda: TracedUnit = 0.93
    """Lambda of the tree backup that learns from replayed experience."""
    tree_steps: Annotated[int, between(1, 10_000)] = 5
    """Steps that the tree backup looks ahead."""
    replay_segments: Size = 64
    """Rollouts kept for replay, each of `num_envs` x `rollout_length`."""
    replay_sequences: Size = 32
    """Sequences of `rollout_length` rows, each of one environment, drawn from the replay for each update, beside its
    newest experience."""
    clip_range: ClassVar[losses.ClipRange] = "multiplicative"  # type: ignore[misc]  # nothing is clipped but values

    @property
    def sequence_envs(self) -> int:
        """Environments' sequences in an update, replayed ones included."""
        return self.experience.envs + self.replay_sequences

    def validate(self) -> None:
        """See `Algorithm.validate`."""
        super().validate()
        if self.experience.rollout_length < 3:
            raise UserError(
                f"--rollout-length {self.experience.rollout_length}: a replayed sequence needs at least 3 rows"
            )

    def empty_buffer(self, example: Segment) -> Buffer:
        """A place for older experience."""
        return replay.buffer(example, self.replay_segments)

    @property
    def only_fresh(self) -> bool:
        """See `ActorCritic.only_fresh`: it replays."""
        return False

    def add_replayed(
        self, state: LearnerState, newest: Segment, segment: Segment, last: Last, key: Array
    ) -> tuple[LearnerState, Segment, Last]:
        """Keeps the newest experience, and puts replayed sequences beside it."""
        assert state.buffer is not None
        buffer = replay.add(state.buffer, newest)
        replayed = replay.sample(buffer, jax.random.fold_in(key, 1), self.replay_sequences)
        # A replayed sequence ends with a row that counts for nothing: so does what is shown after it.
        last = jax.tree.map(lambda x: jnp.pad(x, [(0, self.replay_sequences)] + [(0, 0)] * (x.ndim - 1)), last)
        mask = last.view.action_mask.at[self.experience.envs :].set(True)
        last = replace(last, view=replace(last.view, action_mask=mask))
        return replace(state, buffer=buffer), replay.beside(segment, replayed), last

    def critic(self, spec: EnvSpec) -> DecomposedCritic:
        """The network."""
        return DecomposedCritic(num_agents=spec.num_agents, num_actions=spec.num_actions, sizes=self.networks)

    def criticise(
        self, spec: EnvSpec, params: Any, inputs: CriticInput, is_first: Array, carry: Any
    ) -> DecomposedOutput:
        """The critic over rows [L, C, ...]."""
        outputs: Any = self.critic(spec).apply(params, inputs, is_first, carry)
        return DecomposedOutput(*outputs)

    def total(self, found: DecomposedOutput, actions: Array) -> Array:
        """Q_tot of `actions` [L, C, N], once per agent: [L, C, N]."""
        one_hot = jax.nn.one_hot(actions, found.action_values.shape[-1], dtype=found.action_values.dtype)
        return jnp.broadcast_to(found.of(one_hot)[..., None], actions.shape)

    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """Q_tot; the extras hold "action_values" [W, E, N, A], "weights" [W, E, N] and "next_expected" [W, E]."""
        found = self.criticise(spec, params, seen.inputs, seen.is_first, seen.carry)
        total = self.total(found, seen.inputs.actions)
        return CriticEvaluation(
            values=total[:-1],
            next_values=total[1:],
            carries=without_last(found.carries),
            extras={
                "action_values": found.action_values[:-1],
                "weights": found.weights[:-1],
                "next_expected": found.of(seen.inputs.own_slot)[1:],
            },
        )

    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Each agent's advantages and the team's targets, once per agent: [W, E, N]."""
        critic = evaluation.critic
        extras, total = critic.extras, critic.values[..., 0]
        ends = (trajectory.terminated, trajectory.truncated)
        newest = gae(
            *(trajectory.rewards, total, critic.next_values[..., 0], *ends),
            gamma=self.gamma,
            lambda_=self.lambda_,
        )
        replayed = tree_backup(
            *(trajectory.rewards, total, extras["next_expected"], *ends),
            evaluation.log_probs.sum(-1),
            gamma=self.gamma,
            lambda_=self.tree_lambda,
            steps=self.tree_steps,
        )
        is_new = jnp.arange(total.shape[1]) < self.experience.envs
        found = jnp.where(is_new[None], newest.critic_targets, replayed)
        own = counterfactual_advantages(extras["action_values"], evaluation.own_slot, evaluation.actions)
        return Targets(
            advantages=extras["weights"] * own,
            critic_targets=jnp.broadcast_to(found[..., None], own.shape),
        )

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        found = super().idle()
        if not self.clip_values and "clip_range" not in settings_of(self):
            found["clip"] = "--no-clip-values: nothing else is clipped"
        if self.tree_steps == 1:
            found["tree_lambda"] = "--tree-steps 1: there is no second step to weigh"
        return found

    def critic_loss(self, spec: EnvSpec, params: Any, batch: Batch, carry: Any) -> tuple[Array, Metrics]:
        """The squared error of Q_tot, on new and replayed rows alike."""
        found = self.criticise(spec, params, batch.inputs, batch.trajectory.is_first, carry)
        loss = self.squared_error(self.total(found, batch.evaluation.actions), batch)
        return self.value_coefficient * loss, {"value_loss": loss}

    def surrogate(self, log_probs: Array, samples: PolicySamples) -> Array:
        """The plain policy gradient's, log pi A."""
        return log_probs * samples.advantages


@algorithm("dop-clip", source="Wang et al. 2021, arXiv 2007.12322; the clip is this project's")
@settings
class DOPClip(DOP):
    """DOP with the clipped surrogate of PPO."""

    clip_range: losses.ClipRange = "multiplicative"  # type: ignore[misc]
    """What `clip` is a fraction of: multiplicative, of the old ratio, or additive, of 1, as in GePPO."""

    def surrogate(self, log_probs: Array, samples: PolicySamples) -> Array:
        """PPO's."""
        return super(DOP, self).surrogate(log_probs, samples)
