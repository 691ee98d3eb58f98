"""The critic of DOP: the team's value as a weighted sum of the agents' own."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.critic import CriticInput
from gpae.networks.embeddings import StateEmbedding
from gpae.networks.layers import Carry, Core, Dense, Torso
from gpae.networks.normalisers import InputNormaliser, ValueScale
from gpae.networks.sizes import CriticSizes


class DecomposedOutput(NamedTuple):
    """What the decomposed critic returns."""

    action_values: Array
    """Q_i(s, tau^i, a) of every own action, [T, E, N, A]."""
    weights: Array
    """k_i(s) >= 0, summing to 1 over the agents, [T, E, N]."""
    carries: Carry
    """The carry after every row, [T, E, N, H]."""

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
    sizes: CriticSizes
    mixing_size: int = 32
    """Width of the product that gives k."""

    @nn.compact
    def __call__(self, inputs: CriticInput, is_first: Array, carry: Carry) -> DecomposedOutput:
        """Values per action, weights, and the carry after every row.

        Args:
          inputs: what is seen, [T, E, ...].
          is_first: [T, E] bool.
          carry: [E, N, H], the carry before the first row.
        """
        sizes = self.sizes
        hidden, layer_norm = sizes.hidden_size, sizes.layer_norm
        observations, states = inputs.view.observations, inputs.view.state
        if sizes.normalise_observations:
            observations = InputNormaliser(name="observations")(observations)
        if sizes.normalises_state:
            states = InputNormaliser(name="state")(states)
        state = StateEmbedding(sizes.embedding_size, self.num_agents, sizes.critic_identity, layer_norm)(states)
        x = nn.LayerNorm()(observations) if layer_norm else observations
        x = Torso(sizes.embedding_size, layer_norm=layer_norm)(x)
        x = jnp.concatenate([jnp.broadcast_to(state, x.shape), x], axis=-1)
        x = Torso(hidden, sizes.critic_layers, layer_norm)(x)
        x, carries = Core(hidden, sizes.recurrent, layer_norm)(x, is_first, carry)
        x = Torso(hidden, sizes.head_layers, layer_norm)(x)
        value = Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(x)
        action_values = value + Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(0.01))(x)
        if sizes.normalise_values:  # weights sum to 1: so is their sum
            action_values = ValueScale(name="values")(action_values)

        states = nn.LayerNorm()(states) if layer_norm else states
        each = jnp.abs(Dense(self.num_agents * self.mixing_size)(states))
        each = each.reshape(*states.shape[:-1], self.num_agents, self.mixing_size)
        weights = jnp.einsum("...nm,...m->...n", each, jnp.abs(Dense(self.mixing_size)(states)))
        weights = weights / (weights.sum(-1, keepdims=True) + 1e-8)
        return DecomposedOutput(action_values=action_values, weights=weights, carries=carries)

    def initial_carry(self, num_envs: int) -> Carry:
        """The carry at the start of an episode, [E, N, H]."""
        return Core(self.sizes.hidden_size, self.sizes.recurrent, parent=None).initial_carry(num_envs, self.num_agents)
