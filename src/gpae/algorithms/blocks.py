"""Work on many sequences, block of sequences by block of sequences: what a block needs stays in the cache.

Besides, it is needed of one block at a time only, and not of all the batch. A loss is a mean over the samples that a
mask selects, so that its gradient is the mean of the blocks' gradients, each weighed by the samples that its block has.
On a GPU, which wants much work at once, there is one block, of all sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.accelerator import accelerated
from gpae.algorithms.base import Metrics
from gpae.algorithms.groups import apart, everywhere
from gpae.algorithms.replay import to_chunks

COLUMNS = 144
"""About how many columns (sequences times agents) a block has on a CPU: fewer do not fill the vector units, more do not
stay in the cache (`benchmarks/update.py`)."""

Loss = Callable[[Any, Any, Any], tuple[Array, Metrics]]


def gradient_of_mean(
    loss: Loss, params: Any, batch: Any, carry: Any, mask: Array, pick: Array | None = None, length: int | None = None
) -> tuple[Any, Metrics]:
    """The gradient of a loss over sequences, and what it measured, of all groups.

    Args:
      loss: of parameters, sequences and the carry before them; it and what it measures are means over `mask`, or do
        not depend on the sequences.
      params: with respect to these.
      batch: each array [W, E, ...]: C sequences of L rows, as `replay.to_chunks` cuts them.
      carry: each array [C, ...].
      mask: the samples that count, [W, E, N] bool.
      pick: over these sequences only, int32; a block takes its own, so that no minibatch is copied together.
      length: L; None: W.
    """
    rows, envs, agents = mask.shape
    length = length or rows
    sequences = rows // length * envs
    if pick is None and length < rows:
        pick = jnp.arange(sequences)
    blocks = _blocks(sequences if pick is None else len(pick), agents)
    summed, count = everywhere(_sum_of_blocks(loss, blocks, params, (batch, mask), carry, pick, length))
    gradient, measured = jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), summed)
    return gradient, measured


def block_by_block(evaluate: Callable[[Any, Any, Array | int], Any], rows: Any, others: Any, agents: int) -> Any:
    """What `evaluate` says of all sequences, where it looks at each by itself.

    Args:
      evaluate: of a block's rows and others and its number: arrays [L', c, ...] for its c sequences.
      rows: each array [L, C, ...].
      others: each array [C, ...].
      agents: N, for the size of a block.

    Returns:
      Its arrays, [L', C, ...].
    """
    sequences = jax.tree.leaves(rows)[0].shape[1]
    blocks = _blocks(sequences, agents)

    def of_block(number: Array | int) -> Any:
        return evaluate(_part(rows, 1, number, blocks), _part(others, 0, number, blocks), number)

    if blocks == 1:
        return of_block(0)

    def put(number: Array, whole: Array, found: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(whole, found, number * found.shape[1], axis=1)

    found = jax.tree.map(
        lambda x: jnp.zeros((x.shape[0], sequences, *x.shape[2:]), x.dtype), jax.eval_shape(of_block, 0)
    )
    return jax.lax.fori_loop(0, blocks, lambda i, whole: jax.tree.map(partial(put, i), whole, of_block(i)), found)


def _blocks(sequences: int, agents: int) -> int:
    """How many blocks sequences make."""
    return 1 if accelerated() else sequences // block_size(sequences, agents)


def block_size(sequences: int, agents: int) -> int:
    """How many sequences a block has: the divisor of `sequences` whose columns are nearest to `COLUMNS`, by ratio."""
    divisors = [size for size in range(1, sequences + 1) if sequences % size == 0]
    return min(divisors, key=lambda size: abs(log(size * agents / COLUMNS)))


def _sum_of_blocks(
    loss: Loss, blocks: int, params: Any, rows: tuple[Any, Array], carry: Any, pick: Array | None, length: int
) -> tuple[Any, Array]:
    """The sums over this group's samples of what `loss` has means of, and how many samples they are."""

    def of_block(number: Array | int) -> tuple[Any, Array]:
        if pick is None:
            (batch, mask), before = _part(rows, 1, number, blocks), _part(carry, 0, number, blocks)
        else:
            chosen = _part(pick, 0, number, blocks)
            batch, mask = to_chunks(rows, length, chosen)
            before = jax.tree.map(lambda x: x.at[chosen].get(mode="promise_in_bounds"), carry)
        with apart():
            found = jax.grad(loss, has_aux=True)(params, batch, before)
        count = mask.sum(dtype=jnp.float32)
        return jax.tree.map(lambda x: count * x, found), count

    if blocks == 1:
        return of_block(0)
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, 0))
    return jax.lax.fori_loop(0, blocks, lambda i, so_far: jax.tree.map(jnp.add, so_far, of_block(i)), none)


def _part(tree: Any, axis: int, number: Array | int, blocks: int) -> Any:
    """Block `number` of `blocks` along `axis` of every array."""
    if blocks == 1:
        return tree

    def of(x: Array) -> Array:
        size = x.shape[axis] // blocks
        return jax.lax.dynamic_slice_in_dim(x, number * size, size, axis)

    return jax.tree.map(of, tree)
