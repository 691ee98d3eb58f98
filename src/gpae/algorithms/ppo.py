"""The policy's half of an actor-critic update: PPO's losses, and epochs of minibatches for actor and critic."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from gpae.accelerator import accelerated
from gpae.algorithms import losses
from gpae.algorithms.base import Algorithm, Budget, Metrics, Optimisation, divides
from gpae.algorithms.batch import Batch, LearnerState, PerNetwork, PolicySamples
from gpae.algorithms.blocks import gradient_of_mean
from gpae.algorithms.optimise import adam, descend, norm, step_size
from gpae.algorithms.packing import gradient_of_living
from gpae.envs.protocol import EnvSpec
from gpae.networks import Actor, CriticSizes, UnsharedActor
from gpae.networks.normalisers import without_statistics
from gpae.settings import TRACED, NotNegative, Positive, Size, above, at_least, settings
from gpae.threefry import split

if TYPE_CHECKING:
    import optax


@settings
class SequenceOptimisation(Optimisation):
    """Optimisation."""

    minibatches: Size = 2
    """Pieces that a pass is cut into, one gradient step each."""
    chunk_length: Annotated[int | None, at_least(1)] = None
    """Rows through which gradients flow back in time; None: through all of an update's rows."""
    critic_epochs: Annotated[int | None, at_least(1)] = None
    """Passes of the critic over the experience of an update; None: as many as the policy's."""

    @property
    def steps(self) -> int:
        """Gradient steps of an update."""
        return self.epochs * self.minibatches


@settings
class PPO(Algorithm):
    """A policy that is optimised by PPO, and a critic beside it."""

    clip: Positive = 0.2
    """How far the probability ratio may move from the one at the start of the update, as a fraction."""
    clip_range: losses.ClipRange = "multiplicative"
    """What `clip` is a fraction of: multiplicative, of the old ratio, or additive, of 1, as in GePPO."""
    clip_values: bool = True
    """Clip the critic's change within an update by `clip`, as PPO's reference implementation does."""
    huber: Annotated[float | None, above(0)] = None
    """Errors of the critic beyond this count linearly and not by their squares (Huber's loss); None: all by squares."""
    entropy: NotNegative = 0.0
    """Weight of the entropy bonus."""
    entropy_end: Annotated[float | None, at_least(0), TRACED] = None
    """What that weight moves to, linearly and counted in gradient steps, until the end; None: it stays."""
    value_coefficient: NotNegative = 0.5
    """Weight of the critic's loss."""
    optimisation: SequenceOptimisation = SequenceOptimisation()
    networks: CriticSizes = CriticSizes()

    # -- settings --------------------------------------------------------------------------------------------------

    @property
    def chunk_rows(self) -> int:
        """L: rows of each sequence that a gradient flows through."""
        return min(self.optimisation.chunk_length or self.experience.rows, self.experience.rows)

    @property
    def sequence_envs(self) -> int:
        """Environments' sequences in an update, replayed ones included."""
        return self.experience.envs

    def validate(self) -> None:
        """See `Algorithm.validate`."""
        super().validate()
        rows = self.experience.rows
        divides("window x rollout_length", rows, "chunk_length", self.chunk_rows)
        sequences = rows // self.chunk_rows * self.sequence_envs
        whole = "the number of sequences (num_envs x rollout_length / chunk_length)"
        divides(whole, sequences, "minibatches", self.optimisation.minibatches)

    def actor(self, spec: EnvSpec) -> Actor | UnsharedActor:
        """The network that acts."""
        return self.unshared_actor(spec, Actor(num_actions=spec.num_actions, sizes=self.networks))

    @property
    def forgets_apart(self) -> bool:
        """Whether agents forget one by one, and not all as an episode begins."""
        return False

    @property
    def counts_nothing(self) -> bool:
        """Whether segments of a window that are not there yet count, as rows of zeros."""
        return False

    # -- the gradient ----------------------------------------------------------------------------------------------

    @abstractmethod
    def critic_loss(self, spec: EnvSpec, params: Any, batch: Batch, carry: Any) -> tuple[Array, Metrics]:
        """What the critic makes small, a mean over `batch.value_mask`, and what was measured, with "value_loss"."""

    def critic_optimiser(self) -> optax.GradientTransformation:
        """Directions from the critic's gradients; the step size is applied apart."""
        return adam(self.optimisation)

    def squared_error(self, values: Array, batch: Batch) -> Array:
        """Half the mean squared error of `values` [L, C, N] against the targets; dead agents' values count."""
        old = batch.evaluation.critic.values if self.clip_values else None
        return losses.masked_mean(self.value_errors(values, batch, old), batch.value_mask)

    def value_errors(self, values: Array, batch: Batch, old: Array | None) -> Array:
        """Half the squared error of each of `values` [L, C, N], clipped near the `old` ones, where they are given."""
        clip, old = (None, values) if old is None else (self.clip, old)
        targets = batch.targets.critic_targets
        if batch.value_scale is not None:
            values, old, targets = (x / batch.value_scale for x in (values, old, targets))
        return losses.value_error(values, old, targets, clip, self.huber)

    def surrogate(self, log_probs: Array, samples: PolicySamples) -> Array:
        """The policy's objective for each sample, [L, C, N], to be made large; `log_probs` are pi_theta's."""
        log_mu, old = samples.behaviour_log_probs, samples.old_log_probs
        return losses.clipped_surrogate(
            log_probs - log_mu, old - log_mu, samples.advantages, self.clip, clip_range=self.clip_range
        )

    def policy_loss(self, spec: EnvSpec, params: Any, samples: PolicySamples, carry: Any) -> tuple[Array, Metrics]:
        """The surrogate and the entropy bonus, means over the samples that count for the policy."""
        actor: Any = self.actor(spec)
        is_first = samples.is_first if self.forgets_apart else samples.is_first[:, :, 0]
        pi, _ = actor.apply(params, samples.observations, samples.action_mask, is_first, carry)
        log_probs, mask = pi.log_prob(samples.actions), samples.mask
        loss = self.mean_loss(log_probs, samples)
        entropy = losses.masked_mean(pi.entropy(), mask)
        change = log_probs - samples.old_log_probs
        metrics = {
            "policy_loss": loss,
            "entropy": entropy,
            "approx_kl": losses.masked_mean(jnp.expm1(change) - change, mask),
            "clip_fraction": losses.masked_mean((jnp.abs(jnp.expm1(change)) > self.clip) * 1.0, mask),
        }
        return loss - self.entropy * entropy, metrics

    def mean_loss(self, log_probs: Array, samples: PolicySamples) -> Array:
        """Minus the mean of the surrogate of samples to which the policy gives `log_probs`, weighed: []."""
        surrogate = self.surrogate(log_probs, samples)
        if samples.weights is not None:
            surrogate = surrogate * samples.weights
        return -losses.masked_mean(surrogate, samples.mask)

    def policy_gradient(
        self, spec: EnvSpec, params: Any, samples: PolicySamples, carry: Any, pick: Array | None
    ) -> tuple[Any, Metrics]:
        """The gradient of `policy_loss` and what it measures, over the sequences that `pick` names; None: over all."""
        loss = partial(self.policy_loss, spec)
        told_apart = isinstance(self.actor(spec), UnsharedActor) or self.networks.actor_identity
        # An accelerator has one block, which all rows fill better than a number of them that is not known in advance.
        # Rows that nobody experienced have an entropy, though nothing can be chosen there.
        if told_apart or not spec.agents_die or accelerated() or self.counts_nothing:
            return gradient_of_mean(loss, params, samples, carry, samples.mask, pick, self.chunk_rows)

        def still(samples: PolicySamples) -> Metrics:
            return {"policy_loss": self.mean_loss(samples.old_log_probs, samples)}

        return gradient_of_living(loss, still, params, samples, carry, pick, self.chunk_rows)

    def after(self, gradient_steps: Array, budget: Budget) -> Self:
        """The learner with its entropy bonus as it is after so many gradient steps."""
        if self.entropy_end is None:
            return self
        done: Any = gradient_steps.astype(jnp.float32) / budget.gradient_steps
        return replace(self, entropy=self.entropy + (self.entropy_end - self.entropy) * done)

    def minibatch_step(
        self,
        spec: EnvSpec,
        state: LearnerState,
        batch: Batch,
        carry: PerNetwork,
        budget: Budget,
        pick: Array | None = None,
        learning: tuple[str, ...] = ("actor", "critic"),
    ) -> tuple[LearnerState, Metrics]:
        """One gradient step of those that are `learning`, on the sequences of `batch` that `pick` names; None: on all.

        Sequences have `chunk_rows` rows each, and the carries are those before them. The steps that the learning rate
        counts are the actor's.
        """
        size = step_size(self.optimisation, state.gradient_steps, budget)
        learner = self.after(state.gradient_steps, budget)
        transforms = PerNetwork(actor=adam(self.optimisation), critic=self.critic_optimiser())
        metrics: Metrics = {"learning_rate": size}
        params, optimiser = {}, {}
        gradients = {}
        if "actor" in learning:
            gradients["actor"] = learner.policy_gradient(spec, state.params.actor, batch.of_policy, carry.actor, pick)
        if "critic" in learning:
            gradients["critic"] = gradient_of_mean(
                partial(self.critic_loss, spec),
                state.params.critic,
                *(batch, carry.critic, batch.value_mask, pick, self.chunk_rows),
            )
        for name, (gradient, measured) in gradients.items():
            params[name], optimiser[name] = descend(
                getattr(transforms, name),
                gradient,
                *(getattr(state.optimiser, name), getattr(state.params, name), size),
            )
            metrics |= measured | {f"{name}_gradient_norm": norm(gradient)}
        state = replace(
            state,
            params=replace(state.params, **params),
            optimiser=replace(state.optimiser, **optimiser),
            gradient_steps=state.gradient_steps + ("actor" in learning),
        )
        return state, metrics

    def optimise(
        self, spec: EnvSpec, state: LearnerState, batch: Batch, carries: PerNetwork, budget: Budget, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """Epochs of minibatches; the metrics are means over the gradient steps.

        Actor and critic step together. Of whom more passes are wanted makes the rest of them alone, after that.
        """
        epochs, minibatches = self.optimisation.epochs, self.optimisation.minibatches
        critic_epochs = self.optimisation.critic_epochs or epochs
        rows, envs, _ = batch.policy_mask.shape
        sequences = rows // self.chunk_rows * envs

        def permutation(key: Array) -> Array:
            return jax.random.permutation(key, sequences).reshape(minibatches, -1)

        def passes(state: LearnerState, key: Array, number: int, **learning: Any) -> tuple[LearnerState, Metrics]:
            picks = jax.vmap(permutation)(split(key, number))

            def step(state: LearnerState, pick: Array) -> tuple[LearnerState, Metrics]:
                # One minibatch is the batch: its order changes nothing.
                used = None if minibatches == 1 else pick
                return self.minibatch_step(spec, state, batch, carries, budget, used, **learning)

            return jax.lax.scan(step, state, picks.reshape(-1, picks.shape[-1]))

        state, metrics = passes(state, key, min(epochs, critic_epochs))
        if epochs != critic_epochs:
            longer = "critic" if critic_epochs > epochs else "actor"
            more = abs(critic_epochs - epochs)
            # The key that comes after those of the passes before.
            key = jax.random.fold_in(key, min(epochs, critic_epochs))
            state, alone = passes(state, key, more, learning=(longer,))
            metrics |= {name: jnp.concatenate([metrics[name], found]) for name, found in alone.items()}
        metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        # A norm is finite only if every parameter is.
        learnt = (without_statistics(state.params.actor), without_statistics(state.params.critic))
        return state, metrics | {"parameter_norm": norm(learnt)}
