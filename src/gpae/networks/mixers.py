r"""Mixers: the team's value from the values of the actions that the agents took.

    IdentityMixer    IQL    none is made: each agent's value has a target of its own
    SumMixer         VDN    Q_tot = sum_i Q^i
    MonotoneMixer    QMIX   Q_tot = |w_2(s)| . elu( |W_1(s)| Q + b_1(s) ) + V(s)

In all of them dQ_tot / dQ^i >= 0, so that the joint action with the greatest team value is the one where every agent
takes its own best action. Every mixer maps values [..., N] and states [..., S] to [..., M], with M = 1 values of the
team, or M = N where each agent is on its own.

Dead agents are mixed like the living: they see zeros and have one legal action, so that their value is a constant.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.layers import ORTHOGONAL, Dense
from gpae.networks.normalisers import InputNormaliser

Mixer = Any
"""A module `(values [..., N], states [..., S]) -> [..., M]`."""


class IdentityMixer(nn.Module):
    """Each agent's value for itself, M = N: independent Q-learning."""

    def __call__(self, values: Array, states: Array) -> Array:
        """[..., N] from values [..., N]."""
        return values


class SumMixer(nn.Module):
    """The sum of the agents' values, M = 1.

    Source: Sunehag et al. 2018 (arXiv 1706.05296), Eq. 4.
    """

    def __call__(self, values: Array, states: Array) -> Array:
        """[..., 1] from values [..., N]."""
        return values.sum(-1, keepdims=True)


class MonotoneMixer(nn.Module):
    r"""QMIX's mixer, M = 1: a network of one hidden layer whose weights, made from the state, are not negative.

        Q_tot = |w_2(s)| . elu( |W_1(s)| Q + b_1(s) ) + V(s)

    W_1 [N, K] and w_2 [K] are made by networks of one hidden layer, b_1 [K] by a linear one, V by one of one hidden
    layer. The initial weights are such that dQ_tot / dQ^i is around 1, as in VDN, at the start.

    Source: Rashid et al. 2018 (arXiv 1803.11485), section 4.
    """

    embedding_size: int = 32
    """K."""
    hypernet_size: int = 64
    """Width of the hidden layers of the networks that make the weights."""
    layer_norm: bool = True
    """LayerNorm on the state."""
    normalise: bool = False
    """Before it each number of the state is shifted and scaled by what it was so far."""

    @nn.compact
    def __call__(self, values: Array, states: Array) -> Array:
        """[..., 1] from values [..., N] and states [..., S]."""
        num_agents, size = values.shape[-1], self.embedding_size
        x = InputNormaliser(name="state")(states) if self.normalise else states
        x = nn.LayerNorm(name="state_norm")(x) if self.layer_norm else x

        def made(name: str, features: int, hidden: int, scale: float) -> Array:
            middle = nn.relu(Dense(hidden, kernel_init=ORTHOGONAL, name=f"{name}_hidden")(x))
            return Dense(features, kernel_init=nn.initializers.orthogonal(scale), name=name)(middle)

        first = jnp.abs(made("first", num_agents * size, self.hypernet_size, 1.0))
        first = first.reshape(*first.shape[:-1], num_agents, size)
        bias = Dense(size, name="bias")(x)
        hidden = nn.elu(jnp.einsum("...n,...nk->...k", values, first) + bias)
        second = jnp.abs(made("second", size, self.hypernet_size, 0.1))
        return jnp.sum(hidden * second, axis=-1, keepdims=True) + made("value", 1, size, 1.0)
