r"""Embeddings of the state and of the joint action, for every agent at the cost of one.

**The joint-action critic in O(N).** Agent i's input x_i is a vector of N slots of A numbers: one-hot actions in the
others' slots, the probabilities pi^i in its own. Evaluated one by one, N such vectors cost O(N^2 A). But the first
layer is linear: with its kernel W cut into the slots' pieces W_j [A, H],

    W x_i = sum_j W_j[a_j] - W_i[a_i] + pi^i W_i

which is one sum over agents, one look-up and one small product per agent. A LayerNorm in front (scale g, bias b)
folds in, since every slot sums to one: with n = N A inputs

    mean(x_i) = 1 / A        var(x_i) = (N - 1 + sum_a pi^i(a)^2) / n - mean^2
    W (g (x_i - mean) / sd + b) = [ (W g) x_i - mean (W g) 1 ] / sd + W b

A continuous action is a slot of real numbers, the mean of pi^i in its own, and W x_i = sum_j W_j a_j + W_i (m_i - a_i)
just so. Such slots do not sum to one: with a_j' the slots less the mean c over all of them, and m_i' likewise,

    d_i = sum (m_i' - a_i') / n
    mean(x_i) = c + d_i        var(x_i) = [ sum_j sum a_j'^2 + sum (m_i'^2 - a_i'^2) ] / n - d_i^2

An empty slot is one with pi^i = 0; the mean is then (N - 1) / n. The state half of the input, [s, one-hot i], has the
same mean and variance for all agents, and its product with the kernel differs only by the row of i; it is computed once
per state. All of it equals the plain network (`tests/networks`).
"""

from __future__ import annotations

from typing import NamedTuple

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
    def __call__(self, states: Array, agent: Array | None = None) -> Array:
        """[T, E, N, H] from states [T, E, S]; [T, E, 1, H] without identity, or of one `agent` alone."""
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
            x = x + jnp.einsum("...,nh->...nh", inverse, of_agent(kernel[size:], agent, 0))
        return finish(x, self.layer_norm)


class RealActions(NamedTuple):
    """How continuous actions are shown to a critic: in units of half the width of their box, around its centre."""

    low: float = -1.0
    high: float = 1.0
    normalise: bool = False
    """LayerNorm on the joint action. It hides its mean and its spread; one-hot actions have always the same."""

    def scaled(self, actions: Array, shown: Array) -> tuple[Array, Array]:
        """The slots [..., N, K] of actions [..., N, D], filled with zeros, and the own ones: a mean, then a scale."""
        centre, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        size, width = actions.shape[-1], shown.shape[-1]
        taken = jnp.pad((actions - centre) / half, [(0, 0)] * (actions.ndim - 1) + [(0, width - size)])
        return taken, jnp.concatenate([shown[..., :size] - centre, shown[..., size:]], axis=-1) / half


class JointActionEmbedding(nn.Module):
    """LayerNorm and dense of the joint action with the policy in the agent's own slot, [T, E, N, H], in O(N)."""

    features: int
    layer_norm: bool
    own_slot: bool = True
    """Whether the agent's own slot holds its policy; else it is empty."""
    box: RealActions = RealActions()
    """How continuous actions are shown."""

    @nn.compact
    def __call__(self, actions: Array, shown: Array, agent: Array | None = None) -> Array:
        """[T, E, N, H] from actions and what own slots show: [T, E, N] and probabilities [T, E, N, A]; or [T, E, N, D]
        and mean, or mean and scale, [T, E, N, D or 2 D], where the others' slots have no scale. Of one `agent` alone,
        [] int32, [T, E, 1, H].
        """
        *_, num_agents, size = shown.shape
        inputs = num_agents * size
        real = actions.ndim == shown.ndim
        norm = self.layer_norm and (self.box.normalise or not real)
        dense = _NormedDense(inputs, self.features, norm)
        if real:
            taken, shown = self.box.scaled(actions, shown)
        else:
            # The look-up W_j[a_j] as a product with the one-hot action: its gradient is a product too, not a scatter.
            taken = jax.nn.one_hot(actions, size, dtype=shown.dtype)
        if not self.own_slot:
            shown = jnp.zeros_like(shown)
        mean: Array | float
        if real:
            mean, variance = (of_agent(x, agent, 2) for x in _moments(taken, shown))
        else:
            mean = 1.0 / size if self.own_slot else (num_agents - 1) / inputs
            variance = (num_agents - 1 + jnp.square(of_agent(shown, agent, 2)).sum(-1)) / inputs - mean**2
        kernel, constant, inverse = dense.parts(mean, variance)
        slots = kernel.reshape(num_agents, size, self.features)
        joint = taken.reshape(*taken.shape[:-2], inputs) @ kernel
        own = jnp.einsum("...na,nah->...nh", of_agent(shown - taken, agent, 2), of_agent(slots, agent, 0))
        x = (joint[..., None, :] + own) * inverse[..., None] + constant
        return finish(x, self.layer_norm)


def of_agent(x: Array, agent: Array | None, axis: int) -> Array:
    """`x` [..., N, ...] of one agent alone, [..., 1, ...]; None: of all."""
    return x if agent is None else jax.lax.dynamic_index_in_dim(x, agent, axis)


def _moments(taken: Array, shown: Array) -> tuple[Array, Array]:
    """Mean and variance, [..., N], of all slots `taken` [..., N, K] with the own one as in `shown` [..., N, K]."""
    inputs = taken.shape[-1] * taken.shape[-2]
    common = taken.mean((-2, -1), keepdims=True)
    taken, shown = taken - common, shown - common  # centred before they are squared
    shift = (shown - taken).sum(-1) / inputs
    squares = jnp.square(taken).sum((-2, -1))[..., None] + (jnp.square(shown) - jnp.square(taken)).sum(-1)
    return common[..., 0] + shift, jnp.maximum(squares / inputs - jnp.square(shift), 0.0)
