"""Critics that share what they learn of one agent with all others, for `--import studies/pooled_critic.py`."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gpae.algorithms.base import algorithm
from gpae.algorithms.gpae import GPAE
from gpae.algorithms.mappo import MAPPO
from gpae.envs.protocol import EnvSpec
from gpae.networks import CriticInput, CriticOutput, CriticSizes, InputNormaliser, ValueScale
from gpae.networks.layers import Carry, Core, Dense, Torso
from gpae.settings import settings


class PooledCritic(nn.Module):
    """A value per agent from the mean of what one small network says of each agent."""

    num_agents: int
    sizes: CriticSizes
    joint_action: bool = True
    """Whether it looks at each agent's action too, with the policy's probabilities as the own one: EQ^i; else V."""
    expected: bool = False
    """Also learn the mean of EQ^i over the others' policies."""

    @nn.compact
    def __call__(self, inputs: CriticInput, is_first: Array, carry: Carry) -> CriticOutput:
        """See `gpae.networks.Critic`."""
        sizes, hidden, seen = self.sizes, self.sizes.hidden_size, inputs.view.observations
        if sizes.normalise_observations:
            seen = InputNormaliser(name="observations")(seen)
        looks = Torso(sizes.embedding_size, layer_norm=sizes.layer_norm, name="agents")(seen)
        team = looks.mean(-2, keepdims=True)
        x, expected = jnp.broadcast_to(team, looks.shape), None
        if self.expected:
            head = Torso(hidden, max(sizes.critic_layers, 1), sizes.layer_norm, name="expected_torso")(team)
            head = Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="expected")(head)[..., 0]
            expected = jnp.broadcast_to(head, looks.shape[:-1])
        if self.joint_action:
            look = Torso(sizes.embedding_size, 1, sizes.layer_norm, name="actions")
            taken = jax.nn.one_hot(inputs.actions, inputs.own_slot.shape[-1], dtype=seen.dtype)
            acts, own = (look(jnp.concatenate([seen, a], axis=-1)) for a in (taken, inputs.own_slot))
            x = jnp.concatenate([x, acts.mean(-2, keepdims=True) + (own - acts) / self.num_agents], axis=-1)
        x = Torso(hidden, sizes.critic_layers, sizes.layer_norm)(x)
        x, carries = Core(hidden, sizes.recurrent, sizes.layer_norm)(x, is_first, carry)
        x = Torso(hidden, sizes.head_layers, sizes.layer_norm)(x)
        values = Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(x)[..., 0]
        if sizes.normalise_values:
            scale = ValueScale(name="values")
            values, expected = scale(values), expected if expected is None else scale(expected)
        return CriticOutput(values=values, carries=carries, expected=expected)

    def initial_carry(self, num_envs: int) -> Carry:
        """See `gpae.networks.Critic`."""
        return Core(self.sizes.hidden_size, self.sizes.recurrent, parent=None).initial_carry(num_envs, self.num_agents)


UNUSED = dict.fromkeys(("critic_identity", "normalise_state"), "the critic sees neither an index nor the state")
"""Settings of critics that this one does not look at."""


@algorithm("gpae-pooled", source="this project")
@settings
class PooledGPAE(GPAE):
    """GPAE with a pooled critic of observations and actions."""

    takes_continuous: ClassVar[bool] = False

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        return super().idle() | UNUSED

    def critic(self, spec: EnvSpec) -> PooledCritic:
        """The network."""
        return PooledCritic(spec.num_agents, self.networks, expected=self.following == "expected")


@algorithm("mappo-pooled", source="this project")
@settings
class PooledMAPPO(MAPPO):
    """MAPPO with a pooled critic of observations."""

    takes_continuous: ClassVar[bool] = False

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        return super().idle() | UNUSED

    def critic(self, spec: EnvSpec) -> PooledCritic:
        """The network."""
        return PooledCritic(spec.num_agents, self.networks, joint_action=False)
