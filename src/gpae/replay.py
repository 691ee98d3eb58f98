"""The off-policy window: the last B segments of experience, contiguous in time, newest last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.types import Trajectory


@struct.dataclass
class Segment:
    """One rollout, and what the networks remembered before its first row."""

    trajectory: Trajectory
    """[T, E, ...]."""
    actor_memory: Any
    """[E, N, H]."""
    critic_memory: Any
    """[E, M, H]."""


@struct.dataclass
class Window:
    """The B - 1 segments before the newest one (none where B = 1: on-policy)."""

    segments: Segment
    """[B - 1, ...], oldest first; the last `filled` of them hold experience, the others are empty."""
    filled: Array
    """[] int32, how many segments hold experience."""


def empty(example: Segment, length: int) -> Window:
    """A window of `length` = B segments without experience; `example` gives shapes and dtypes."""
    segments = jax.tree.map(lambda x: jnp.zeros((length - 1, *x.shape), x.dtype), example)
    return Window(segments=segments, filled=jnp.int32(0))


def push(window: Window, newest: Segment) -> tuple[Window, Segment]:
    """Adds a segment.

    Returns:
      The window for the next update (its oldest segment forgotten), and this update's experience: B segments as one
      of B T rows, with the memory of *their* first row, and `valid` false on rows that do not exist yet. No memory has
      to be carried over such rows, since the first real one begins an episode.
    """
    length = window.segments.trajectory.valid.shape[0] + 1
    segments = jax.tree.map(lambda old, new: jnp.concatenate([old, new[None]]), window.segments, newest)
    filled = jnp.minimum(window.filled + 1, length - 1)

    exists = jnp.arange(length) >= length - 1 - window.filled
    trajectory = replace(segments.trajectory, valid=segments.trajectory.valid & exists[:, None, None])
    joined = Segment(
        trajectory=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory),
        actor_memory=jax.tree.map(lambda x: x[0], segments.actor_memory),
        critic_memory=jax.tree.map(lambda x: x[0], segments.critic_memory),
    )
    return Window(segments=jax.tree.map(lambda x: x[1:], segments), filled=filled), joined


def to_chunks(tree: Any, length: int) -> Any:
    """Cuts sequences [W, E, ...] into contiguous pieces of `length` rows, [length, W / length * E, ...]."""

    def cut(x: Array) -> Array:
        rows, envs, *rest = x.shape
        pieces = x.reshape(rows // length, length, envs, *rest)
        return jnp.swapaxes(pieces, 0, 1).reshape(length, rows // length * envs, *rest)

    return jax.tree.map(cut, tree)


def memories_before(first: Any, memories: Any) -> Any:
    """The memory before each row, [W, E, ...], from that before row 0, [E, ...], and those after each row."""
    return jax.tree.map(lambda x, after: jnp.concatenate([x[None], after])[: len(after)], first, memories)


def chunk_memories(first: Any, memories: Any, length: int) -> Any:
    """The memory before the first row of every piece that `to_chunks` cuts, [W / length * E, ...].

    Args:
      first: the memory before row 0, [E, ...].
      memories: the memory after each row, [W, E, ...].
      length: rows of a piece.
    """

    def pick(start: Array, x: Array) -> Array:
        before = jnp.concatenate([start[None], x[length - 1 : -1 : length]])
        return before.reshape(-1, *x.shape[2:])

    return jax.tree.map(pick, first, memories)
