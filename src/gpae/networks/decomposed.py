"""The critic of DOP: the team's value as a weighted sum of the agents' own."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.critics import CriticInputs, StateEmbedding
from gpae.networks.recurrent import Core, Dense, Memory, Torso


class DecomposedOutputs(NamedTuple):
    """What the decomposed critic returns."""

    action_values: Array
    """Q_i(s, tau^i, a) of every own action, [T, E, N, A]."""
    weights: Array
    """k_i(s) >= 0, summing to 1 over the agents, [T, E, N]."""
    memories: Memory
    """The memory after every row, [T, E, N, H]."""

    def of(self, probs: Array) -> Array:
        """The mean of Q_tot over the agents' policies `probs` [T, E, N, A], exact since Q_tot is linear: [T, E]."""
        return jnp.sum(self.weights * jnp.sum(probs * self.action_values, axis=-1), axis=-1)


class DecomposedCritic(nn.Module):
    r"""Q_tot(s, a) = sum_i k_i(s) Q_i(s, tau^i, a^i).

    Q_i = v_i + (a value per action), from state, observation and agent index, parameters shared; it is shown nobody's
    action. k = |W_1(s)| |w_2(s)|, both linear in s, scaled to sum to 1 over the agents.

    Source: Wang et al. 2021 (arXiv 2007.12322), Eq. 5, and its released code, which has no bias b(s) either.
    """

    num_agents: int
    num_actions: int
    hidden_size: int = 128
    embedding_size: int = 64
    num_layers: int = 1
    head_layers: int = 0
    recurrent: bool = True
    layer_norm: bool = True
    identity: bool = True
    mixing_size: int = 32
    """Width of the product that gives k."""

    @nn.compact
    def __call__(self, inputs: CriticInputs, starts: Array, memory: Memory) -> DecomposedOutputs:
        """Values per action, weights, and the memory after every row.

        Args:
          inputs: what is seen, [T, E, ...].
          starts: [T, E] bool.
          memory: [E, N, H], the memory before the first row.
        """
        state = StateEmbedding(self.embedding_size, self.num_agents, self.identity, self.layer_norm)(inputs.states)
        x = nn.LayerNorm()(inputs.observations) if self.layer_norm else inputs.observations
        x = Torso(self.embedding_size, layer_norm=self.layer_norm)(x)
        x = jnp.concatenate([jnp.broadcast_to(state, x.shape), x], axis=-1)
        x = Torso(self.hidden_size, self.num_layers, self.layer_norm)(x)
        x, memories = Core(self.hidden_size, self.recurrent, self.layer_norm)(x, starts, memory)
        x = Torso(self.hidden_size, self.head_layers, self.layer_norm)(x)
        value = Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(x)
        action_values = value + Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(0.01))(x)

        states = nn.LayerNorm()(inputs.states) if self.layer_norm else inputs.states
        each = jnp.abs(Dense(self.num_agents * self.mixing_size)(states))
        each = each.reshape(*states.shape[:-1], self.num_agents, self.mixing_size)
        weights = jnp.einsum("...nm,...m->...n", each, jnp.abs(Dense(self.mixing_size)(states)))
        weights = weights / (weights.sum(-1, keepdims=True) + 1e-8)
        return DecomposedOutputs(action_values=action_values, weights=weights, memories=memories)

    def initial_memory(self, num_envs: int) -> Memory:
        """The memory at the start of an episode, [E, N, H]."""
        return Core(self.hidden_size, self.recurrent, parent=None).initial_memory(num_envs, self.num_agents)
