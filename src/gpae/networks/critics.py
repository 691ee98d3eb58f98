r"""Critics: one network with parameters shared between agents, told apart by what it is shown.

    "joint_action"     EQ^i(s, a^-i): state, and the joint action with agent i's slot holding its policy's probabilities
    "others_actions"   state, and the joint action with agent i's slot empty: for a value Q^i(s, a^-i, .) per own action
    "state"            V^i(s): the state
    "observation"      V^i(tau^i): what agent i sees

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

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from gpae.errors import unknown_name
from gpae.networks.recurrent import ORTHOGONAL, Core, Dense, Memory, Torso, finish

CRITIC_INPUTS = ("joint_action", "others_actions", "state", "observation")
_EPSILON = 1e-6  # flax's LayerNorm


@struct.dataclass
class CriticInputs:
    """Everything a critic may be shown; each kind takes its own."""

    states: Array
    """[T, E, S]."""
    observations: Array
    """[T, E, N, O]."""
    actions: Array
    """[T, E, N] int32, the actions taken."""
    probs: Array
    """[T, E, N, A], the probabilities of the current policy at the start of the update."""


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


class CriticOutputs(NamedTuple):
    """What a critic returns."""

    values: Array
    """EQ^i or V^i, [T, E, N]; a value per own action, [T, E, N, A], where there are several `outputs`."""
    memories: Memory
    """The memory after every row, [T, E, M, H]."""
    expected: Array | None
    """V^i, the mean of EQ^i over the others' policies, [T, E, N]; None where it is not learnt."""


class Critic(nn.Module):
    """A value per agent: embeddings of what the critic is shown, joined; dense layers; GRU; dense layers; linear."""

    inputs: str
    """One of `CRITIC_INPUTS`."""
    num_agents: int
    outputs: int = 1
    """Values per agent: 1, or one for each of its actions."""
    hidden_size: int = 128
    embedding_size: int = 64
    num_layers: int = 1
    head_layers: int = 0
    """Dense layers after the memory."""
    recurrent: bool = True
    layer_norm: bool = True
    identity: bool = True
    """Whether the agent's index stands beside the state; without it a state critic is evaluated once per state."""
    expected: bool = False
    """Also learn the mean of EQ^i over the others' policies, by a head on the embedding of the state. The head has no
    memory: the state tells all that the others' policies and the future depend on but their histories."""

    def __post_init__(self) -> None:
        """Refuses unknown inputs, which would otherwise pass for the state."""
        if self.inputs not in CRITIC_INPUTS:
            raise unknown_name("critic input", self.inputs, CRITIC_INPUTS)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: CriticInputs, starts: Array, memory: Memory) -> CriticOutputs:
        """Values, and the memory after every row (M: see `rows`).

        Args:
          inputs: what is seen, [T, E, ...].
          starts: [T, E] bool.
          memory: [E, M, H], the memory before the first row.
        """
        if self.inputs == "observation":
            x = inputs.observations
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = Torso(self.embedding_size, layer_norm=self.layer_norm)(x)
        else:
            x = StateEmbedding(self.embedding_size, self.num_agents, self.identity, self.layer_norm)(inputs.states)
        expected = None
        if self.expected:
            head = Torso(self.hidden_size, max(self.num_layers, 1), self.layer_norm, name="expected_torso")(x)
            head = Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="expected")(head)[..., 0]
            expected = jnp.broadcast_to(head, (*head.shape[:-1], self.num_agents))
        if self.inputs in ("joint_action", "others_actions"):
            own_slot = self.inputs == "joint_action"
            joint = JointActionEmbedding(self.embedding_size, self.layer_norm, own_slot)(inputs.actions, inputs.probs)
            x = jnp.concatenate([jnp.broadcast_to(x, joint.shape), joint], axis=-1)
        x = Torso(self.hidden_size, self.num_layers, self.layer_norm)(x)
        x, memories = Core(self.hidden_size, self.recurrent, self.layer_norm)(x, starts, memory)
        x = Torso(self.hidden_size, self.head_layers, self.layer_norm)(x)
        values = Dense(self.outputs, kernel_init=nn.initializers.orthogonal(1.0))(x)
        values = jnp.broadcast_to(values, (*values.shape[:-2], self.num_agents, self.outputs))
        values = values[..., 0] if self.outputs == 1 else values
        return CriticOutputs(values=values, memories=memories, expected=expected)

    @property
    def rows(self) -> int:
        """How often the network is evaluated per state: once per agent, or once where agents are not told apart."""
        return 1 if self.inputs == "state" and not self.identity else self.num_agents

    def initial_memory(self, num_envs: int) -> Memory:
        """The memory at the start of an episode, [E, M, H]."""
        return Core(self.hidden_size, self.recurrent, parent=None).initial_memory(num_envs, self.rows)
