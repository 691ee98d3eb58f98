"""The layers that actor and critic share: dense blocks and a GRU over a sequence with episode starts."""

from __future__ import annotations

from collections.abc import Callable
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

    The output of a row is the memory after it. Only what depends on the row before is computed row by row: the inputs
    of all rows are projected in one product, and so are the kernels' gradients (see `recur`).

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
        starts = starts.reshape(starts.shape + (1,) * (inputs.ndim - 1 - starts.ndim))
        starts = jnp.broadcast_to(starts, inputs.shape[:-1])
        # With one batch axis, whatever it stands for, XLA compiles better loops.
        rows = len(inputs)
        memories = recur(
            projected.reshape(rows, -1, 3 * self.features),
            kernel,
            bias,
            starts.reshape(rows, -1),
            memory.reshape(-1, self.features),
        )
        return memories.reshape(rows, *memory.shape)


@jax.custom_vjp
def recur(projected: Array, kernel: Array, bias: Array, starts: Array, memory: Array) -> Array:
    """The recursion of a GRU, with a backward pass of its own.

    Automatic differentiation adds up the kernel's gradient row by row, a small product for each. Here the backward scan
    only carries the memory's gradient; the kernel's is one product over all rows afterwards.

    Args:
      projected: [T, C, 3 H], W x_t for r, z and n.
      kernel: [H, 3 H], U for r, z and n.
      bias: [H], b_n.
      starts: [T, C] bool.
      memory: [C, H], the memory before the first row.

    Returns:
      The memory after each row, [T, C, H].
    """
    return _scan(projected, kernel, bias, starts, memory, lambda after, *_: after)


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5  # quicker than 1 / (1 + exp(-x)) where tanh is a polynomial


def _scan(projected: Array, kernel: Array, bias: Array, starts: Array, memory: Array, keep: Callable[..., Any]) -> Any:
    """The rows' `keep(memory after, r and z, n, U_n h + b_n)`."""
    size = memory.shape[-1]
    bias = jnp.broadcast_to(bias, memory.shape)

    def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Any]:
        x, start = row
        h = jnp.where(start[:, None], jnp.zeros_like(h), h)
        # The barrier keeps XLA from cutting the product in three, or from slicing it inside slow scalar loops.
        u = jax.lax.optimization_barrier(h @ kernel)
        gates = _sigmoid(x[:, : 2 * size] + u[:, : 2 * size])
        r, z = gates[:, :size], gates[:, size:]
        u_n = u[:, 2 * size :] + bias
        n = jnp.tanh(x[:, 2 * size :] + r * u_n)
        after = n + z * (h - n)
        return after, keep(after, gates, n, u_n)

    return jax.lax.scan(step, memory, (projected, starts))[1]


def _recur_forward(projected: Array, kernel: Array, bias: Array, starts: Array, memory: Array) -> tuple[Array, Any]:
    memories, gates, n, u_n = _scan(projected, kernel, bias, starts, memory, lambda *all_: all_)
    return memories, (kernel, starts, memory, memories, gates, n, u_n)


def _recur_backward(residuals: Any, gradient: Array) -> tuple[Array, Array, Array, None, Array]:
    kernel, starts, memory, memories, gates, n, u_n = residuals
    size = memory.shape[-1]
    before = jnp.concatenate([memory[None], memories[:-1]])
    before = jnp.where(starts[..., None], jnp.zeros_like(before), before)

    def step(later: Array, row: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        here, start, h, gates, n, u_n = row
        r, z = gates[:, :size], gates[:, size:]
        d_h = here + later
        d_n = d_h * (1.0 - z) * (1.0 - n * n)
        d_u_n = d_n * r
        d_r = d_u_n * (1.0 - r) * u_n
        d_z = d_h * (h - n) * z * (1.0 - z)
        d_before = d_h * z + jnp.concatenate([d_r, d_z, d_u_n], axis=-1) @ kernel.T
        d_before = jnp.where(start[:, None], jnp.zeros_like(d_before), d_before)
        return d_before, (jnp.concatenate([d_r, d_z, d_n], axis=-1), d_u_n)

    rows = (gradient, starts, before, gates, n, u_n)
    d_memory, (d_projected, d_u_n) = jax.lax.scan(step, jnp.zeros_like(memory), rows, reverse=True)
    d_gates = jnp.einsum("tch,tcg->hg", before, d_projected[..., : 2 * size])
    d_kernel = jnp.concatenate([d_gates, jnp.einsum("tch,tcg->hg", before, d_u_n)], axis=-1)
    return d_projected, d_kernel, d_u_n.sum((0, 1)), None, d_memory


recur.defvjp(_recur_forward, _recur_backward)


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
