"""Difference advantage estimation: MAPPO minus the reward that the agent's own action was expected to bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from gpae.algorithms import losses
from gpae.algorithms.method import Batch, Evaluation, Hyper, Judgement, Metrics, Seen, adam, critic_sizes, of_taken
from gpae.algorithms.per_agent import PerAgent
from gpae.estimators import dae
from gpae.estimators.traces import Scheme
from gpae.networks import Critic, CriticInputs
from gpae.types import Targets, Trajectory

_PARTS = ("value", "rewards")


@dataclass(frozen=True, eq=False)
class DAE(PerAgent):
    r"""MAPPO's critic, and an ensemble of models of the reward for each of the agent's actions.

        rbar^i_t = sum_a pi^i(a) rhat(s_t, a^-i_t, a)

    with rhat the ensemble's mean as it was at the start of the update; `gpae.estimators.dae` makes advantages of it.
    Parameters and memories are {"value": those of MAPPO's critic, "rewards": those of the ensemble}; each half has
    gradient clipping of its own, so that beta = 0 is MAPPO.

    Source: Li, Xie and Lu 2022 (ICML, PMLR 162:13066-13085) and its released code.
    """

    inputs: Literal["joint_action", "state", "observation"] = "state"
    ratios: Literal["own", "joint"] = "joint"
    own_trace: Scheme = "it"

    @property
    def reward_model(self) -> Critic:
        """One network of the ensemble: the reward for every own action, given state and the others' actions."""
        return Critic(
            inputs="others_actions",
            num_agents=self.env.num_agents,
            outputs=self.env.num_actions,
            **critic_sizes(self.config),
        )

    def init(self, key: Array, inputs: CriticInputs, starts: Array, memory: Any) -> Any:
        """First parameters; those of the value are MAPPO's for the same key."""
        keys = jax.random.split(jax.random.fold_in(key, 1), self.config.ensemble)
        one = jax.tree.map(lambda x: x[:, 0], memory["rewards"])
        # Not vmap: see `Experiment.init`.
        models = jax.lax.map(lambda key: self.reward_model.init(key, inputs, starts, one), keys)
        return {"value": super().init(key, inputs, starts, memory["value"]), "rewards": models}

    def initial_memory(self, num_envs: int) -> Any:
        """[E, M, H] of the value, [E, ensemble, N, H] of the reward models."""
        one = self.reward_model.initial_memory(num_envs)
        several = jax.tree.map(lambda x: jnp.stack([x] * self.config.ensemble, axis=1), one)
        return {"value": super().initial_memory(num_envs), "rewards": several}

    def expected(self, params: Any, inputs: CriticInputs, starts: Array, memory: Any) -> tuple[Array, Any]:
        """The reward of every model and own action, [ensemble, L, C, N, A], and the memory after each row."""

        def one(params: Any, memory: Any) -> tuple[Array, Any]:
            outputs: Any = self.reward_model.apply(params, inputs, starts, memory)
            return outputs.values, outputs.memories

        return jax.vmap(one, (0, 1), (0, 2))(params, memory)

    def evaluate(self, params: Any, seen: Seen, key: Array) -> Judgement:
        """Values; the extras hold "rewards", the ensemble's mean for each own action, [W, E, N, A]."""
        value_seen = Seen(**{**vars(seen), "memory": seen.memory["value"]})
        judged = super().evaluate(params["value"], value_seen, key)
        found, memories = self.expected(params["rewards"], seen.inputs, seen.starts, seen.memory["rewards"])
        return Judgement(
            values=judged.values,
            next_values=judged.next_values,
            memories={"value": judged.memories, "rewards": jax.tree.map(lambda x: x[:-1], memories)},
            extras={"rewards": found.mean(0)[:-1]},
        )

    def estimate(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """The estimator, looking ahead by lambda."""
        return dae(
            trajectory.rewards,
            evaluation.values,
            evaluation.next_values,
            trajectory.terminated,
            trajectory.truncated,
            jnp.sum(evaluation.probs * evaluation.extras["rewards"], axis=-1),
            gamma=hyper.gamma,
            lambda_=hyper.lambda_,
            beta=hyper.beta,
            log_ratios=self.correction(evaluation.log_ratios),
            trace=self.trace,
        )

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """What the reward models are to predict, [W, E, N]."""
        return {"rewards": jnp.broadcast_to(trajectory.rewards[..., None], evaluation.values.shape)}

    def loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The critic's squared error, and that of every reward model for the action taken."""
        loss, metrics = super().loss(params["value"], batch, memory["value"], hyper)
        found, _ = self.expected(params["rewards"], batch.inputs, batch.starts, memory["rewards"])
        errors = jax.vmap(lambda x: 0.5 * jnp.square(of_taken(x, batch.actions) - batch.extras["rewards"]))(found)
        each = jax.vmap(lambda x: losses.masked_mean(x, batch.valued))(errors)
        return loss + each.sum(), metrics | {"reward_loss": each.mean()}

    def optimiser(self, max_grad_norm: Array) -> optax.GradientTransformation:
        """One for each half."""
        return optax.partition({part: adam(self.config, max_grad_norm) for part in _PARTS}, {p: p for p in _PARTS})
