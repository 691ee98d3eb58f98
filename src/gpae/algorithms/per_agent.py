"""One value per agent: GPAE, its controls, COMA in one-step form, MAPPO and IPPO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import losses, replay
from gpae.algorithms.method import (
    Batch,
    Evaluation,
    Hyper,
    Judgement,
    Method,
    Metrics,
    Seen,
    critic_sizes,
    others,
    without_last,
)
from gpae.errors import UserError
from gpae.estimators import gpae, importance_traces
from gpae.estimators.traces import Scheme
from gpae.networks import Critic, CriticInputs, CriticOutputs
from gpae.networks import distributions as policies
from gpae.types import Targets, Trajectory


@dataclass(frozen=True, eq=False)
class PerAgent(Method):
    """A critic with one value per agent, and `gpae.estimators.gpae` on it.

    On-policy, or with the trace it and the team's joint ratio, that estimator is GAE or V-trace: what makes MAPPO of it
    is what the critic is shown.
    """

    inputs: Literal["joint_action", "state", "observation"] = "joint_action"
    """What the critic is shown (`gpae.networks.critics`)."""
    ratios: Literal["own", "joint"] = "own"
    """Ratios of the correction for old experience: each agent's own and the others' apart, or the team's product."""
    own_trace: Scheme = "dt"
    """The trace scheme unless another is asked for (`gpae.estimators.importance_traces`)."""
    look_ahead: Literal["multi_step", "one_step"] = "multi_step"
    """How far the policy's advantages look ahead: by lambda, as the critic's targets do, or one step."""

    def __post_init__(self) -> None:
        """Checks that the settings fit together."""
        super().__post_init__()
        name = self.config.algorithm
        if self.ratios == "joint" and self.trace not in ("none", "it"):
            raise UserError(
                f"--trace {self.trace} tells an agent's own ratio from the others', but {name} corrects with the team's"
                " joint ratio: use none or it"
            )
        if self.config.bootstrap != "sampled" and self.inputs != "joint_action":
            raise UserError(
                f"--bootstrap {self.config.bootstrap} is for critics of the joint action; what {name}'s critic says of"
                " the next step does not depend on the others' actions: use sampled"
            )

    @property
    def trace(self) -> Scheme:
        """The trace scheme in use."""
        return self.own_trace if self.config.trace == "default" else self.config.trace

    @property
    def critic(self) -> Critic:
        """The network."""
        return Critic(
            inputs=self.inputs,
            num_agents=self.env.num_agents,
            **critic_sizes(self.config),
            expected=self.config.bootstrap == "expected",
        )

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

    def evaluate(self, params: Any, seen: Seen, key: Array) -> Judgement:
        """Values of all rows and of what follows them, as `bootstrap` says.

        The expected value's extras hold "expected_error": unbiased samples of (V - E EQ^i)^2, [W, E, N], which may be
        negative one by one.
        """
        found = self.criticise(params, seen.inputs, seen.starts, seen.memory)

        def redraw(number: int) -> Array:
            """EQ^i of every row with the others' actions drawn afresh from pi_old, [W + 1, E, N]."""
            fresh = policies.sample(jax.random.fold_in(key, number), seen.log_pi)
            before = replay.memories_before(seen.memory, found.memories)
            return self.branch(params, replace(seen.inputs, actions=fresh), seen.starts, before)

        following, extras = found.values, None
        if found.expected is not None:
            following = found.expected
            extras = {"expected_error": ((following - redraw(1)) * (following - redraw(2)))[:-1]}
        if self.config.bootstrap == "weighted":
            # The action after the last row was drawn from pi_old itself: ratio 1.
            weights = jnp.concatenate([others(seen.log_ratios), jnp.zeros_like(seen.log_ratios[:1])])
            following = jnp.exp(weights) * found.values
        elif self.config.bootstrap == "resampled":
            following = redraw(1)
        return Judgement(
            values=found.values[:-1],
            next_values=following[1:],
            memories=without_last(found.memories),
            extras=extras,
        )

    def correction(self, log_ratios: Array) -> Array:
        """The log-ratios that the estimator corrects with, [W, E, N]: as they are, or the team's joint one for each."""
        if self.ratios == "own":
            return log_ratios
        return jnp.broadcast_to(log_ratios.sum(-1, keepdims=True), log_ratios.shape)

    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Advantages and critic targets, [W, E, N]."""
        targets = self.estimate(trajectory, evaluation, hyper)
        if self.look_ahead == "multi_step":
            return targets
        hyper = replace(hyper, lambda_=jnp.zeros_like(hyper.lambda_))
        return replace(targets, advantages=self.estimate(trajectory, evaluation, hyper).advantages)

    def estimate(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """The estimator, looking ahead by lambda."""
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

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """For the loss of the expected value: rho^-i over its mean, [W, E, N]."""
        if self.config.bootstrap != "expected":
            return None
        weights = others(evaluation.log_ratios)
        valued = jnp.broadcast_to(trajectory.valid[..., None], weights.shape)
        total = jax.nn.logsumexp(weights, where=valued) - jnp.log(jnp.maximum(jnp.sum(valued), 1))
        return {"expected_weights": jnp.exp(weights - total)}

    def loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """The critic's squared error.

        An expected value learns from the same targets, weighted by rho^-i: without it their mean would be over mu^-i.
        """
        found = self.criticise(params, batch.inputs, batch.starts, memory)
        loss = self.squared_error(found.values, batch, hyper)
        metrics = {"value_loss": loss}
        if found.expected is not None:
            error = losses.value_error(found.expected, found.expected, batch.critic_targets, None)
            metrics["expected_loss"] = losses.masked_mean(batch.extras["expected_weights"] * error, batch.valued)
            loss = loss + metrics["expected_loss"]
        return hyper.value_coefficient * loss, metrics

    def measure(self, trajectory: Trajectory, evaluation: Evaluation, acting: Array, hyper: Hyper) -> Metrics:
        """How far old experience has drifted and what the traces make of it; the error of the expected value."""
        metrics: Metrics = {}
        if self.config.window > 1:
            metrics |= self._measure_correction(acting, evaluation.log_ratios, hyper)
        if self.config.bootstrap == "expected":
            valued = jnp.broadcast_to(trajectory.valid[..., None], acting.shape)
            error = losses.masked_mean(evaluation.extras["expected_error"], valued)
            metrics["expected_rms_error"] = jnp.sqrt(jnp.maximum(error, 0.0))
        return metrics

    def _measure_correction(self, acting: Array, log_ratios: Array, hyper: Hyper) -> Metrics:
        traces = importance_traces(
            self.correction(log_ratios),
            scheme=self.trace,
            lambda_=hyper.lambda_,
            eta=hyper.eta,
            own_cap=hyper.own_cap,
        )
        log_eta, mates = jnp.log(hyper.eta), others(log_ratios)
        # What the cap at 1 is applied to; "none" and "others" have none.
        uncut = {
            "none": jnp.zeros_like(log_ratios),
            "st": log_ratios + mates,
            "it": self.correction(log_ratios),
            "dt": log_ratios + jnp.minimum(mates, log_eta),
            "others": jnp.zeros_like(log_ratios),
        }[self.trace]

        def effective(log_weights: Array) -> Array:
            one = jax.nn.logsumexp(log_weights, where=acting)
            two = jax.nn.logsumexp(2.0 * log_weights, where=acting)
            return jnp.exp(2.0 * one - two) / jnp.maximum(jnp.sum(acting), 1).astype(log_weights.dtype)

        return {
            "ess_own": effective(log_ratios),
            "ess_others": effective(mates),
            "trace_mean": losses.masked_mean(traces, acting),
            "cut_at_eta": losses.masked_mean((mates > log_eta) * 1.0, acting),
            "cut_at_one": losses.masked_mean((uncut > 0.0) * 1.0, acting),
        }
