r"""Critics: one network with parameters shared between agents, told apart by what it is shown.

    "joint_action"     EQ^i(s, a^-i): state, and the joint action with agent i's slot holding its policy's probabilities
                       (of a continuous action its mean)
    "others_actions"   state, and the joint action with agent i's slot empty: for a value Q^i(s, a^-i, .) per own action
    "state"            V^i(s): the state
    "observation"      V^i(tau^i): what agent i sees
    "seen_and_joint_action"  EQ^i(tau^i, a^-i): what agent i sees, and the joint action as above

The embeddings of state and joint action cost no more for N agents than for one (`gpae.networks.embeddings`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from gpae.networks.embeddings import JointActionEmbedding, RealActions, StateEmbedding, of_agent
from gpae.networks.layers import Carry, Core, Dense, Torso
from gpae.networks.normalisers import InputNormaliser, ValueScale
from gpae.networks.sizes import CriticSizes
from gpae.types import View

Shown = Literal["joint_action", "others_actions", "state", "observation", "seen_and_joint_action"]
"""What a critic is shown."""


@struct.dataclass
class CriticInput:
    """Everything a critic may be shown; each kind takes its own."""

    view: View
    """Leaves [T, E, ...]."""
    actions: Array
    """The actions taken, [T, E, N] int32; [T, E, N, D] float32 where they are continuous."""
    own_slot: Array
    """What stands in an agent's own slot of the joint action: the probabilities of the policy at the start of the
    update, [T, E, N, A]; of continuous actions the mean [T, E, N, D], or mean and scale [T, E, N, 2 D]."""


class CriticOutput(NamedTuple):
    """What a critic returns."""

    values: Array
    """EQ^i or V^i, [T, E, N]; a value per own action, [T, E, N, A], where there are several `outputs`."""
    carries: Carry
    """The carry after every row, [T, E, M, H]."""
    expected: Array | None
    """V^i, the mean of EQ^i over the others' policies, [T, E, N]; None where it is not learnt."""


class Critic(nn.Module):
    """A value per agent: embeddings of what the critic is shown, joined; dense layers; GRU; dense layers; linear."""

    shown: Shown
    num_agents: int
    sizes: CriticSizes
    outputs: int = 1
    """Values per agent: 1, or one for each of its actions."""
    expected: bool = False
    """Also learn the mean of EQ^i over the others' policies, by a head on the embedding of the state. The head has no
    memory: the state tells all that the others' policies and the future depend on but their histories."""

    box: RealActions = RealActions()
    """How continuous actions are shown."""

    @nn.compact
    def __call__(self, inputs: CriticInput, is_first: Array, carry: Carry, agent: Array | None = None) -> CriticOutput:
        """Values, and the carry after every row (M: see `rows`).

        Args:
          inputs: what is seen, [T, E, ...].
          is_first: [T, E] bool; or [T, E, N], where agents forget one by one.
          carry: [E, M, H], the carry before the first row.
          agent: [] int32, to evaluate the network for this agent alone: N and M are then 1. None: for all.
        """
        sizes = self.sizes
        hidden, layer_norm = sizes.hidden_size, sizes.layer_norm
        num_agents = self.num_agents if agent is None else 1
        if self.shown in ("observation", "seen_and_joint_action"):
            x = of_agent(inputs.view.observations, agent, 2)
            if sizes.normalise_observations:
                x = InputNormaliser(name="observations")(x)
            if layer_norm:
                x = nn.LayerNorm()(x)
            x = Torso(sizes.embedding_size, layer_norm=layer_norm)(x)
        else:
            embedding = StateEmbedding(sizes.embedding_size, self.num_agents, sizes.critic_identity, layer_norm)
            x = inputs.view.state
            x = embedding(InputNormaliser(name="state")(x) if sizes.normalises_state else x, agent)
        expected = None
        if self.expected:
            head = Torso(hidden, max(sizes.critic_layers, 1), layer_norm, name="expected_torso")(x)
            head = Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="expected")(head)[..., 0]
            expected = jnp.broadcast_to(head, (*head.shape[:-1], num_agents))
        if self.shown in ("joint_action", "others_actions", "seen_and_joint_action"):
            own_slot = self.shown != "others_actions"
            embedded = JointActionEmbedding(sizes.embedding_size, layer_norm, own_slot, self.box)
            joint = embedded(inputs.actions, inputs.own_slot, agent)
            x = jnp.concatenate([jnp.broadcast_to(x, joint.shape), joint], axis=-1)
        x = Torso(hidden, sizes.critic_layers, layer_norm)(x)
        x, carries = Core(hidden, sizes.recurrent, layer_norm)(x, is_first, carry)
        x = Torso(hidden, sizes.head_layers, layer_norm)(x)
        values = Dense(self.outputs, kernel_init=nn.initializers.orthogonal(1.0))(x)
        values = jnp.broadcast_to(values, (*values.shape[:-2], num_agents, self.outputs))
        values = values[..., 0] if self.outputs == 1 else values
        if sizes.normalise_values:
            scale = ValueScale(name="values")
            values, expected = scale(values), expected if expected is None else scale(expected)
        return CriticOutput(values=values, carries=carries, expected=expected)

    @property
    def rows(self) -> int:
        """How often the network is evaluated per state: once per agent, or once where agents are not told apart."""
        return 1 if self.shown == "state" and not self.sizes.critic_identity else self.num_agents

    def initial_carry(self, num_envs: int) -> Carry:
        """The carry at the start of an episode, [E, M, H]."""
        return Core(self.sizes.hidden_size, self.sizes.recurrent, parent=None).initial_carry(num_envs, self.rows)
