"""What is played outside JAX: sizes of an environment, what an instance can do, the arrays that many of them fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpae.errors import UserError

ALIGNMENT = 64


class Undrawable(UserError):
    """An environment does not show what it looks like; it can be played all the same."""


@dataclass(frozen=True)
class Sizes:
    """The fixed sizes of an environment."""

    num_agents: int
    """N."""
    action_size: int
    """A: actions, or D: numbers of an action."""
    continuous: bool
    """Whether actions are vectors, in [-1, 1]^D."""
    observation_size: int
    """O."""
    state_size: int
    """S."""
    episode_limit: int
    """The largest number of steps an episode can have."""
    has_wins: bool = False
    """Whether `Step.won` means anything."""


@dataclass(frozen=True)
class Step:
    """What one step brought. At most one of `terminated` and `truncated` is set."""

    reward: float
    """The team's."""
    terminated: bool
    """The episode came to its own end."""
    truncated: bool
    """The episode was cut off, and its final state still has a value."""
    won: bool = False
    """The episode ended with the team's win."""


class Instance(Protocol):
    """One environment outside JAX. Whatever its methods raise is a UserError."""

    sizes: Sizes

    def reset(self, seed: int, view: Arrays, place: int) -> None:
        """Begins an episode, and writes what is seen into `view` at `place`."""
        ...

    def step(self, actions: np.ndarray, view: Arrays, place: int) -> Step:
        """Takes the team's actions, [N] int32 or [N, D] float32, and writes what is seen then; it never resets."""
        ...

    def picture(self) -> np.ndarray:
        """What it looks like now, [H, W, 3] uint8; raises Undrawable."""
        ...

    def close(self) -> None:
        """Lets go of everything."""
        ...


@dataclass(frozen=True)
class Arrays:
    """A row of E environments: what was done in it, and what is seen after it."""

    observations: Any
    """[E, N, O] float32."""
    state: Any
    """[E, S] float32."""
    action_mask: Any
    """[E, N, A] bool."""
    alive: Any
    """[E, N] bool."""
    is_first: Any
    """What is seen begins an episode, [E] bool."""
    over: Any
    """What is seen is the final state of an episode that was cut off, [E] bool."""
    actions: Any
    """[E, N] int32, or [E, N, D] float32."""
    rewards: Any
    """[E] float32."""
    terminated: Any
    """[E] bool."""
    truncated: Any
    """[E] bool."""
    won: Any
    """[E] bool."""

    def part(self, begin: int, end: int) -> Arrays:
        """Of environments `begin` to `end` - 1, in the same memory."""
        return Arrays(**{name: x[begin:end] for name, x in vars(self).items()})


def layout(sizes: Sizes, count: int) -> dict[str, tuple[int, tuple[int, ...], str]]:
    """Name -> offset in bytes, shape and dtype of every array of `count` = E environments."""
    team = (count, sizes.num_agents)
    acted = ((*team, sizes.action_size), "f4") if sizes.continuous else (team, "i4")
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "observations": ((*team, sizes.observation_size), "f4"),
        "state": ((count, sizes.state_size), "f4"),
        "action_mask": ((*team, sizes.action_size), "?"),
        "alive": (team, "?"),
        "is_first": ((count,), "?"),
        "over": ((count,), "?"),
        "actions": acted,
        "rewards": ((count,), "f4"),
        "terminated": ((count,), "?"),
        "truncated": ((count,), "?"),
        "won": ((count,), "?"),
    }
    found, offset = {}, 0
    for name, (shape, dtype) in shapes.items():
        found[name] = (offset, shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return found


def num_bytes(sizes: Sizes, count: int) -> int:
    """What the arrays of `count` environments need."""
    *_, (offset, shape, dtype) = layout(sizes, count).values()
    return offset + int(np.prod(shape)) * np.dtype(dtype).itemsize


def arrays(buffer: Any, sizes: Sizes, count: int) -> Arrays:
    """The arrays of `count` environments in a buffer of `num_bytes`."""
    return Arrays(
        **{
            name: np.ndarray(shape, dtype, buffer, offset)
            for name, (offset, shape, dtype) in layout(sizes, count).items()
        }
    )
