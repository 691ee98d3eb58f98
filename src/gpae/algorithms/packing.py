"""Only what can move the policy is computed: the rows of living agents, close together in as few columns as hold them.

An agent that is dead has one legal action. Whatever the parameters are, its log-probability is 0, and its gradient too:
the network need not be evaluated there, unless the agent will choose again in the same episode, and remembers. What is
left of every agent's sequence is cut where episodes begin. The pieces are put one below the other, the longest first,
each in the first column that has room. All but a sequence's first one begin with an empty memory, so that the gradient
is that of the sequences as they were, to rounding. How many columns there are is not known in advance: blocks of
columns are worked through until none is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms.base import Metrics
from gpae.algorithms.batch import PolicySamples
from gpae.algorithms.groups import apart, everywhere
from gpae.algorithms.replay import to_chunks

COLUMNS = 40
"""At most so many columns has a block: of fewer the last block is fuller, of more a product is quicker
(`benchmarks/training_speed.py`, `benchmarks/update.py`)."""

PolicyLoss = Callable[[Any, PolicySamples, Any], tuple[Array, Metrics]]


def gradient_of_living(
    loss: PolicyLoss,
    still: Callable[[PolicySamples], Metrics],
    params: Any,
    samples: PolicySamples,
    carry: Any,
    pick: Array | None,
    length: int,
) -> tuple[Any, Metrics]:
    """What `blocks.gradient_of_mean` says of a loss whose agents share a network that does not tell them apart.

    Args:
      loss: of parameters, samples [L, B, 1] and the carry before them [B, 1, ...]; a mean over their mask, as is all
        that it measures.
      still: what of it is not 0 where nothing can be chosen; observations are not shown.
      params: with respect to these.
      samples: each array [W, E, N, ...]: C sequences of L rows, as `replay.to_chunks` cuts them.
      carry: before them, each array [C, N, ...]; the empty tuple where nothing is remembered.
      pick: over these sequences only, int32; None: over all.
      length: L.
    """
    rows, envs, agents = samples.mask.shape
    chosen = jnp.arange(rows // length * envs) if pick is None else pick
    seen = to_chunks(replace(samples, observations=None), length, chosen)
    places = len(chosen) * agents
    layout = pack(seen.learns.reshape(length, -1), seen.is_first.reshape(length, -1), bool(jax.tree.leaves(carry)))
    blocks = -(-places // COLUMNS)
    width = -(-places // blocks)
    source = jnp.pad(layout.source, [(0, 0), (0, blocks * width - places)], constant_values=-1)
    first = jnp.pad(layout.first, [(0, blocks * width - places)])

    def of_block(number: Array) -> tuple[Any, Metrics]:
        found = jax.lax.dynamic_slice_in_dim(source, number * width, width, axis=1)
        place = jnp.maximum(found, 0)
        sequence, agent = chosen[place % places // agents], place % agents
        at = ((sequence // envs * length + place // places) * envs + sequence % envs) * agents + agent
        at = jax.lax.optimization_barrier(at)  # computed once, and not within every look-up
        part = jax.tree.map(lambda x: jnp.expand_dims(_take(x.reshape(-1, *x.shape[3:]), at), 2), samples)
        part = replace(part, mask=part.learns & (found >= 0)[:, :, None])
        own = jax.lax.dynamic_slice_in_dim(first, number * width, width)
        at = chosen[own // agents] * agents + own % agents
        before = jax.tree.map(lambda x: _take(x.reshape(-1, *x.shape[2:]), at)[:, None], carry)
        with apart():
            of_mean = jax.grad(loss, has_aux=True)(params, part, before)
        count = part.mask.sum(dtype=jnp.float32)
        return jax.tree.map(lambda x: count * x, of_mean)

    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, 0))
    needed = -(-layout.columns // width)
    gradient, measured = jax.lax.fori_loop(0, needed, lambda i, sums: jax.tree.map(jnp.add, sums, of_block(i)), none)
    rest = replace(seen, mask=seen.mask & ~seen.learns)
    with apart():
        others = still(rest)
    count = rest.mask.sum(dtype=jnp.float32)
    measured |= {name: measured[name] + count * x for name, x in others.items()}
    summed, count = everywhere(((gradient, measured), seen.mask.sum(dtype=jnp.float32)))
    gradient, measured = jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), summed)
    return gradient, measured


def _take(x: Array, at: Array) -> Array:
    """`x` [K, ...] at these places, which are there, [*at, ...]."""
    return x.at[at].get(mode="promise_in_bounds")


class Layout(NamedTuple):
    """Where the rows of M sequences are put."""

    source: Array
    """Which of the L M rows stands here, counted row by row, [L, M] int32; -1: none."""
    first: Array
    """The sequence whose carry stands before each column, [M] int32."""
    columns: Array
    """How many columns have rows, [] int32: they are the first ones."""


def pack(learns: Array, is_first: Array, remembers: bool) -> Layout:
    """The rows that are needed, in few columns.

    Args:
      learns: rows whose gradient may not be 0, [L, M] bool.
      is_first: rows that begin an episode, [L, M] bool.
      remembers: whether earlier rows of an episode are needed for later ones.
    """
    rows, sequences = learns.shape
    needed = _until_last(learns, is_first) if remembers else learns
    # Many short pieces make one, so that a sequence never has more than so many.
    pieces = max(2, 1 + rows // 32)
    piece, below = _number(needed, is_first, pieces)
    sizes = (needed & (piece == jnp.arange(pieces)[:, None, None])).sum(1, dtype=jnp.int32)
    column, top, first, columns = _place(sizes, rows)
    column, top = (jnp.take_along_axis(x, piece, axis=0) for x in (column, top))
    itself = jnp.arange(rows * sequences).reshape(rows, sequences)
    # Where there is no room for all, everything stays where it is.
    target = jnp.where(columns > sequences, itself, (top + below) * sequences + column)
    target = jnp.where(needed, target, rows * sequences).reshape(-1)
    source = jnp.full(rows * sequences, -1).at[target].set(itself.reshape(-1), mode="drop")
    return Layout(
        source=source.reshape(rows, sequences),
        first=jnp.where(columns > sequences, jnp.arange(sequences), first),
        columns=jnp.minimum(columns, sequences),
    )


def _until_last(learns: Array, is_first: Array) -> Array:
    """Rows of an episode up to the last one that learns, [L, M] bool."""

    def step(later: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        learns, is_first = row
        needed = learns | later
        return needed & ~is_first, needed

    return jax.lax.scan(step, jnp.zeros_like(learns[0]), (learns, is_first), reverse=True)[1]


def _number(needed: Array, is_first: Array, pieces: int) -> tuple[Array, Array]:
    """Which of its sequence's pieces a row is in, and how many rows of the piece are above it, [L, M] int32 each.

    The first piece is what belongs to an episode that began before the sequence.
    """

    def step(so_far: tuple[Array, Array], row: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (before, above), (needed, is_first) = so_far, row
        piece = jnp.minimum(before + is_first, pieces - 1)
        above = jnp.where(piece == before, above, 0)
        return (piece, above + needed), (piece, above)

    none = jnp.zeros(needed.shape[1:], jnp.int32)
    return jax.lax.scan(step, (none, none), (needed, is_first))[1]


def _place(sizes: Array, rows: int) -> tuple[Array, Array, Array, Array]:
    """First fit decreasing, all pieces of a size at once.

    Args:
      sizes: of the pieces of M sequences, [P, M]; the first ones must stand at the top of a column.
      rows: L, of a column; the pieces of a sequence are not longer together.

    Returns:
      Each piece's column and its first row there, [P, M]; the sequence whose first piece is at the top of each column,
      [M]; how many of the M columns are used, or more than M where there is no room for all.
    """
    sequences = sizes.shape[1]
    first = jnp.argsort(-sizes[0])
    loose = sizes[1:].reshape(-1)
    ranked = jnp.argsort(-loose)

    def of_size(carried: tuple[Array, Array], size: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        room, placed = carried
        wanted = (loose == size).sum(dtype=jnp.int32)
        many = room // size
        earlier = jnp.cumsum(many) - many
        taken = jnp.clip(wanted - earlier, 0, many)
        begins = jnp.where(taken > 0, placed + earlier, len(loose))
        return (room - taken * size, placed + taken.sum()), (rows - room, begins)

    (room, placed), found = jax.lax.scan(of_size, (rows - sizes[0][first], jnp.int32(0)), jnp.arange(rows, 0, -1))
    top, begins = (x.reshape(-1) for x in found)
    # An entry is a column that takes pieces of a size. In the order of their sizes, the pieces go to one entry after
    # the other: `begins` says which piece is the first of each.
    entry = jnp.zeros(len(loose), jnp.int32).at[begins].set(jnp.arange(len(begins)), mode="drop")
    entry = jax.lax.cummax(entry)
    row = top[entry] + (jnp.arange(len(loose)) - begins[entry]) * loose[ranked]
    back = jnp.argsort(ranked)
    column, row = ((x[back]).reshape(-1, sequences) for x in (entry % sequences, row))
    all_placed = placed == (loose > 0).sum(dtype=jnp.int32)
    return (
        jnp.concatenate([jnp.argsort(first)[None], column]),
        jnp.concatenate([jnp.zeros_like(row[:1]), row]),
        first,
        jnp.where(all_placed, (room < rows).sum(dtype=jnp.int32), sequences + 1),
    )
