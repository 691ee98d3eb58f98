"""COMA with its own critic: a value for each of the agent's actions, and the counterfactual baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gpae.algorithms.method import (
    Batch,
    Evaluation,
    Hyper,
    Judgement,
    Method,
    Metrics,
    Seen,
    critic_sizes,
    of_taken,
    without_last,
)
from gpae.estimators import counterfactual_advantages, gae
from gpae.networks import Critic, CriticInputs
from gpae.types import Targets, Trajectory


@dataclass(frozen=True, eq=False)
class ComaQ(Method):
    r"""Q^i(s, a^-i, .) of all own actions in one pass; the agent's own action is no input.

        A^i_t = Q^i_t(a^i) - sum_a pi^i(a) Q^i_t(a)
        y^i_t = r_t + gamma [ (1 - lambda) Q^i_{t+1}(a^i_{t+1}) + lambda y^i_{t+1} ]

    The targets are TD(lambda) of the actions taken, with the critic as it was at the start of the update in the place
    of a target network. On-policy.

    Source: Foerster et al. 2018 (arXiv 1705.08926).
    """

    off_policy: ClassVar[bool] = False

    @property
    def critic(self) -> Critic:
        """The network."""
        return Critic(
            inputs="others_actions",
            num_agents=self.env.num_agents,
            outputs=self.env.num_actions,
            **critic_sizes(self.config),
        )

    def action_values(self, params: Any, inputs: CriticInputs, starts: Array, memory: Any) -> tuple[Array, Any]:
        """Q^i of every own action, [L, C, N, A], and the memory after each row."""
        outputs: Any = self.critic.apply(params, inputs, starts, memory)
        return outputs.values, outputs.memories

    def evaluate(self, params: Any, seen: Seen, key: Array) -> Judgement:
        """Values of the actions taken; the extras hold "action_values", [W, E, N, A]."""
        all_actions, memories = self.action_values(params, seen.inputs, seen.starts, seen.memory)
        taken = of_taken(all_actions, seen.inputs.actions)
        return Judgement(
            values=taken[:-1],
            next_values=taken[1:],
            memories=without_last(memories),
            extras={"action_values": all_actions[:-1]},
        )

    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Counterfactual advantages and TD(lambda) targets, [W, E, N]."""
        found = gae(
            jnp.broadcast_to(trajectory.rewards[..., None], evaluation.values.shape),
            evaluation.values,
            evaluation.next_values,
            trajectory.terminated,
            trajectory.truncated,
            gamma=hyper.gamma,
            lambda_=hyper.lambda_,
        )
        advantages = counterfactual_advantages(evaluation.extras["action_values"], evaluation.probs, evaluation.actions)
        return Targets(advantages=advantages, critic_targets=found.critic_targets)

    def loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The squared error of the values of the actions taken."""
        all_actions, _ = self.action_values(params, batch.inputs, batch.starts, memory)
        loss = self.squared_error(of_taken(all_actions, batch.actions), batch, hyper)
        return hyper.value_coefficient * loss, {"value_loss": loss}
