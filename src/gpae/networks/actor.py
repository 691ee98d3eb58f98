"""The networks that act: from what one agent has seen to a policy over its actions, or to a value of each."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.networks.distributions import Categorical, DiagonalNormal, Distribution, epsilon_greedy, masked, normal
from gpae.networks.layers import Carry, Core, Dense, Torso
from gpae.networks.normalisers import InputNormaliser
from gpae.networks.sizes import ContinuousPolicy, NetworkSizes
from gpae.threefry import gumbel

LOG_SCALES = (-5.0, 2.0)
"""Between what the logarithm of a continuous policy's scale is kept."""


class Actor(nn.Module):
    """pi^i(. | tau^i), with parameters shared between agents: LayerNorm, dense layers, GRU, dense layers, linear."""

    num_actions: int
    sizes: NetworkSizes
    head_scale: float = 0.01
    """Of the initial weights of the last layer."""

    def __call__(
        self, observations: Array, action_mask: Array, is_first: Array, carry: Carry
    ) -> tuple[Distribution, Carry]:
        """The policy of every row, [T, E, N], and the carry after every row.

        Args:
          observations: [T, E, N, O].
          action_mask: [T, E, N, A] bool, the legal actions, or components that the agent has.
          is_first: [T, E] bool, rows that begin an episode; or [T, E, N], where agents forget one by one.
          carry: [E, N, H], the carry before the first row.
        """
        logits, carries = self.logits(observations, is_first, carry)
        return masked(logits, action_mask), carries

    @nn.compact
    def logits(self, observations: Array, is_first: Array, carry: Carry) -> tuple[Array, Carry]:
        """One number per action, legal or not, [T, E, N, A], and the carry after every row, [T, E, N, H]."""
        x, sizes = observations, self.sizes
        if sizes.normalise_observations:
            x = InputNormaliser(name="observations")(x)
        if sizes.actor_identity:
            num_agents = x.shape[-2]
            x = jnp.concatenate([x, jnp.broadcast_to(jnp.eye(num_agents), (*x.shape[:-1], num_agents))], axis=-1)
        if sizes.layer_norm:
            x = nn.LayerNorm()(x)
        x = Torso(sizes.hidden_size, sizes.actor_layers, sizes.layer_norm)(x)
        x, carries = Core(sizes.hidden_size, sizes.recurrent, sizes.layer_norm)(x, is_first, carry)
        x = Torso(sizes.hidden_size, sizes.head_layers, sizes.layer_norm)(x)
        return Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.head_scale))(x), carries

    @property
    def outputs(self) -> int:
        """Numbers that the last layer makes."""
        return self.num_actions

    def noise(self, key: Array, *batch: int) -> Array:
        """What the policy chooses actions by (`Distribution.chosen_by`), [*batch, A]."""
        return gumbel(key, (*batch, self.num_actions))

    def initial_carry(self, *batch: int) -> Carry:
        """The carry at the start of an episode; `batch` is (E, N)."""
        return Core(self.sizes.hidden_size, self.sizes.recurrent, parent=None).initial_carry(*batch)


class ContinuousActor(Actor):
    """pi^i(. | tau^i) over vectors of D = `num_actions` numbers, with the actor's layers: a diagonal normal."""

    low: float = -1.0
    high: float = 1.0
    policy: ContinuousPolicy = ContinuousPolicy()

    def __call__(
        self, observations: Array, action_mask: Array, is_first: Array, carry: Carry
    ) -> tuple[DiagonalNormal, Carry]:
        """The policy of every row, [T, E, N], and the carry after every row; see `Actor`."""
        numbers, carries = self.logits(observations, is_first, carry)
        mean, log_scale = jnp.split(numbers, 2, axis=-1)
        policy = DiagonalNormal(
            mean=mean,
            log_scale=jnp.clip(log_scale, *LOG_SCALES),
            mask=action_mask,
            low=self.low,
            high=self.high,
            squashed=self.policy.squash,
            show_scale=self.policy.show_scale,
        )
        return policy, carries

    @nn.compact
    def logits(self, observations: Array, is_first: Array, carry: Carry) -> tuple[Array, Carry]:
        """Means and logarithms of scales, [T, E, N, 2 D], and the carry after every row, [T, E, N, H]."""
        numbers, carries = super().logits(observations, is_first, carry)
        if self.policy.action_scale == "free":
            free = self.param("log_scale", nn.initializers.zeros_init(), (self.num_actions,))
            numbers = jnp.concatenate([numbers, jnp.broadcast_to(free, numbers.shape)], axis=-1)
        return numbers, carries

    def noise(self, key: Array, *batch: int) -> Array:
        """What the policy chooses actions by, [*batch, D]."""
        return normal(key, (*batch, self.num_actions))

    @property
    def outputs(self) -> int:
        """D means, and D scales where they depend on what the agent has seen."""
        return self.num_actions * (2 if self.policy.action_scale == "state" else 1)


class QNetwork(Actor):
    """Q^i(tau^i, .), with the actor's layers; as a policy it is epsilon-greedy.

    `logits` are the values, of illegal actions too: what is legal is for the policy, and for the maximum in a target.
    """

    head_scale: float = 1.0
    epsilon: float = 0.05
    """How often an action is drawn evenly from the legal ones, unless a call says otherwise."""

    def __call__(
        self,
        observations: Array,
        action_mask: Array,
        is_first: Array,
        carry: Carry,
        epsilon: Array | None = None,
    ) -> tuple[Categorical, Carry]:
        """The epsilon-greedy policy of every row, [T, E, N], and the carry after every row; see `Actor`."""
        values, carries = self.logits(observations, is_first, carry)
        return epsilon_greedy(values, action_mask, self.epsilon if epsilon is None else epsilon), carries
