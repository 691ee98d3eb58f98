r"""Embeddings of the state and of the joint action, for every agent at the cost of one.

**The joint-action critic in O(N).** Agent i's input x_i is a vector of N slots of A numbers: one-hot actions in the
others' slots, the probabilities pi^i in its own. Evaluated one by one, N such vectors cost O(N^2 A). But the first
layer is linear: with its kernel W cut into the slots' pieces W_j [A, H],

    W x_i = sum_j W_j[a_j] - W_i[a_i] + pi^i W_i

which is one sum over agents, one look-up and one small product per agent. A LayerNorm in front (scale g, bias b)
folds in, since every slot sums to one: with n = N A inputs

    mean(x_i) = 1 / A        var(x_i) = (N - 1 + sum_a pi^i(a)^2) / n - mean^2
    W (g (x_i - mean) / sd + b) = [ (W g) x_i - mean (W g) 1 ] / sd + W b

An empty slot is one with pi^i = 0; the mean is then (N - 1) / n. The state half of the input, [s, one-hot i], has the
same mean and variance for all agents, and its product with the kernel differs only by the row of i; it is computed once
per state. All of it equals the plain network (`tests/networks`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.layers import ORTHOGONAL, finish

_EPSILON = 1e-6  # flax's LayerNorm


class _NormedDense(nn.Module):
    """The parameters of LayerNorm followed by dense, for inputs that are never built."""

    inputs: int
    features: int
    layer_norm: bool

    def setup(self) -> None:
        if self.layer_norm:
            self.scale = self.param("scale", nn.initializers.ones_init(), (self.inputs,))
            self.shift = self.param("shift", nn.initializers.zeros_init(), (self.inputs,))
        self.kernel = self.param("kernel", ORTHOGONAL, (self.inputs, self.features))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

    def parts(self, mean: Array | float, variance: Array) -> tuple[Array, Array, Array]:
        """(kernel, constant, 1 / sd) such that the output for x is (x kernel) / sd + constant."""
        shape = (*variance.shape, self.features)
        if not self.layer_norm:
            return self.kernel, jnp.broadcast_to(self.bias, shape), jnp.ones_like(variance)
        kernel = self.scale[:, None] * self.kernel
        inverse = jax.lax.rsqrt(variance + _EPSILON)
        constant = jnp.broadcast_to(self.shift @ self.kernel + self.bias, shape)
        return kernel, constant - jnp.einsum("...,h->...h", mean * inverse, kernel.sum(0)), inverse


class StateEmbedding(nn.Module):
    """LayerNorm and dense of [s, one-hot i] for every agent at the cost of one; without identity, of s alone."""

    features: int
    num_agents: int
    identity: bool
    layer_norm: bool

    @nn.compact
    def __call__(self, states: Array) -> Array:
        """[T, E, N, H] from states [T, E, S]; [T, E, 1, H] without identity."""
        size = states.shape[-1]
        inputs = size + (self.num_agents if self.identity else 0)
        dense = _NormedDense(inputs, self.features, self.layer_norm)
        ones = 1.0 if self.identity else 0.0  # the one-hot's sum, and its sum of squares
        mean = (states.sum(-1) + ones) / inputs
        centred = jnp.square(states - mean[..., None]).sum(-1)
        if self.identity:
            centred = centred + (self.num_agents - 1) * mean**2 + (1.0 - mean) ** 2
        kernel, constant, inverse = dense.parts(mean, centred / inputs)
        x = inverse[..., None] * (states @ kernel[:size]) + constant
        x = x[..., None, :]
        if self.identity:
            x = x + jnp.einsum("...,nh->...nh", inverse, kernel[size:])
        return finish(x, self.layer_norm)


class JointActionEmbedding(nn.Module):
    """LayerNorm and dense of the joint action with the policy in the agent's own slot, [T, E, N, H], in O(N)."""

    features: int
    layer_norm: bool
    own_slot: bool = True
    """Whether the agent's own slot holds its policy; else it is empty."""

    @nn.compact
    def __call__(self, actions: Array, probs: Array) -> Array:
        """[T, E, N, H] from actions [T, E, N] and probabilities [T, E, N, A]."""
        *_, num_agents, num_actions = probs.shape
        inputs = num_agents * num_actions
        dense = _NormedDense(inputs, self.features, self.layer_norm)
        if not self.own_slot:
            probs = jnp.zeros_like(probs)
        mean = 1.0 / num_actions if self.own_slot else (num_agents - 1) / inputs
        variance = (num_agents - 1 + jnp.square(probs).sum(-1)) / inputs - mean**2
        kernel, constant, inverse = dense.parts(mean, variance)
        slots = kernel.reshape(num_agents, num_actions, self.features)
        # The look-up W_j[a_j] as a product with the one-hot action: its gradient is a product too, not a scatter.
        one_hot = jax.nn.one_hot(actions, num_actions, dtype=probs.dtype)
        joint = one_hot.reshape(*one_hot.shape[:-2], inputs) @ kernel
        own = jnp.einsum("...na,nah->...nh", probs - one_hot, slots)
        x = (joint[..., None, :] + own) * inverse[..., None] + constant
        return finish(x, self.layer_norm)
