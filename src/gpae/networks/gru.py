"""A gated recurrent unit over sequences with episode starts, with a backward pass of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.accelerator import accelerated
from gpae.threefry import split


class GRU(nn.Module):
    r"""A gated recurrent unit over a sequence, its carry reset where an episode is_first.

        h <- 0 where is_first_t            r = sigmoid(W_r x_t + b_r + U_r h)      z = sigmoid(W_z x_t + b_z + U_z h)
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
    return jnp.concatenate([orthogonal(key, (size, size), dtype) for key in split(key, 3)], axis=1)


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

    On a CPU a row's products, gates and gradients are computed while it is in the cache; projecting the inputs of all
    rows beforehand, or the kernels' gradients afterwards, moves three times the carry. The backward pass needs no
    transcendental function, and the barrier keeps XLA from slicing products inside slow scalar loops. On an accelerator
    a row costs the launches of its kernels: all that can be is computed for all rows at once, a second time if need be.

    Args:
      weights: W, b, U, c.
      inputs: [T, C, F].
      is_first: [T, C] bool.
      carry: [C, H], the carry before the first row.

    Returns:
      The carry after each row, [T, C, H].
    """
    if accelerated():
        return _all_at_once(weights, inputs, is_first, carry)
    return _row_by_row(weights, inputs, is_first, carry, lambda after, *_: after)


def _forward(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array) -> tuple[Array, Any]:
    if accelerated():
        carries = _all_at_once(weights, inputs, is_first, carry)
        return carries, (weights, inputs, is_first, carry, carries)
    carries, *kept = _row_by_row(weights, inputs, is_first, carry, lambda *kept: kept)
    return carries, (weights, inputs, is_first, kept)


def _backward(residuals: Any, gradient: Array) -> tuple[GRUWeights, Array, None, Array]:
    backward: Callable[..., Any] = _backward_all_at_once if accelerated() else _backward_row_by_row
    d_weights, d_inputs, d_carry = backward(*residuals, gradient)
    return d_weights, d_inputs, None, d_carry


recur.defvjp(_forward, _backward)


def _gates(weights: GRUWeights, wx: Array, uh: Array) -> tuple[Array, Array, Array]:
    """(r, z) side by side, n, and U_n h + c, of the products with inputs and carry, [..., 3 H] each."""
    size = wx.shape[-1] // 3
    wx = wx + jnp.broadcast_to(weights.b, wx.shape)
    gates = _sigmoid(wx[..., : 2 * size] + uh[..., : 2 * size])
    uh_n = uh[..., 2 * size :]
    uh_n = uh_n + jnp.broadcast_to(weights.c, uh_n.shape)
    n = jnp.tanh(wx[..., 2 * size :] + gates[..., :size] * uh_n)
    return gates, n, uh_n


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5  # quicker than 1 / (1 + exp(-x)), since XLA's tanh is a rational function


def _reset(h: Array, start: Array) -> Array:
    return jnp.where(start[..., None], jnp.zeros_like(h), h)


# -- for CPUs ----------------------------------------------------------------------------------------------------------


def _row_by_row(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array, keep: Callable[..., Any]) -> Any:
    """The rows' `keep(carry after, carry before, (r, z), n, U_n h + c)`, the carry before as after a reset."""
    size = carry.shape[-1]

    def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Any]:
        x, start = row
        h = _reset(h, start)
        wx, uh = jax.lax.optimization_barrier((x @ weights.w, h @ weights.u))
        gates, n, uh_n = _gates(weights, wx, uh)
        after = n + gates[:, size:] * (h - n)
        return after, keep(after, h, gates, n, uh_n)

    if len(inputs) == 1:  # acting: no loop, which converters to other formats would have to understand
        return jax.tree.map(lambda x: x[None], step(carry, (inputs[0], is_first[0]))[1])
    return jax.lax.scan(step, carry, (inputs, is_first))[1]


def _backward_row_by_row(
    weights: GRUWeights, inputs: Array, is_first: Array, kept: Any, gradient: Array
) -> tuple[GRUWeights, Array, Array]:
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
        return (_reset(d_h, start), total), d_wx @ w_transposed

    zeros = jnp.zeros_like(gradient[0]), jax.tree.map(jnp.zeros_like, weights)
    rows = (gradient, (inputs, is_first, *kept))
    (d_carry, d_weights), d_inputs = jax.lax.scan(step, zeros, rows, reverse=True)
    return d_weights, d_inputs, d_carry


# -- for accelerators --------------------------------------------------------------------------------------------------


def _all_at_once(weights: GRUWeights, inputs: Array, is_first: Array, carry: Array) -> Array:
    """The carries: a row is one product and one elementwise kernel."""
    size = carry.shape[-1]

    def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        wx, start = row
        h = _reset(h, start)
        gates, n, _ = _gates(weights, wx, h @ weights.u)
        after = n + gates[:, size:] * (h - n)
        return after, after

    return jax.lax.scan(step, carry, (inputs @ weights.w, is_first))[1]


def _backward_all_at_once(
    weights: GRUWeights, inputs: Array, is_first: Array, carry: Array, carries: Array, gradient: Array
) -> tuple[GRUWeights, Array, Array]:
    """The gates are computed anew, of all rows, and so are gradients, but for that of the carry."""
    size = carry.shape[-1]
    h = _reset(jnp.concatenate([carry[None], carries[:-1]]), is_first)
    gates, n, uh_n = _gates(weights, inputs @ weights.w, h @ weights.u)
    r, z = gates[..., :size], gates[..., size:]
    # By how much the gradient of the carry after a row is multiplied on its way to the gates.
    to_n = (1.0 - z) * (1.0 - n * n)
    to_uh = jnp.concatenate([to_n * r * (1.0 - r) * uh_n, (h - n) * z * (1.0 - z), to_n * r], axis=-1)
    u_transposed = weights.u.T

    def step(later: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        here, to_uh, z, start = row
        d_after = here + later
        d_h = d_after * z + (jnp.tile(d_after, 3) * to_uh) @ u_transposed
        return _reset(d_h, start), d_after

    rows = (gradient, to_uh, z, is_first)
    d_carry, d_after = jax.lax.scan(step, jnp.zeros_like(carry), rows, reverse=True)
    d_uh = jnp.tile(d_after, 3) * to_uh
    d_wx = jnp.concatenate([d_uh[..., : 2 * size], d_after * to_n], axis=-1)
    d_weights = GRUWeights(
        w=jnp.einsum("tcf,tcg->fg", inputs, d_wx),
        b=d_wx.sum((0, 1)),
        u=jnp.einsum("tcf,tcg->fg", h, d_uh),
        c=d_uh[..., 2 * size :].sum((0, 1)),
    )
    return d_weights, d_wx @ weights.w.T, d_carry
