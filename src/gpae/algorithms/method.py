"""What tells one actor-critic algorithm from another: a critic, what it is trained on, and what it says of the actions.

The learner (`actor_critic`) owns everything else: the policy and its loss, experience, minibatches, optimisers. A new
algorithm is a subclass of `Method` and an `AlgorithmSpec` that names it (docs/extending.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from gpae.algorithms import losses
from gpae.envs.base import EnvSpec
from gpae.errors import UserError
from gpae.estimators.traces import LOG_LIMIT
from gpae.networks import CriticInputs
from gpae.training.config import ExperimentConfig
from gpae.types import Targets, Trajectory

Metrics = dict[str, Array]


@struct.dataclass
class Hyper:
    """Hyperparameters that are traced: they may differ between runs of one compiled program. All [] float32."""

    learning_rate: Array
    gamma: Array
    lambda_: Array
    eta: Array
    own_cap: Array
    """Infinite where nothing is capped."""
    beta: Array
    tree_lambda: Array
    clip: Array
    entropy: Array
    value_coefficient: Array
    max_grad_norm: Array
    gradient_steps: Array
    """Gradient steps over which the learning rate falls to 0."""


def hyper_of(config: ExperimentConfig) -> Hyper:
    """The traced hyperparameters of an experiment."""
    fields = {name: jnp.float32(getattr(config, name)) for name in Hyper.__dataclass_fields__}
    return Hyper(**fields | {"own_cap": jnp.float32(config.own_cap or jnp.inf)})


@struct.dataclass
class Networks:
    """One value for the actor and one for the critic: parameters, optimiser states, memories ..."""

    actor: Any
    critic: Any
    """The method's own; any tree."""


@struct.dataclass
class Seen:
    """Experience as it is shown to the critic: W rows and the one after them."""

    inputs: CriticInputs
    """[W + 1, E, ...]."""
    starts: Array
    """[W + 1, E] bool."""
    memory: Any
    """The critic's before the first row, [E, ...]."""
    log_pi: Array
    """The policy at the start of the update, [W + 1, E, N, A]."""
    log_ratios: Array
    """log pi_old - log mu of the actions, [W, E, N]; 0 on invalid rows."""


@struct.dataclass
class Judgement:
    """What the critic says of the experience."""

    values: Array
    """What the critic's targets are regressed on, [W, E, N]."""
    next_values: Array
    """The value of what follows each row, [W, E, N]."""
    memories: Any
    """The critic's memory after each of W rows, [W, E, ...]."""
    extras: Any = None
    """What else the method wants to remember, each array [W, E, ...]."""


@struct.dataclass
class Evaluation:
    """Experience as the parameters at the start of the update see it: pi_old and EQ. W rows."""

    actions: Array
    """[W, E, N]: the actions taken; where a row's action was not executed, one drawn from pi_old."""
    probs: Array
    """pi_old, [W, E, N, A]."""
    log_probs: Array
    """log pi_old of the actions, [W, E, N]."""
    log_ratios: Array
    """log pi_old - log mu of the actions, [W, E, N]; 0 on invalid rows."""
    values: Array
    """[W, E, N]."""
    next_values: Array
    """The value of what follows each row, [W, E, N]."""
    memory: Networks
    """The memory after each row, [W, E, ...]."""
    extras: Any
    """The method's own, `Judgement.extras`."""


@struct.dataclass
class Batch:
    """The samples of an update: sequences of L rows, C of them. One permutation shuffles all of it, along C."""

    observations: Array
    states: Array
    legal_actions: Array
    starts: Array
    actions: Array
    probs: Array
    old_log_probs: Array
    """log pi_old, [L, C, N]."""
    log_mu: Array
    """log mu, [L, C, N]."""
    old_values: Array
    advantages: Array
    critic_targets: Array
    acting: Array
    """Samples that count for the policy, [L, C, N] bool."""
    valued: Array
    """Samples that count for the critic, [L, C, N] bool."""
    actor_weights: Array | None
    """min(eta, rho_old^-i), [L, C, N]; None where the policy's loss has no such weight."""
    extras: Any
    """The method's own, from `Method.samples`, each array [L, C, ...]."""

    @property
    def inputs(self) -> CriticInputs:
        """What the critic is shown."""
        return CriticInputs(states=self.states, observations=self.observations, actions=self.actions, probs=self.probs)


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """A critic and what is made of it. Static: parameters and memories are passed in and out."""

    config: ExperimentConfig
    env: EnvSpec

    off_policy: ClassVar[bool] = True
    """Whether it can learn from a window of old experience."""
    replays: ClassVar[bool] = False
    """Whether its critic also learns from replayed sequences, which the policy's loss leaves out."""

    def __post_init__(self) -> None:
        """Checks that the settings fit together."""
        if self.config.window > 1 and not self.off_policy:
            raise UserError(
                f"--window {self.config.window}: {self.config.algorithm} has no correction for old experience: use 1"
            )

    @property
    @abstractmethod
    def critic(self) -> Any:
        """The network: `apply(params, inputs, starts, memory)`, `init` alike, and `initial_memory(num_envs)`."""

    def init(self, key: Array, inputs: CriticInputs, starts: Array, memory: Any) -> Any:
        """The critic's first parameters; `inputs` [1, E, ...] are an example."""
        return self.critic.init(key, inputs, starts, memory)

    def initial_memory(self, num_envs: int) -> Any:
        """The critic's memory at the start of an episode, each array [E, ...]."""
        return self.critic.initial_memory(num_envs)

    @abstractmethod
    def evaluate(self, params: Any, seen: Seen, key: Array) -> Judgement:
        """The critic at the start of an update. No gradient flows through what it returns."""

    @abstractmethod
    def targets(self, trajectory: Trajectory, evaluation: Evaluation, hyper: Hyper) -> Targets:
        """Advantages of the policy and targets of the critic, [W, E, N]."""

    @abstractmethod
    def loss(self, params: Any, batch: Batch, memory: Any, hyper: Hyper) -> tuple[Array, Metrics]:
        """What the critic makes small, a mean over `batch.valued`, and what was measured, with "value_loss"."""

    def samples(self, trajectory: Trajectory, evaluation: Evaluation) -> Any:
        """What `loss` wants to know besides, for `Batch.extras`: each array [W, E, ...]."""
        return None

    def measure(self, trajectory: Trajectory, evaluation: Evaluation, acting: Array, hyper: Hyper) -> Metrics:
        """Facts about the experience; `acting` [W, E, N] selects the samples that count for the policy."""
        return {}

    def optimiser(self, max_grad_norm: Array) -> optax.GradientTransformation:
        """Directions from the critic's gradients; the step size is applied apart."""
        return adam(self.config, max_grad_norm)

    def squared_error(self, values: Array, batch: Batch, hyper: Hyper) -> Array:
        """Half the mean squared error of `values` [L, C, N] against the targets; dead agents' values count."""
        clip = hyper.clip if self.config.clip_values else None
        return losses.masked_mean(
            losses.value_error(values, batch.old_values, batch.critic_targets, clip), batch.valued
        )


def actor_sizes(config: ExperimentConfig) -> dict[str, Any]:
    """The settings of the network that acts, by the names of `gpae.networks.Actor`."""
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.actor_layers,
        "head_layers": config.head_layers,
        "recurrent": config.recurrent,
        "layer_norm": config.layer_norm,
        "identity": config.actor_identity,
    }


def critic_sizes(config: ExperimentConfig) -> dict[str, Any]:
    """The settings that all critics have in common, by the names of `gpae.networks.Critic`."""
    return {
        "hidden_size": config.hidden_size,
        "embedding_size": config.embedding_size,
        "num_layers": config.critic_layers,
        "head_layers": config.head_layers,
        "recurrent": config.recurrent,
        "layer_norm": config.layer_norm,
        "identity": config.critic_identity,
    }


def adam(config: ExperimentConfig, max_grad_norm: Array) -> optax.GradientTransformation:
    """Adam on clipped gradients; the step size is applied apart, since it may be traced."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=config.adam_epsilon))


def others(log_ratios: Array) -> Array:
    """Logarithm of rho^-i, [..., N]: the sum of the others' log-ratios, within the limits of the estimators."""
    return jnp.clip(log_ratios.sum(-1, keepdims=True) - log_ratios, -LOG_LIMIT, LOG_LIMIT)


def of_taken(per_action: Array, actions: Array) -> Array:
    """The entries [..., N] of `per_action` [..., N, A] for `actions` [..., N]."""
    return jnp.take_along_axis(per_action, actions[..., None], axis=-1)[..., 0]


def without_last(tree: Any) -> Any:
    """All rows but the last."""
    return jax.tree.map(lambda x: x[:-1], tree)
