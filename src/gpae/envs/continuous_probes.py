"""Probe environments with continuous actions, in the spirit of `gpae.envs.probes`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from gpae.envs.probes import Probe, ProbeState, at_least_two
from gpae.envs.protocol import Box, EnvSpec
from gpae.types import View


@dataclass(frozen=True)
class Aim(Probe):
    r"""A one-step game of real numbers with known credit; the last of three agents is lazy: its action does not matter.

    Every agent names a number, and with its mates' help comes near its target t^i, which is +-1/2 by the parity of cue
    plus i. With N - 1 agents that count, b^i = a^i - t^i and B = sum_i b^i over them,

        r = -(sum_i (b^i)^2 + B^2) / (N - 1)

    so that with m^i and s^i the mean and the standard deviation of agent i's action, n^i = m^i - t^i,

        EQ^i = -(sum_{j != i} (b^j)^2 + (n^i)^2 + (B - b^i + n^i)^2 + 2 (s^i)^2) / (N - 1)      A^i = r - EQ^i

    for i < N - 1, and EQ = r, A = 0 for the lazy agent: what an agent's action was worth depends on the others'. The
    best value is 0, all on target; within `tolerance` each is a win. If it fails: log-densities, what the critic is
    shown of actions, or credit.
    """

    num_agents: int = 3
    low: float = -1.0
    high: float = 1.0
    tolerance: float = 0.1
    name: ClassVar[str] = "probe/aim"
    has_wins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_two(self)

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes; an action is one number."""
        return replace(super().spec, actions=Box(1, self.low, self.high))

    def observe(self, state: ProbeState) -> View:
        """Everything, for every agent."""
        return replace(super().observe(state), action_mask=jnp.ones((self.num_agents, 1), bool))

    def targets(self, state: ProbeState) -> Array:
        """The targets t of every agent but the lazy one, [N - 1]."""
        odd = (state.cue + jnp.arange(self.num_agents - 1, dtype=jnp.int32)) % 2
        return odd.astype(jnp.float32) - 0.5

    def _misses(self, state: ProbeState, actions: Array) -> Array:
        return actions[:-1, 0] - self.targets(state)

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        misses = self._misses(state, actions)
        return -(jnp.sum(jnp.square(misses)) + jnp.square(jnp.sum(misses))) / (self.num_agents - 1)

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return jnp.all(jnp.abs(self._misses(state, actions)) <= self.tolerance)
