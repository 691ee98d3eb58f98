"""The layers that actor and critic share: dense blocks, and the last one, which may remember."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.gru import GRU

ORTHOGONAL = nn.initializers.orthogonal(math.sqrt(2.0))  # not jnp's, which would start JAX's backend on import

Carry = Any
"""What a network remembers between rows: [..., H] for a recurrent one, the empty tuple for a feed-forward one."""


class Dense(nn.Dense):
    """A dense layer on all rows at once: one product over one axis, whose gradient is one too.

    XLA's CPU code for the gradient of a product over several leading axes takes about twice the time.
    """

    def __call__(self, inputs: Array) -> Array:
        """[..., H] from [..., F]."""
        return super().__call__(inputs.reshape(-1, inputs.shape[-1])).reshape(*inputs.shape[:-1], self.features)


class Torso(nn.Module):
    """`num_layers` times dense, LayerNorm, ReLU."""

    features: int
    num_layers: int = 1
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H] from [..., F]."""
        for _ in range(self.num_layers):
            x = finish(Dense(self.features, kernel_init=ORTHOGONAL)(x), self.layer_norm)
        return x


def finish(x: Array, layer_norm: bool) -> Array:
    """What follows every dense layer: LayerNorm, then ReLU. Call it inside a compact method."""
    return nn.relu(nn.LayerNorm()(x) if layer_norm else x)


class Core(nn.Module):
    """The last hidden layer: a GRU, or a dense block where nothing is to be remembered."""

    features: int
    recurrent: bool = True
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: Array, is_first: Array, carry: Carry) -> tuple[Array, Carry]:
        """Features [T, ..., H] and the carry after every row ([T, ..., H], or the empty tuple)."""
        if not self.recurrent:
            return Torso(self.features, layer_norm=self.layer_norm)(x), ()
        carries = GRU(self.features)(x, is_first, carry)
        return carries, carries

    def initial_carry(self, *batch: int) -> Carry:
        """The carry at the start of an episode, for batch axes `batch`."""
        return jnp.zeros((*batch, self.features)) if self.recurrent else ()
