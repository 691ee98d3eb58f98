"""The layers that actor and critic share: dense blocks and a GRU over a sequence with episode starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

ORTHOGONAL = nn.initializers.orthogonal(jnp.sqrt(2.0))

Memory = Any
"""What a network remembers between rows: [..., H] for a recurrent one, the empty tuple for a feed-forward one."""


class Torso(nn.Module):
    """`num_layers` times dense, LayerNorm, ReLU."""

    features: int
    num_layers: int = 1
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H] from [..., F]."""
        for _ in range(self.num_layers):
            x = finish(nn.Dense(self.features, kernel_init=ORTHOGONAL)(x), self.layer_norm)
        return x


def finish(x: Array, layer_norm: bool) -> Array:
    """What follows every dense layer: LayerNorm, then ReLU. Call it inside a compact method."""
    return nn.relu(nn.LayerNorm()(x) if layer_norm else x)


class GRU(nn.Module):
    r"""A gated recurrent unit over a sequence, its memory reset where an episode starts.

        h <- 0 where starts_t                   r = sigmoid(W_r x_t + U_r h)     z = sigmoid(W_z x_t + U_z h)
        h_t = (1 - z) n + z h                   n = tanh(W_n x_t + r (U_n h + b_n))

    The inputs of all rows are projected in one product before the scan, which is what makes it quick on long
    sequences of few rows. The output of a row is the memory after it.

    Source: Cho et al. 2014 (arXiv 1406.1078), in the form of cuDNN.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: Array, starts: Array, memory: Array) -> Array:
        """Memories after each row, [T, ..., H].

        Args:
          inputs: [T, ..., F].
          starts: [T, ...] bool, or of fewer dimensions, which broadcast from the left.
          memory: [..., H], the memory before the first row.
        """
        projected = nn.Dense(3 * self.features, kernel_init=nn.initializers.lecun_normal(), name="input")(inputs)
        kernel = self.param("kernel", nn.initializers.orthogonal(), (self.features, 3 * self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        bias = jnp.broadcast_to(bias, memory.shape)
        starts = starts.reshape(starts.shape + (1,) * (inputs.ndim - starts.ndim))

        def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            x, start = row
            h = jnp.where(start, jnp.zeros_like(h), h)
            x_r, x_z, x_n = jnp.split(x, 3, axis=-1)
            h_r, h_z, h_n = jnp.split(h @ kernel, 3, axis=-1)
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * (h_n + bias))
            h = (1.0 - z) * n + z * h
            return h, h

        return jax.lax.scan(step, memory, (projected, starts))[1]


class Core(nn.Module):
    """The last hidden layer: a GRU, or a dense block where nothing is to be remembered."""

    features: int
    recurrent: bool = True
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: Array, starts: Array, memory: Memory) -> tuple[Array, Memory]:
        """Features [T, ..., H] and the memory after every row ([T, ..., H], or the empty tuple)."""
        if not self.recurrent:
            return Torso(self.features, layer_norm=self.layer_norm)(x), ()
        memories = GRU(self.features)(x, starts, memory)
        return memories, memories

    def initial_memory(self, *batch: int) -> Memory:
        """The memory at the start of an episode, for batch axes `batch`."""
        return jnp.zeros((*batch, self.features)) if self.recurrent else ()
