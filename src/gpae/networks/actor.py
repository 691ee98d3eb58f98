"""The actor: from what one agent has seen to a policy over its actions."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.distributions import log_policy
from gpae.networks.recurrent import Core, Dense, Memory, Torso


class Actor(nn.Module):
    """pi^i(. | tau^i), with parameters shared between agents: LayerNorm, dense layers, GRU, dense layers, linear."""

    num_actions: int
    hidden_size: int = 128
    num_layers: int = 2
    head_layers: int = 0
    """Dense layers after the memory."""
    recurrent: bool = True
    layer_norm: bool = True
    identity: bool = False
    """Whether a one-hot agent index is appended to the observation."""
    head_scale: float = 0.01
    """Of the initial weights of the last layer."""

    def __call__(
        self, observations: Array, legal_actions: Array, starts: Array, memory: Memory
    ) -> tuple[Array, Memory]:
        """Log-probabilities of all actions, and the memory after every row.

        Args:
          observations: [T, E, N, O].
          legal_actions: [T, E, N, A] bool.
          starts: [T, E] bool, rows that begin an episode.
          memory: [E, N, H], the memory before the first row.

        Returns:
          log pi, [T, E, N, A], and memories, [T, E, N, H].
        """
        logits, memories = self.logits(observations, starts, memory)
        return log_policy(logits, legal_actions), memories

    @nn.compact
    def logits(self, observations: Array, starts: Array, memory: Memory) -> tuple[Array, Memory]:
        """One number per action, legal or not, [T, E, N, A], and the memory after every row, [T, E, N, H]."""
        x = observations
        if self.identity:
            num_agents = x.shape[-2]
            x = jnp.concatenate([x, jnp.broadcast_to(jnp.eye(num_agents), (*x.shape[:-1], num_agents))], axis=-1)
        if self.layer_norm:
            x = nn.LayerNorm()(x)
        x = Torso(self.hidden_size, self.num_layers, self.layer_norm)(x)
        x, memories = Core(self.hidden_size, self.recurrent, self.layer_norm)(x, starts, memory)
        x = Torso(self.hidden_size, self.head_layers, self.layer_norm)(x)
        return Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(self.head_scale))(x), memories

    def initial_memory(self, *batch: int) -> Memory:
        """The memory at the start of an episode; `batch` is (E, N)."""
        return Core(self.hidden_size, self.recurrent, parent=None).initial_memory(*batch)
