"""A gated recurrent unit over sequences with episode starts, with a backward pass of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class GRU(nn.Module):
    r"""A gated recurrent unit over a sequence, its carry reset where an episode is_first.

        h <- 0 where starts_t              r = sigmoid(W_r x_t + b_r + U_r h)      z = sigmoid(W_z x_t + b_z + U_z h)
        h_t = (1 - z) n + z h              n = tanh(W_n x_t + b_n + r (U_n h + c))

    The output of a row is the carry after it.

    Source: Cho et al. 2014 (arXiv 1406.1078), in the form of cuDNN.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: Array, is_first: Array, carry: Array) -> Array:
        """Carries after each row, [T, ..., H].

        Args:
          inputs: [T, ..., F].
          is_first: [T, ...] bool, or of fewer dimensions, which broadcast from the left.
          carry: [..., H], the carry before the first row.
        """
        rows, size = len(inputs), self.features
        weights = GRUWeights(
            w=self.param("w", nn.initializers.lecun_normal(), (inputs.shape[-1], 3 * size)),
            b=self.param("b", nn.initializers.zeros_init(), (3 * size,)),
            u=self.param("u", orthogonal_per_gate, (size, 3 * size)),
            c=self.param("c", nn.initializers.zeros_init(), (size,)),
        )
        is_first = is_first.reshape(is_first.shape + (1,) * (inputs.ndim - 1 - is_first.ndim))
        is_first = jnp.broadcast_to(is_first, inputs.shape[:-1])
        # With one batch axis, whatever it stands for, XLA compiles better loops.
        carries = recur(
            weights, inputs.reshape(rows, -1, inputs.shape[-1]), is_first.reshape(rows, -1), carry.reshape(-1, size)
        )
        return carries.reshape(rows, *carry.shape)


def orthogonal_per_gate(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Initial recurrent weights [H, 3 H]: an orthogonal [H, H] block for each of the gates r, z, n.

    One orthogonal [H, 3 H] matrix would leave each gate a third of it, with singular values of .57 in the root mean
    square and some near 0: carry would fade twice as fast.
    """
    orthogonal, size = nn.initializers.orthogonal(), shape[0]
    # Not vmap: batched decompositions can wait for each other for ever (`Experiment.init`).
    return jnp.concatenate([orthogonal(key, (size, size), dtype) for key in jax.random.split(key, 3)], axis=1)


class GRUWeights(NamedTuple):
    """The parameters of a GRU; the gates r, z, n stand side by side in the last axis."""

    w: Array
    """[F, 3 H], of the inputs."""
    b: Array
    """[3 H]."""
    u: Array
    """[H, 3 H], of the carry."""
    c: Array
    """[H], beside U_n h."""


@jax.custom_vjp
def recur(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array) -> Array:
    """The recursion of a GRU, with a backward pass of its own.

    A row's products, gates and gradients are computed while it is in the cache; projecting the inputs of all rows
    beforehand, or the kernels' gradients afterwards, moves three times the carry. The backward pass needs no
    transcendental function, and the barrier keeps XLA from slicing products inside slow scalar loops.

    Args:
      weights: W, b, U, c.
      inputs: [T, C, F].
      is_first: [T, C] bool.
      carry: [C, H], the carry before the first row.

    Returns:
      The carry after each row, [T, C, H].
    """
    return _scan_rows(weights, inputs, is_first, carry, lambda after, *_: after)


def _scan_rows(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array, keep: Callable[..., Any]) -> Any:
    """The rows' `keep(carry after, carry before, (r, z), n, U_n h + c)`, the carry before as after a reset."""
    size = carry.shape[-1]
    b = jnp.broadcast_to(weights.b, (carry.shape[0], 3 * size))  # not len: an exported batch may have no number
    c = jnp.broadcast_to(weights.c, carry.shape)

    def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Any]:
        x, start = row
        h = jnp.where(start[:, None], jnp.zeros_like(h), h)
        wx, uh = jax.lax.optimization_barrier((x @ weights.w, h @ weights.u))
        wx = wx + b
        gates = _sigmoid(wx[:, : 2 * size] + uh[:, : 2 * size])
        r, z = gates[:, :size], gates[:, size:]
        uh_n = uh[:, 2 * size :] + c
        n = jnp.tanh(wx[:, 2 * size :] + r * uh_n)
        after = n + z * (h - n)
        return after, keep(after, h, gates, n, uh_n)

    if len(inputs) == 1:  # acting: no loop, which converters to other formats would have to understand
        return jax.tree.map(lambda x: x[None], step(carry, (inputs[0], is_first[0]))[1])
    return jax.lax.scan(step, carry, (inputs, is_first))[1]


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5  # quicker than 1 / (1 + exp(-x)), since XLA's tanh is a rational function


def _recur_forward(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array) -> tuple[Array, Any]:
    carries, *kept = _scan_rows(weights, inputs, is_first, carry, lambda *kept: kept)
    return carries, (weights, (inputs, is_first, *kept))


def _recur_backward(residuals: Any, gradient: Array) -> tuple[GRUWeights, Array, None, Array]:
    weights, rows = residuals
    size = gradient.shape[-1]
    w_transposed, u_transposed = weights.w.T, weights.u.T

    def step(total_so_far: tuple[Array, GRUWeights], row: tuple[Array, Any]) -> tuple[tuple[Array, GRUWeights], Array]:
        later, total = total_so_far
        here, (x, start, h, gates, n, uh_n) = row
        r, z = gates[:, :size], gates[:, size:]
        d_after = here + later
        d_n = d_after * (1.0 - z) * (1.0 - n * n)
        d_z = d_after * (h - n) * z * (1.0 - z)
        d_uh_n = d_n * r
        d_r = d_uh_n * (1.0 - r) * uh_n
        d_wx = jnp.concatenate([d_r, d_z, d_n], axis=-1)
        d_uh = jnp.concatenate([d_r, d_z, d_uh_n], axis=-1)
        total = GRUWeights(
            w=total.w + x.T @ d_wx, b=total.b + d_wx.sum(0), u=total.u + h.T @ d_uh, c=total.c + d_uh_n.sum(0)
        )
        d_h = d_after * z + d_uh @ u_transposed
        return (jnp.where(start[:, None], jnp.zeros_like(d_h), d_h), total), d_wx @ w_transposed

    zeros = jnp.zeros_like(gradient[0]), jax.tree.map(jnp.zeros_like, weights)
    (d_memory, d_weights), d_inputs = jax.lax.scan(step, zeros, (gradient, rows), reverse=True)
    return d_weights, d_inputs, None, d_memory


recur.defvjp(_recur_forward, _recur_backward)
