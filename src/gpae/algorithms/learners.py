"""Which learner an algorithm is a case of, and what the trainer and evaluations need of it."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array

from gpae.algorithms import actor_critic, value_based
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.method import Hyper, Metrics
from gpae.algorithms.registry import AlgorithmSpec, algorithm
from gpae.algorithms.value_based import ValueBased
from gpae.envs.base import Environment, View
from gpae.errors import UserError
from gpae.networks import Actor
from gpae.training.config import ExperimentConfig


class Learner(Protocol):
    """The learner of an experiment, whatever it learns by. Its states have `params`, of actor and critic."""

    @property
    def config(self) -> ExperimentConfig:
        """The settings."""
        ...

    @property
    def env(self) -> Environment:
        """Where it learns."""
        ...

    @property
    def algorithm(self) -> AlgorithmSpec:
        """What it learns by."""
        ...

    @property
    def actor(self) -> Actor:
        """The network that acts."""
        ...

    def init(self, key: Array) -> Any:
        """The state before the first update."""
        ...

    def update(self, state: Any, hyper: Hyper) -> tuple[Any, Metrics]:
        """Collects experience and learns from it: the next state, and what was measured."""
        ...

    def act(self, params: Any, memory: Any, view: View, starts: Array) -> tuple[Any, Array]:
        """One row of the policy: the memory after it and log pi, [E, N, A]."""
        ...


def make_learner(config: ExperimentConfig, env: Environment) -> Learner:
    """The learner for `config` in `env`.

    Raises:
      UserError: unknown algorithm, settings out of range or that do not fit together.
    """
    return ValueBased.build(config, env) if algorithm(config.algorithm).value_based else ActorCritic.build(config, env)


def make_actor(config: ExperimentConfig, num_actions: int) -> Actor:
    """The network that acts, as `config` describes it."""
    module = value_based if algorithm(config.algorithm).value_based else actor_critic
    return module.make_actor(config, num_actions)


def with_advantages(learner: Learner) -> ActorCritic:
    """`learner`, if it estimates advantages.

    Raises:
      UserError: it does not.
    """
    if not isinstance(learner, ActorCritic):
        raise UserError(f"{learner.algorithm.name} learns values of actions: it has no critic and no advantages")
    return learner
