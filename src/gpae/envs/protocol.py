"""What an environment is: three pure functions and a description.

An environment is written for one instance; whoever runs it batches it with `jax.vmap`. `step` never resets, so the
last state of an episode can always be observed; `gpae.envs.vector.advance` adds the automatic reset of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.errors import UserError
from gpae.types import View


@dataclass(frozen=True)
class Discrete:
    """Actions that are chosen from a list, the same for every agent (mask those that an agent does not have)."""

    names: tuple[str, ...]
    """One short name per action."""

    @property
    def size(self) -> int:
        """A."""
        return len(self.names)


@dataclass(frozen=True)
class Box:
    """Actions that are vectors of real numbers. What lies outside the bounds may be sent, and is the environment's to
    clip; agents that have fewer components than others leave some out in `View.action_mask`.
    """

    size: int
    """D."""
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"a box of actions needs finite bounds, low < high, not {self.low} and {self.high}")


@dataclass(frozen=True)
class EnvSpec:
    """The fixed sizes and facts of an environment."""

    name: str
    """Registered name, such as "smax/2s3z"."""
    num_agents: int
    """N."""
    actions: Discrete | Box
    """What every agent can do."""
    observation_size: int
    """O."""
    state_size: int
    """S."""
    episode_limit: int
    """The largest number of steps an episode can have."""
    has_wins: bool = False
    """Whether `Outcome.won` means anything."""
    agent_types: tuple[str, ...] | None = None
    """What each agent is, N names, the same in every episode; None where nothing tells them apart, or it changes."""
    has_agent_rewards: bool = False
    """Whether `Outcome.agent_rewards` are given."""
    agents_die: bool = False
    """Whether agents may be out of play while an episode goes on, or without a choice: the rows of such agents are then
    left out of the policy's update, which costs something where there are none."""

    @property
    def discrete(self) -> Discrete:
        """The list of actions.

        Raises:
          UserError: the actions are continuous.
        """
        if not isinstance(self.actions, Discrete):
            raise UserError(f"{self.name} has continuous actions: they are not counted")
        return self.actions

    @property
    def num_actions(self) -> int:
        """A. Raises UserError where actions are continuous."""
        return self.discrete.size

    @property
    def action_names(self) -> tuple[str, ...]:
        """A short names; none where actions are continuous."""
        return self.actions.names if isinstance(self.actions, Discrete) else ()

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors."""
        return isinstance(self.actions, Box)


@struct.dataclass
class Outcome:
    """What one step brought. At most one of `terminated` and `truncated` is set."""

    reward: Array
    """[] float32, the team's."""
    terminated: Array
    """[] bool: the episode came to its own end; there is no value beyond."""
    truncated: Array
    """[] bool: the episode was cut off, by a time limit; the final state still has a value."""
    won: Array
    """[] bool: the episode ended with the team's win."""
    agent_rewards: Array | None = None
    """[N] float32, each agent's own, of which `reward` is the mean, or whatever the team is judged by; None where the
    team's is all there is. Only `--reward individual` learns from them."""


@dataclass(frozen=True)
class Scene:
    """One moment of an environment, for drawing. NumPy arrays; M things."""

    size: tuple[float, float]
    """Width and height of the world; positions lie in [0, width] x [0, height], y upwards."""
    positions: Any
    """[M, 2]."""
    radii: Any
    """[M]."""
    teams: Any
    """[M] int: 0 the learning team, 1 the opponents, 2 scenery."""
    health: Any
    """[M] in [0, 1]; 0 is out of play and not drawn."""
    labels: tuple[str, ...]
    """M short labels."""
    attacks: tuple[tuple[int, int], ...]
    """Pairs (who, whom) of things that attack at this moment."""


@runtime_checkable
class Environment(Protocol):
    """A cooperative environment."""

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        ...

    def reset(self, key: Array) -> Any:
        """The first state of a new episode."""
        ...

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """The state after the team's `actions`, never reset, and what the step brought.

        Actions are [N] int32, or [N, D] float32, which may lie outside the box.
        """
        ...

    def observe(self, state: Any) -> View:
        """What can be seen of `state`."""
        ...


@dataclass(frozen=True)
class TimeoutIsTermination:
    """An environment whose time limit counts as the episode's own end, as JaxMARL's training scripts take it."""

    env: Environment

    @property
    def spec(self) -> EnvSpec:
        """Sizes, as they are."""
        return self.env.spec

    def reset(self, key: Array) -> Any:
        """A new episode, as it is."""
        return self.env.reset(key)

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """A step that terminates where it would truncate."""
        state, outcome = self.env.step(key, state, actions)
        ended = outcome.terminated | outcome.truncated
        return state, replace(outcome, terminated=ended, truncated=jnp.zeros_like(ended))

    def observe(self, state: Any) -> View:
        """What can be seen, as it is."""
        return self.env.observe(state)

    @property
    def scene(self) -> Callable[[Any], Scene]:
        """The drawing, where there is one."""
        return self.env.scene  # type: ignore[attr-defined]
