"""The gradient of a minibatch, block of sequences by block of sequences: what a block needs stays in the cache.

A loss is a mean over the samples that a mask selects, so that its gradient is the mean of the blocks' gradients, each
weighed by the samples that its block has. On a GPU, which wants much work at once, the block is the whole minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.accelerator import accelerated
from gpae.algorithms.base import Metrics
from gpae.algorithms.groups import apart, everywhere

COLUMNS = 96
"""About how many columns (sequences times agents) a block has on a CPU: fewer do not fill the vector units, more do not
stay in the cache (`benchmarks/update.py`)."""

Loss = Callable[[Any, Any, Any], tuple[Array, Metrics]]


def gradient_of_mean(loss: Loss, params: Any, batch: Any, carry: Any, mask: Array) -> tuple[Any, Metrics]:
    """The gradient of a loss over C sequences, and what it measured, of all groups.

    Args:
      loss: of parameters, sequences and the carry before them; it and what it measures are means over `mask`, or do
        not depend on the sequences.
      params: with respect to these.
      batch: each array [L, C, ...].
      carry: each array [C, ...].
      mask: the samples that count, [L, C, N] bool.
    """
    _, sequences, agents = mask.shape

    size = sequences if accelerated() else block_size(sequences, agents)
    summed = _sum_of_blocks(loss, size, params, batch, carry, mask)
    summed, count = everywhere((summed, mask.sum(dtype=jnp.float32)))
    gradient, measured = jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), summed)
    return gradient, measured


def block_size(sequences: int, agents: int) -> int:
    """How many sequences a block has: the divisor of `sequences` whose columns are nearest to `COLUMNS`, by ratio."""
    divisors = [size for size in range(1, sequences + 1) if sequences % size == 0]
    return min(divisors, key=lambda size: abs(log(size * agents / COLUMNS)))


def _sum_of_blocks(loss: Loss, size: int, params: Any, batch: Any, carry: Any, mask: Array) -> tuple[Any, Metrics]:
    """The sums over this group's samples of what `loss` has means of."""

    def of_block(number: Array | int) -> tuple[Any, Metrics]:
        def cut(x: Array, axis: int) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, number * size, size, axis)

        rows, start, counted = (
            jax.tree.map(lambda x: cut(x, 1), batch),
            jax.tree.map(lambda x: cut(x, 0), carry),
            cut(mask, 1),
        )
        with apart():
            found = jax.grad(loss, has_aux=True)(params, rows, start)
        count = counted.sum(dtype=jnp.float32)
        summed: tuple[Any, Metrics] = jax.tree.map(lambda x: count * x, found)
        return summed

    blocks = mask.shape[1] // size
    if blocks == 1:
        return of_block(0)
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, 0))
    return jax.lax.fori_loop(0, blocks, lambda i, so_far: jax.tree.map(jnp.add, so_far, of_block(i)), none)
