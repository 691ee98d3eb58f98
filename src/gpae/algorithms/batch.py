"""What passes between the stages of an actor-critic update."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.algorithms.replay import Buffer, Segment, Window
from gpae.envs.vector import VectorState
from gpae.networks import CriticInput, Distribution
from gpae.types import Targets, Trajectory


@struct.dataclass
class PerNetwork:
    """One value for the actor and one for the critic: parameters, optimiser states, carries ..."""

    actor: Any
    critic: Any
    """Any tree."""


@struct.dataclass
class LearnerState:
    """Everything that training changes."""

    params: PerNetwork
    optimiser: PerNetwork
    vector: VectorState
    """The environments, at the row where the next rollout begins."""
    carry: PerNetwork
    """What the networks remember before that row, [E, ...]."""
    window: Window
    buffer: Buffer | None
    """Older experience for algorithms that replay it."""
    key: Array
    gradient_steps: Array
    """[] int32."""


@struct.dataclass
class CriticExperience:
    """Experience as it is shown to the critic: W rows and the one after them."""

    inputs: CriticInput
    """[W + 1, E, ...]."""
    is_first: Array
    """Whose memory of the critic rows empty: [W + 1, E] bool; or [W + 1, E, N], where agents forget one by one."""
    forgets: Array
    """Whose memory of the actor: as `is_first`, which it is but for a critic of the state alone."""
    carry: Any
    """The critic's before the first row, [E, ...]."""
    policy: Distribution
    """The policy at the start of the update, [W + 1, E, N]."""
    log_ratios: Array
    """log pi_old - log mu of the actions, [W, E, N]; 0 on invalid rows."""


@struct.dataclass
class CriticEvaluation:
    """What the critic says of the experience."""

    values: Array
    """What the critic's targets are regressed on, [W, E, N]."""
    next_values: Array
    """The value of what follows each row, [W, E, N]."""
    carries: Any
    """The critic's carry after each of W rows, [W, E, ...]."""
    expected: Array | None = None
    """V, the mean of `values` over the others' policies, [W, E, N], where it is learnt apart."""
    extras: Any = None
    """What else the algorithm wants to remember, each array [W, E, ...]."""


@struct.dataclass
class Evaluation:
    """Experience as the parameters at the start of the update see it: pi_old and the critic. W rows."""

    actions: Array
    """[W, E, N], or [W, E, N, D]: the actions taken; where a row's action was not executed, one drawn from pi_old."""
    own_slot: Array
    """What a critic of the joint action is shown of pi_old, [W, E, N, A]: its probabilities, or mean."""
    log_probs: Array
    """log pi_old of the actions, [W, E, N]."""
    log_ratios: Array
    """log pi_old - log mu of the actions, [W, E, N]; 0 on invalid rows."""
    critic: CriticEvaluation
    actor_carries: Any
    """The actor's carry after each row, [W, E, ...]."""


@struct.dataclass
class UpdateData:
    """What an update learns from."""

    newest: Trajectory
    """This update's rollout, [T, E, ...]."""
    segment: Segment
    """The whole window, W rows, the rollout at its end; replayed sequences stand after the E environments."""
    evaluation: Evaluation
    targets: Targets


@struct.dataclass
class Batch:
    """Samples: all of an update's, [W, E, ...], or the C sequences of L rows that a loss is shown, [L, C, ...]."""

    trajectory: Trajectory
    evaluation: Evaluation
    targets: Targets
    """Advantages as the policy's loss takes them: normalised, where that is asked for."""
    policy_mask: Array
    """Samples that count for the policy, [L, C, N] bool."""
    value_mask: Array
    """Samples that count for the critic, [L, C, N] bool."""
    actor_weights: Array | None
    """min(eta, rho_old^-i), [L, C, N]; None where the policy's loss has no such weight."""
    extras: Any
    """The algorithm's own, from `ActorCritic.samples`, each array [L, C, ...]."""
    value_scale: Array | None = None
    """What the critic's errors are divided by, [L, C, N]; None: nothing."""

    @property
    def inputs(self) -> CriticInput:
        """What the critic is shown."""
        return critic_input(self.trajectory, self.evaluation)

    @property
    def of_policy(self) -> PolicySamples:
        """What the policy's loss is shown."""
        view, forgets = self.trajectory.view, self.trajectory.forgets
        if self.trajectory.survivors is None:
            forgets = jnp.broadcast_to(forgets[..., None], self.policy_mask.shape)
        return PolicySamples(
            observations=view.observations,
            action_mask=view.action_mask,
            is_first=forgets,
            actions=self.evaluation.actions,
            behaviour_log_probs=self.trajectory.log_probs,
            old_log_probs=self.evaluation.log_probs,
            advantages=self.targets.advantages,
            mask=self.policy_mask,
            weights=self.actor_weights,
        )


@struct.dataclass
class PolicySamples:
    """What the policy's loss is shown of a batch: every array has an axis of agents, so that some can be left out."""

    observations: Array | None
    """[L, C, N, O]; None where no network is evaluated."""
    action_mask: Array
    """[L, C, N, A] bool."""
    is_first: Array
    """The row empties the agent's memory, [L, C, N] bool: see `gpae.types.forgetting`."""
    actions: Array
    """[L, C, N], or [L, C, N, D] where they are continuous."""
    behaviour_log_probs: Array
    """log mu of the actions, [L, C, N]."""
    old_log_probs: Array
    """log pi_old of the actions, [L, C, N]."""
    advantages: Array
    """[L, C, N]."""
    mask: Array
    """Samples that count, [L, C, N] bool."""
    weights: Array | None
    """See `Batch.actor_weights`, [L, C, N]."""

    @property
    def learns(self) -> Array:
        """Samples whose gradient may not be 0, [L, C, N] bool: they count, and there was something to choose."""
        continuous = self.actions.ndim == self.action_mask.ndim
        return self.mask & (self.action_mask.sum(-1) > (0 if continuous else 1))


def critic_input(trajectory: Trajectory, evaluation: Evaluation) -> CriticInput:
    """What the critic is shown of experience."""
    return CriticInput(view=trajectory.view, actions=evaluation.actions, own_slot=evaluation.own_slot)


def without_last(tree: Any) -> Any:
    """All rows but the last."""
    return jax.tree.map(lambda x: x[:-1], tree)
