"""DOP: decomposed off-policy policy gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
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
    without_last,
)
from gpae.errors import UserError
from gpae.estimators import counterfactual_advantages, gae, tree_backup
from gpae.networks import CriticInputs, DecomposedCritic, DecomposedOutputs
from gpae.types import Targets, Trajectory


@dataclass(frozen=True, eq=False)
class DOP(Method):
    r"""A critic that is a weighted sum over the agents, trained on new and on replayed experience.

        Q_tot(s, a) = sum_i k_i(s) Q_i(s, tau^i, a^i)
        A^i         = k_i ( Q_i(a^i) - sum_a pi^i(a) Q_i(a) )
        y^on        TD(lambda) of the actions taken, on the newest experience
        y^off       the tree backup (`gpae.estimators.tree_backup`) on replayed sequences, with
                    E Q_tot = sum_i k_i sum_a pi^i(a) Q_i(a), which is exact since Q_tot is linear

    The critic's loss is one mean over both, so that replayed experience weighs as its share of the rows
    (`replay_sequences` beside `num_envs`). Targets come from the critic as it was at the start of the update. Replayed
    sequences begin with the memory that was carried when they were collected. The policy learns from the newest
    experience only.

    Source: Wang et al. 2021 (arXiv 2007.12322) and its released code.
    """

    off_policy: ClassVar[bool] = False
    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks that the settings fit together."""
        super().__post_init__()
        config = self.config
        if config.rollout_length < 3:
            raise UserError(f"--rollout-length {config.rollout_length}: a replayed sequence needs at least 3 rows")
        sequences = config.rollout_length // config.chunk_rows * (config.num_envs + config.replay_sequences)
        if sequences % config.minibatches:
            raise UserError(
                f"the number of sequences, (num_envs + replay_sequences) x rollout_length / chunk_length = {sequences},"
                f" is not divisible by minibatches = {config.minibatches}"
            )

    @property
    def critic(self) -> DecomposedCritic:
        """The network."""
        return DecomposedCritic(
            num_agents=self.env.num_agents,
            num_actions=self.env.num_actions,
            **critic_sizes(self.config),
        )

    def criticise(self, params: Any, inputs: CriticInputs, starts: Array, memory: Any) -> DecomposedOutputs:
        """The critic over rows [L, C, ...]."""
        outputs: Any = self.critic.apply(params, inputs, starts, memory)
        return DecomposedOutputs(*outputs)

    def total(self, found: DecomposedOutputs, actions: Array) -> Array:
        """Q_tot of `actions` [L, C, N], once per agent: [L, C, N]."""
        one_hot = jax.nn.one_hot(actions, self.env.num_actions, dtype=found.action_values.dtype)
        return jnp.broadcast_to(found.of(one_hot)[..., None], actions.shape)

    def evaluate(self, params: Any, seen: Seen, key: Array) -> Judgement:
        """Q_tot; the extras hold "action_values" [W, E, N, A], "weights" [W, E, N] and "next_expected" [W, E]."""
        found = self.criticise(params, seen.inputs, seen.starts, seen.memory)
        total = self.total(found, seen.inputs.actions)
        return Judgement(
            values=total[:-1],
            next_values=total[1:],
            memories=without_last(found.memories),
            extras={
                "action_values": found.action_values[:-1],
                "weights": found.weights[:-1],
                "next_expected": found.of(seen.inputs.probs)[1:],
            },
        )

    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Each agent's advantages and the team's targets, once per agent: [W, E, N]."""
        extras, total = evaluation.extras, evaluation.values[..., 0]
        ends = (trajectory.terminated, trajectory.truncated)
        newest = gae(
            *(trajectory.rewards, total, evaluation.next_values[..., 0], *ends),
            gamma=hyper.gamma,
            lambda_=hyper.lambda_,
        )
        replayed = tree_backup(
            *(trajectory.rewards, total, extras["next_expected"], *ends),
            evaluation.log_probs.sum(-1),
            gamma=hyper.gamma,
            lambda_=hyper.tree_lambda,
            steps=self.config.tree_steps,
        )
        is_new = jnp.arange(total.shape[1]) < self.config.num_envs
        found = jnp.where(is_new[None], newest.critic_targets, replayed)
        own = counterfactual_advantages(extras["action_values"], evaluation.probs, evaluation.actions)
        return Targets(
            advantages=extras["weights"] * own,
            critic_targets=jnp.broadcast_to(found[..., None], own.shape),
        )

    def loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The squared error of Q_tot, on new and replayed rows alike."""
        found = self.criticise(params, batch.inputs, batch.starts, memory)
        loss = self.squared_error(self.total(found, batch.actions), batch, hyper)
        return hyper.value_coefficient * loss, {"value_loss": loss}
