"""What an environment is: three pure functions and a description.

An environment is written for one instance; whoever runs it batches it with `jax.vmap`. `step` never resets, so the
last state of an episode can always be observed; `advance` adds the automatic reset that training wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flax import struct
from jax import Array


@dataclass(frozen=True)
class EnvSpec:
    """The fixed sizes and facts of an environment."""

    name: str
    """Registered name, such as "smax/2s3z"."""
    num_agents: int
    """N."""
    num_actions: int
    """A, the same for every agent (pad and mask with `View.legal_actions` where agents differ)."""
    observation_size: int
    """O."""
    state_size: int
    """S."""
    episode_limit: int
    """The largest number of steps an episode can have."""
    has_wins: bool
    """Whether `Outcome.won` means anything."""
    action_names: tuple[str, ...]
    """One short name per action."""


@struct.dataclass
class View:
    """What can be seen of an environment's state."""

    observations: Array
    """[N, O] float32; zeros for an agent that is out of play."""
    state: Array
    """[S] float32, for a centralised critic."""
    legal_actions: Array
    """[N, A] bool; every agent, in play or not, has at least one."""
    alive: Array
    """[N] bool: the agent is in play."""


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
    """A cooperative environment with discrete actions."""

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        ...

    def reset(self, key: Array) -> Any:
        """The first state of a new episode."""
        ...

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """The state after the team's `actions` ([N] int32), never reset, and what the step brought."""
        ...

    def observe(self, state: Any) -> View:
        """What can be seen of `state`."""
        ...
