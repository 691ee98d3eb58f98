"""COMA: advantages that look one step ahead, from GPAE's critic or from one with a value for every own action."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Metrics, algorithm
from gpae.algorithms.batch import Batch, CriticEvaluation, CriticExperience, Evaluation, without_last
from gpae.algorithms.gpae import GPAE
from gpae.envs.protocol import EnvSpec
from gpae.estimators import counterfactual_advantages, gae
from gpae.networks import Critic, CriticInput, UnsharedCritic, of_taken
from gpae.settings import settings
from gpae.types import Targets, Trajectory


@algorithm("coma", source="Foerster et al. 2018, arXiv 1705.08926, in the form of arXiv 2603.02654")
@settings
class COMA(GPAE):
    """One-step advantages of gpae's critic, which is trained on the same targets."""

    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Advantages that look one step ahead, and critic targets that look further, [W, E, N]."""
        near = replace(self, lambda_=0.0 * self.lambda_)
        advantages = super(COMA, near).targets(trajectory, evaluation).advantages
        return replace(super().targets(trajectory, evaluation), advantages=advantages)


@algorithm("coma-q", source="Foerster et al. 2018, arXiv 1705.08926")
@settings
class COMAQ(ActorCritic):
    r"""The counterfactual baseline: a critic of every own action, averaged over the own policy.

        A^i_t = Q^i_t(a^i) - sum_a pi^i(a) Q^i_t(a)
        y^i_t = r_t + gamma [ (1 - lambda) Q^i_{t+1}(a^i_{t+1}) + lambda y^i_{t+1} ]

    Q^i(s, a^-i, .) of all own actions comes in one pass; the agent's own action is no input. The targets are TD(lambda)
    of the actions taken, with the critic as it was at the start of the update in the place of a target network.
    On-policy.

    Source: Foerster et al. 2018 (arXiv 1705.08926).
    """

    def critic(self, spec: EnvSpec) -> Critic | UnsharedCritic:
        """The network."""
        critic = Critic("others_actions", spec.num_agents, self.networks, outputs=spec.num_actions)
        return self.unshared_critic(spec, critic)

    def action_values(
        self, spec: EnvSpec, params: Any, inputs: CriticInput, is_first: Array, carry: Any
    ) -> tuple[Array, Any]:
        """Q^i of every own action, [L, C, N, A], and the carry after each row."""
        outputs: Any = self.critic(spec).apply(params, inputs, is_first, carry)
        return outputs.values, outputs.carries

    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """Values of the actions taken; the extras hold "action_values", [W, E, N, A]."""
        all_actions, carries = self.action_values(spec, params, seen.inputs, seen.is_first, seen.carry)
        taken = of_taken(all_actions, seen.inputs.actions)
        return CriticEvaluation(
            values=taken[:-1],
            next_values=taken[1:],
            carries=without_last(carries),
            extras={"action_values": all_actions[:-1]},
        )

    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Counterfactual advantages and TD(lambda) targets, [W, E, N]."""
        critic = evaluation.critic
        found = gae(
            jnp.broadcast_to(trajectory.rewards[..., None], critic.values.shape),
            critic.values,
            critic.next_values,
            trajectory.terminated,
            trajectory.truncated,
            gamma=self.gamma,
            lambda_=self.lambda_,
        )
        advantages = counterfactual_advantages(critic.extras["action_values"], evaluation.own_slot, evaluation.actions)
        return Targets(advantages=advantages, critic_targets=found.critic_targets)

    def critic_loss(self, spec: EnvSpec, params: Any, batch: Batch, carry: Any) -> tuple[Array, Metrics]:
        """The squared error of the values of the actions taken."""
        all_actions, _ = self.action_values(spec, params, batch.inputs, batch.trajectory.is_first, carry)
        loss = self.squared_error(of_taken(all_actions, batch.evaluation.actions), batch)
        return self.value_coefficient * loss, {"value_loss": loss}
