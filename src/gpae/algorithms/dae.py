"""Difference advantage estimation: MAPPO minus the reward that the agent's own action was expected to bring."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses
from gpae.algorithms.base import Metrics, algorithm
from gpae.algorithms.batch import Batch, CriticEvaluation, CriticExperience, Evaluation
from gpae.algorithms.losses import LOG_RATIO_LIMIT
from gpae.algorithms.mappo import MAPPO
from gpae.algorithms.optimise import adam
from gpae.envs.protocol import EnvSpec
from gpae.estimators import dae
from gpae.networks import Critic, CriticInput, UnsharedCritic, of_taken
from gpae.settings import TracedUnit, between, settings
from gpae.types import Targets, Trajectory

if TYPE_CHECKING:
    import optax

_PARTS = ("value", "rewards")


@algorithm("dae", source="Li, Xie and Lu 2022, Difference Advantage Estimation, ICML")
@settings
class DAE(MAPPO):
    r"""MAPPO minus what the agent's own action was expected to bring, by learnt reward models.

        rbar^i_t = sum_a pi^i(a) rhat(s_t, a^-i_t, a)

    with rhat an ensemble's mean as it was at the start of the update; `gpae.estimators.dae` makes advantages of it.
    Parameters and carries are {"value": those of MAPPO's critic, "rewards": those of the ensemble}; each half has
    gradient clipping of its own, so that beta = 0 is MAPPO.

    Over continuous actions there is no sum: the models are shown the mean in the own slot, as gpae's critic is, and
    learn rbar^i itself, from rewards weighted by the own ratio.

    Source: Li, Xie and Lu 2022 (ICML, PMLR 162:13066-13085) and its released code.
    """

    beta: TracedUnit = 0.3
    """How much of the expected rewards the advantages subtract, per step of delay; 0 is mappo."""
    ensemble: Annotated[int, between(1, 1000)] = 2
    """Reward models, of which the mean is used."""

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        found = super().idle()
        if self.beta == 0:
            found["ensemble"] = "--beta 0: nothing is made of what the reward models say"
        return found

    def reward_model(self, spec: EnvSpec) -> Critic | UnsharedCritic:
        """One network of the ensemble: the reward for every own action, given state and the others' actions.

        Of continuous actions it is the mean over the own policy.
        """
        sizes = replace(self.networks, normalise_values=False)
        if spec.continuous:
            model = Critic("joint_action", spec.num_agents, sizes, box=self.real_actions(spec))
        else:
            model = Critic("others_actions", spec.num_agents, sizes, outputs=spec.num_actions)
        return self.unshared_critic(spec, model)

    def init_critic(self, spec: EnvSpec, key: Array, inputs: CriticInput, is_first: Array, carry: Any) -> Any:
        """First parameters; those of the value are MAPPO's for the same key."""
        key_of_models = jax.random.fold_in(key, 1)
        keys = jax.random.split(key_of_models, self.ensemble)
        one = jax.tree.map(lambda x: x[:, 0], carry["rewards"])
        # Not vmap: see `Experiment.init`.
        models = jax.lax.map(lambda key: self.reward_model(spec).init(key, inputs, is_first, one), keys)
        value = super().init_critic(spec, key, inputs, is_first, carry["value"])
        return {"value": value, "rewards": self.drawn(models, key_of_models)}

    def initial_critic_carry(self, spec: EnvSpec, num_envs: int) -> Any:
        """[E, M, H] of the value, [E, ensemble, N, H] of the reward models."""
        one = self.reward_model(spec).initial_carry(num_envs)
        several = jax.tree.map(lambda x: jnp.stack([x] * self.ensemble, axis=1), one)
        return {"value": super().initial_critic_carry(spec, num_envs), "rewards": several}

    def models_forget(self, spec: EnvSpec, rows: CriticExperience | Trajectory) -> Array:
        """Whose memory rows empty: reward models have one for each agent, also where V has one of the state."""
        return rows.forgets if isinstance(self.reward_model(spec), Critic) else rows.is_first

    def predicted(
        self, spec: EnvSpec, params: Any, inputs: CriticInput, is_first: Array, carry: Any
    ) -> tuple[Array, Any]:
        """The reward by every model for every own action, [ensemble, L, C, N, A], and the carry after each row.

        Of continuous actions it is the mean over the own policy, [ensemble, L, C, N].
        """

        def one(params: Any, carry: Any) -> tuple[Array, Any]:
            outputs: Any = self.reward_model(spec).apply(params, inputs, is_first, carry)
            return outputs.values, outputs.carries

        return jax.vmap(one, (0, 1), (0, 2))(params, carry)

    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """Values; the extras hold "rewards", the ensemble's mean for each own action, [W, E, N, A], or [W, E, N]."""
        found = super().evaluate_critic(spec, params["value"], replace(seen, carry=seen.carry["value"]), key)
        forgets = self.models_forget(spec, seen)
        rewards, carries = self.predicted(spec, params["rewards"], seen.inputs, forgets, seen.carry["rewards"])
        return CriticEvaluation(
            values=found.values,
            next_values=found.next_values,
            carries={"value": found.carries, "rewards": jax.tree.map(lambda x: x[:-1], carries)},
            extras={"rewards": rewards.mean(0)[:-1]},
        )

    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Difference advantages, and critic targets, [W, E, N]."""
        expected = evaluation.critic.extras["rewards"]
        if expected.ndim > evaluation.log_probs.ndim:  # one for each own action
            expected = jnp.sum(evaluation.own_slot * expected, axis=-1)
        return dae(
            trajectory.rewards,
            evaluation.critic.values,
            evaluation.critic.next_values,
            trajectory.terminated,
            trajectory.truncated,
            expected,
            gamma=self.gamma,
            lambda_=self.lambda_,
            beta=self.beta,
            log_ratios=self.correction(evaluation.log_ratios),
            trace=self.trace,
            own_weight=self.own_weight,
            own_cap=self._own_cap,
        )

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """What the reward models are to predict, [W, E, N]; of continuous actions the samples' weights too."""
        found = {"rewards": jnp.broadcast_to(trajectory.rewards[..., None], evaluation.critic.values.shape)}
        if evaluation.actions.ndim > evaluation.log_probs.ndim:
            found["reward_weights"] = jnp.exp(jnp.clip(evaluation.log_ratios, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
        return found

    def critic_loss(self, spec: EnvSpec, params: Any, batch: Batch, carry: Any) -> tuple[Array, Metrics]:
        """The critic's squared error, and that of every reward model for the action taken."""
        loss, metrics = super().critic_loss(spec, params["value"], batch, carry["value"])
        forgets = self.models_forget(spec, batch.trajectory)
        found, _ = self.predicted(spec, params["rewards"], batch.inputs, forgets, carry["rewards"])
        actions, rewards = batch.evaluation.actions, batch.extras["rewards"]
        if actions.ndim == rewards.ndim:
            errors = jax.vmap(lambda x: 0.5 * jnp.square(of_taken(x, actions) - rewards))(found)
        else:
            weights = batch.extras["reward_weights"]
            errors = jax.vmap(lambda x: 0.5 * weights * jnp.square(x - rewards))(found)
        each = jax.vmap(lambda x: losses.masked_mean(x, batch.value_mask))(errors)
        return loss + each.sum(), metrics | {"reward_loss": each.mean()}

    def critic_optimiser(self) -> optax.GradientTransformation:
        """One for each half."""
        import optax

        return optax.partition({part: adam(self.optimisation) for part in _PARTS}, {p: p for p in _PARTS})
