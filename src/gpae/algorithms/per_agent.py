"""Critics with one value per agent, and GPAE's estimator on them: what GPAE, MAPPO, IPPO and COMA have in common."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses, replay
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Experience, Metrics
from gpae.algorithms.batch import Batch, CriticEvaluation, CriticExperience, Evaluation, without_last
from gpae.algorithms.groups import log_total_exp, total
from gpae.envs.protocol import Box, EnvSpec
from gpae.errors import UserError
from gpae.estimators import Bootstrap, OwnWeight, Trace, gpae, importance_traces
from gpae.estimators.traces import LOG_LIMIT
from gpae.networks import (
    Actor,
    ContinuousActor,
    ContinuousPolicy,
    Critic,
    CriticInput,
    CriticOutput,
    RealActions,
    Shown,
    UnsharedActor,
    UnsharedCritic,
)
from gpae.settings import TRACED, Size, at_least, flag, settings, values_of
from gpae.types import Targets, Trajectory

Cap = Annotated[float, at_least(1), TRACED]
OptionalCap = Annotated[float | None, at_least(1), TRACED]


@settings
class WindowedExperience(Experience):
    """Experience."""

    window: Size = 1
    """Segments of experience in an update, newest included: 1 is on-policy, B > 1 reuses the last B."""
    window_memory: Literal["oldest", "newest"] = "oldest"
    """What a window's networks remember at its first row: what they did before its oldest segment, or, as in the
    released code, before its newest one."""
    window_start: Literal["empty", "zeros"] = "empty"
    """What stands for segments that are not there yet: nothing; or, as in the released code, zeros that count."""

    @property
    def segments(self) -> int:
        """B: rollouts that an update learns from, the newest included."""
        return self.window


@settings
class PerAgent(ActorCritic):
    """A value per agent, and `gpae.estimators.gpae` on it.

    On-policy, or with the trace it and the team's joint ratio, that estimator is GAE or V-trace: what makes MAPPO of it
    is what the critic is shown.
    """

    trace: Trace = "it"
    """Correction of the traces for old experience."""
    eta: Cap = 1.05
    """Cap on the product of the other agents' ratios, for traces dt and others and for the actor's weight."""
    own_weight: OwnWeight = "truncated"
    """Weight of the agent's own action in the critic's target: its ratio truncated at 1, or exact."""
    own_cap: OptionalCap = None
    """Cap on the agent's own ratio in trace others and own weight exact; None: no cap, which is unbiased."""
    actor_weight: Literal["own", "own-others"] = "own"
    """Weight of a sample in the policy's loss: the agent's own ratio, or own-others, times min(eta, the others')."""
    forget: Literal["all", "fallen"] = "all"
    """Who forgets: all as an episode begins; or, as in the released code, those alone that have fallen, so that
    survivors remember the last episode. A critic of the state alone has one memory, and forgets."""
    experience: WindowedExperience = WindowedExperience()
    continuous: ContinuousPolicy = ContinuousPolicy()

    takes_continuous: ClassVar[bool] = True
    shown: ClassVar[Shown]
    """What the critic is shown (`gpae.networks.critic`)."""
    joint_ratio: ClassVar[bool] = False
    """Whether the correction uses the team's joint ratio, and not each agent's own and the others' apart."""

    @property
    def following(self) -> Bootstrap:
        """What follows a step; what a critic without the others' actions says of it does not depend on them."""
        return "sampled"

    @property
    def forgets_apart(self) -> bool:
        """See `PPO.forgets_apart`."""
        return self.forget == "fallen"

    @property
    def counts_nothing(self) -> bool:
        """See `PPO.counts_nothing`."""
        return self.experience.window_start == "zeros"

    @property
    def begins_with_newest(self) -> bool:
        """See `ActorCritic.begins_with_newest`."""
        return self.experience.window_memory == "newest"

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        found = super().idle()
        if not self.networks.recurrent:
            why = "the networks remember nothing (--no-recurrent)"
            found |= dict.fromkeys(("forget", "window_memory"), why)
        if self.experience.window == 1:
            why = "experience is on-policy (--window 1): the newest segment is the oldest"
            found |= dict.fromkeys(("window_memory", "window_start"), why)
        if self.on_policy:
            why = "experience is on-policy (--window 1): all ratios are 1"
            return found | dict.fromkeys(("trace", "eta", "own_weight", "own_cap", "actor_weight"), why)
        if self.trace not in ("dt", "others") and self.actor_weight == "own":
            found["eta"] = f"neither --trace {self.trace} nor --actor-weight own uses it"
        if self.trace != "others" and self.own_weight == "truncated":
            found["own_cap"] = f"neither --trace {self.trace} nor --own-weight truncated uses it"
        return found

    def fits(self, spec: EnvSpec) -> None:
        """See `Algorithm.fits`; what only continuous actions have is refused where there are none."""
        super().fits(spec)
        if self.forgets_apart and self.networks.share_parameters != "true":
            raise UserError(f"--forget {self.forget}: only networks that agents share forget agent by agent")
        if self.takes_continuous and not spec.continuous:
            usual = values_of(type(self.continuous)())
            for name, value in values_of(self.continuous).items():
                if value != usual[name]:
                    raise UserError(f"{flag(name)} {value}: only continuous actions have it, and {spec.name} has none")

    def actor(self, spec: EnvSpec) -> Actor | UnsharedActor:
        """The network that acts."""
        if not isinstance(spec.actions, Box):
            return super().actor(spec)
        box = spec.actions
        actor = ContinuousActor(
            num_actions=box.size, sizes=self.networks, low=box.low, high=box.high, policy=self.continuous
        )
        return self.unshared_actor(spec, actor)

    # -- the critic ------------------------------------------------------------------------------------------------

    def critic(self, spec: EnvSpec) -> Critic | UnsharedCritic:
        """The network."""
        critic = Critic(
            shown=self.shown,
            num_agents=spec.num_agents,
            sizes=self.networks,
            expected=self.following == "expected",
            box=self.real_actions(spec),
        )
        return self.unshared_critic(spec, critic)

    def critic_forgets(self, spec: EnvSpec, is_first: Array, forgets: Array) -> Array:
        """See `ActorCritic.critic_forgets`."""
        critic = self.critic(spec)
        return forgets if isinstance(critic, Critic) and critic.rows > 1 else is_first

    def real_actions(self, spec: EnvSpec) -> RealActions:
        """How continuous actions, where there are any, are shown to critics."""
        actions = spec.actions
        if not isinstance(actions, Box):
            return RealActions()
        return RealActions(actions.low, actions.high, self.continuous.normalise_actions)

    def criticise(self, spec: EnvSpec, params: Any, inputs: CriticInput, is_first: Array, carry: Any) -> CriticOutput:
        """The critic over rows [L, C, ...]."""
        outputs: Any = self.critic(spec).apply(params, inputs, is_first, carry)
        return CriticOutput(*outputs)

    def branch(self, spec: EnvSpec, params: Any, inputs: CriticInput, is_first: Array, carries: Any) -> Array:
        """The critic's values where every row is one step branched off its own carry; no unroll.

        Args:
          spec: of the environment.
          params: the critic's.
          inputs: what is seen, [W, E, ...].
          is_first: [W, E] bool; or [W, E, N], where agents forget one by one.
          carries: the carry before each row, [W, E, M, H].

        Returns:
          [W, E, N].
        """

        def together(x: Array) -> Array:
            return x.reshape(1, -1, *x.shape[2:])

        before = jax.tree.map(lambda x: together(x)[0], carries)
        values = self.criticise(spec, params, jax.tree.map(together, inputs), together(is_first), before).values
        return values.reshape(*is_first.shape[:2], -1)

    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """Values of all rows and of what follows them, as `bootstrap` says.

        The expected value's extras hold "expected_error": unbiased samples of (V - E EQ^i)^2, [W, E, N], which may be
        negative one by one.
        """
        found = self.criticise(spec, params, seen.inputs, seen.is_first, seen.carry)

        def redraw(number: int) -> Array:
            """EQ^i of every row with the others' actions drawn afresh from pi_old, [W + 1, E, N]."""
            fresh = seen.policy.sample(jax.random.fold_in(key, number))
            before = replay.carries_before(seen.carry, found.carries)
            return self.branch(spec, params, replace(seen.inputs, actions=fresh), seen.is_first, before)

        following, extras = found.values, None
        if found.expected is not None:
            following = found.expected
            extras = {"expected_error": ((following - redraw(1)) * (following - redraw(2)))[:-1]}
        if self.following == "weighted":
            # The action after the last row was drawn from pi_old itself: ratio 1.
            weights = jnp.concatenate([others(seen.log_ratios), jnp.zeros_like(seen.log_ratios[:1])])
            following = jnp.exp(weights) * found.values
        elif self.following == "resampled":
            following = redraw(1)
        return CriticEvaluation(
            values=found.values[:-1],
            next_values=following[1:],
            carries=without_last(found.carries),
            expected=without_last(found.expected),
            extras=extras,
        )

    # -- targets ---------------------------------------------------------------------------------------------------

    def correction(self, log_ratios: Array) -> Array:
        """The log-ratios that the estimator corrects with, [W, E, N]: as they are, or the team's joint one for each."""
        if not self.joint_ratio:
            return log_ratios
        return jnp.broadcast_to(log_ratios.sum(-1, keepdims=True), log_ratios.shape)

    @property
    def _own_cap(self) -> Any:
        return inf if self.own_cap is None else self.own_cap

    def targets(self, trajectory: Trajectory, evaluation: Evaluation) -> Targets:
        """Advantages and critic targets, [W, E, N]."""
        return gpae(
            self.rewards(trajectory),
            evaluation.critic.values,
            evaluation.critic.next_values,
            trajectory.terminated,
            trajectory.truncated,
            self.correction(evaluation.log_ratios),
            gamma=self.gamma,
            lambda_=self.lambda_,
            trace=self.trace,
            eta=self.eta,
            own_weight=self.own_weight,
            own_cap=self._own_cap,
        )

    def actor_weights(self, evaluation: Evaluation) -> Array | None:
        """Weights of the samples in the policy's loss, [W, E, N]; None: all alike."""
        if self.actor_weight == "own":
            return None
        return jnp.exp(jnp.minimum(others(evaluation.log_ratios), jnp.log(self.eta)))

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """For the loss of the expected value: rho^-i over its mean, [W, E, N]."""
        if self.following != "expected":
            return None
        weights = others(evaluation.log_ratios)
        valued = jnp.broadcast_to(trajectory.valid[..., None], weights.shape)
        mean = log_total_exp(weights, valued) - jnp.log(jnp.maximum(total(valued), 1))
        # Of an update without a row that counts the mean is 0.
        return {"expected_weights": jnp.where(valued, jnp.exp(weights - mean), 0.0)}

    def critic_loss(self, spec: EnvSpec, params: Any, batch: Batch, carry: Any) -> tuple[Array, Metrics]:
        """The critic's squared error.

        An expected value learns from the same targets, weighted by rho^-i: without it their mean would be over mu^-i.
        """
        rows = batch.trajectory
        found = self.criticise(
            spec, params, batch.inputs, self.critic_forgets(spec, rows.is_first, rows.forgets), carry
        )
        loss = self.squared_error(found.values, batch)
        metrics = {"value_loss": loss}
        if found.expected is not None:
            # Clipped as EQ^i is: where only one of the two is held back, their difference grows from update to update.
            old = batch.evaluation.critic.expected if self.clip_values else None
            error = self.value_errors(found.expected, batch, old)
            metrics["expected_loss"] = losses.masked_mean(batch.extras["expected_weights"] * error, batch.value_mask)
            loss = loss + metrics["expected_loss"]
        return self.value_coefficient * loss, metrics

    # -- what is measured ------------------------------------------------------------------------------------------

    def measure(self, trajectory: Trajectory, evaluation: Evaluation, policy_mask: Array) -> Metrics:
        """How far old experience has drifted and what the traces make of it; the error of the expected value."""
        metrics: Metrics = {}
        if self.experience.window > 1:
            metrics |= self._measure_correction(policy_mask, evaluation.log_ratios)
        if self.following == "expected":
            valued = jnp.broadcast_to(trajectory.valid[..., None], policy_mask.shape)
            error = losses.masked_mean(evaluation.critic.extras["expected_error"], valued)
            metrics["expected_rms_error"] = jnp.sqrt(jnp.maximum(error, 0.0))
        return metrics

    def _measure_correction(self, mask: Array, log_ratios: Array) -> Metrics:
        traces = importance_traces(
            self.correction(log_ratios),
            trace=self.trace,
            lambda_=self.lambda_,
            eta=self.eta,
            own_cap=self._own_cap,
        )
        log_eta, mates = jnp.log(self.eta), others(log_ratios)
        # What the cap at 1 is applied to; "none" and "others" have none.
        uncut = {
            "none": jnp.zeros_like(log_ratios),
            "st": log_ratios + mates,
            "it": self.correction(log_ratios),
            "dt": log_ratios + jnp.minimum(mates, log_eta),
            "others": jnp.zeros_like(log_ratios),
        }[self.trace]

        def effective(log_weights: Array) -> Array:
            one = log_total_exp(log_weights, mask)
            two = log_total_exp(2.0 * log_weights, mask)
            return jnp.exp(2.0 * one - two) / jnp.maximum(total(mask), 1).astype(log_weights.dtype)

        return {
            "ess_own": effective(log_ratios),
            "ess_others": effective(mates),
            "trace_mean": losses.masked_mean(traces, mask),
            "cut_at_eta": losses.masked_mean((mates > log_eta + _NOTHING).astype(mates.dtype), mask),
            "cut_at_one": losses.masked_mean((uncut > _NOTHING).astype(uncut.dtype), mask),
        }


_NOTHING = 0.01
"""Ratios that differ by less are not said to be cut: of fresh experience they differ by rounding, on a GPU by .001."""


def others(log_ratios: Array) -> Array:
    """Logarithm of rho^-i, [..., N]: the sum of the others' log-ratios, within the limits of the estimators."""
    return jnp.clip(log_ratios.sum(-1, keepdims=True) - log_ratios, -LOG_LIMIT, LOG_LIMIT)
