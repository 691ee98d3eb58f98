"""Experience kept for later: the window of the last B segments, in order, and the buffer that is sampled from."""

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
    """One rollout, and the networks' carries before its first row."""

    trajectory: Trajectory
    """[T, E, ...]."""
    actor_carry: Any
    """[E, N, H]."""
    critic_carry: Any
    """[E, M, H]."""


@struct.dataclass
class Window:
    """The B - 1 segments before the newest one (none where B = 1: on-policy)."""

    segments: Segment
    """[B - 1, ...], oldest first; rows of those that hold no experience yet are not `valid`."""


def empty(example: Segment, length: int, *, counts: bool = False) -> Window:
    """A window of `length` = B segments without experience; `example` gives shapes and dtypes.

    With `counts` their rows, all zeros, are `valid`, as if they had been experienced.
    """
    segments = jax.tree.map(lambda x: jnp.zeros((length - 1, *x.shape), x.dtype), example)
    if counts:
        valid = jnp.ones_like(segments.trajectory.valid)
        segments = replace(segments, trajectory=replace(segments.trajectory, valid=valid))
    return Window(segments=segments)


def push(window: Window, newest: Segment, carry: int = 0) -> tuple[Window, Segment]:
    """Adds a segment.

    Args:
      window: the segments before it.
      newest: it.
      carry: of which segment, counted from the oldest, the window has the carry; -1: of the newest.

    Returns:
      The window for the next update (its oldest segment forgotten), and this update's experience: B segments as one
      of B T rows, with the carry of *their* first row, and `valid` false on rows that do not exist yet. No carry has
      to be carried over such rows, since the first real one begins an episode.
    """
    segments = with_last(window.segments, newest)
    joined = Segment(
        trajectory=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), segments.trajectory),
        actor_carry=jax.tree.map(lambda x: x[carry], segments.actor_carry),
        critic_carry=jax.tree.map(lambda x: x[carry], segments.critic_carry),
    )
    return Window(segments=jax.tree.map(lambda x: x[1:], segments)), joined


@struct.dataclass
class Buffer:
    """The last K segments of experience, in no order, to be sampled from."""

    segments: Segment
    """[K, ...]."""
    added: Array
    """[] int32, how many segments were ever added; the buffer holds the last K of them."""


def buffer(example: Segment, capacity: int) -> Buffer:
    """A buffer for `capacity` = K segments, holding none; `example` gives shapes and dtypes."""
    segments = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), example)
    return Buffer(segments=segments, added=jnp.int32(0))


def add(held: Buffer, segment: Segment) -> Buffer:
    """`held` with `segment` in the place of the oldest one."""
    place = held.added % held.segments.trajectory.valid.shape[0]
    segments = jax.tree.map(lambda x, new: x.at[place].set(new), held.segments, segment)
    return Buffer(segments=segments, added=held.added + 1)


def sample(held: Buffer, key: Array, num_sequences: int) -> Segment:
    """C = `num_sequences` sequences of T rows, each of one environment in one segment, drawn evenly with replacement.

    What came after a sequence is not known, so that its last row only shows what follows the row before (`closed`),
    unless the episode ended there.

    Args:
      held: at least one segment.
      key: draws the sequences.
      num_sequences: C.

    Returns:
      A segment of C sequences: the trajectory [T, C, ...], the carries [C, ...] that were carried when it was
      collected.
    """
    capacity, _, num_envs = held.segments.trajectory.valid.shape
    place_key, env_key = jax.random.split(key)
    places = jax.random.randint(place_key, (num_sequences,), 0, jnp.minimum(held.added, capacity))
    envs = jax.random.randint(env_key, (num_sequences,), 0, num_envs)
    trajectory = jax.tree.map(lambda x: jnp.swapaxes(x[places, :, envs], 0, 1), held.segments.trajectory)
    trajectory = closed(trajectory)
    return Segment(
        trajectory=trajectory,
        actor_carry=jax.tree.map(lambda x: x[places, envs], held.segments.actor_carry),
        critic_carry=jax.tree.map(lambda x: x[places, envs], held.segments.critic_carry),
    )


def closed(trajectory: Trajectory) -> Trajectory:
    """A trajectory [T, C, ...] after which nothing is known.

    Where its last row terminated nothing follows, and all is as it was. Elsewhere that row only shows what follows the
    row before: it is marked invalid, and the row before it truncated unless it terminated.
    """
    rows, own = trajectory.valid.shape[0], trajectory.agent_rewards
    number = jnp.arange(rows)[:, None]
    goes_on = ~trajectory.terminated[-1]
    open_row = (number == rows - 1) & goes_on
    cut = (number >= rows - 2) & goes_on & ~trajectory.terminated
    return replace(
        trajectory,
        rewards=jnp.where(open_row, jnp.zeros_like(trajectory.rewards), trajectory.rewards),
        truncated=trajectory.truncated | cut,
        won=trajectory.won & ~open_row,
        agent_rewards=None if own is None else jnp.where(open_row[..., None], jnp.zeros_like(own), own),
        valid=trajectory.valid & ~open_row,
    )


def beside(segment: Segment, other: Segment) -> Segment:
    """Two segments of as many rows as one, the environments of `other` after those of `segment`."""
    join = jnp.concatenate
    return Segment(
        trajectory=jax.tree.map(lambda x, y: join([x, y], axis=1), segment.trajectory, other.trajectory),
        actor_carry=jax.tree.map(lambda x, y: join([x, y]), segment.actor_carry, other.actor_carry),
        critic_carry=jax.tree.map(lambda x, y: join([x, y]), segment.critic_carry, other.critic_carry),
    )


def to_chunks(tree: Any, length: int, pick: Array | None = None) -> Any:
    """Cuts sequences [W, E, ...] into contiguous pieces of `length` rows, [length, W / length * E, ...].

    Where `pick` is given, [c] int32, only those that it names, [length, c, ...]: the others are not copied.
    """

    def cut(x: Array) -> Array:
        rows, envs, *rest = x.shape
        if pick is None:
            pieces = x.reshape(rows // length, length, envs, *rest)
            return jnp.swapaxes(pieces, 0, 1).reshape(length, rows // length * envs, *rest)
        # Nobody picks what is not there, and to look after it takes time.
        if length == rows:
            return x.at[:, pick].get(mode="promise_in_bounds")
        row = pick // envs * length + jnp.arange(length)[:, None]
        return x.at[row, pick % envs].get(mode="promise_in_bounds")

    return jax.tree.map(cut, tree)


def with_last(rows: Any, last: Any) -> Any:
    """One more row at the end of every array."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)


def carries_before(first: Any, carries: Any) -> Any:
    """The carry before each row, [W, E, ...], from that before row 0, [E, ...], and those after each row."""
    return jax.tree.map(lambda x, after: jnp.concatenate([x[None], after])[: len(after)], first, carries)


def chunk_carries(first: Any, carries: Any, length: int) -> Any:
    """The carry before the first row of every piece that `to_chunks` cuts, [W / length * E, ...].

    Args:
      first: the carry before row 0, [E, ...].
      carries: the carry after each row, [W, E, ...].
      length: rows of a piece.
    """

    def pick(start: Array, x: Array) -> Array:
        before = jnp.concatenate([start[None], x[length - 1 : -1 : length]])
        return before.reshape(-1, *x.shape[2:])

    return jax.tree.map(pick, first, carries)
