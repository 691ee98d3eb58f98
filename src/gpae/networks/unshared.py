r"""Networks that agents do not share: one for each agent, or one for each type of agents.

Each is the shared network with parameters of its own; all are kept as one tree with an axis in front, [G, ...], and run
by `jax.vmap`. With equal parameters they say what the shared network says, and its gradient is the sum of theirs.

    of N agents                      shared         one for each
    parameters                       P              N P
    first layer of a joint action    O(N A H)       O(N^2 A H): N kernels of N A inputs

The joint action is embedded without building any agent's input (`gpae.networks.embeddings`), here as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.networks.actor import Actor
from gpae.networks.critic import Critic, CriticInput, CriticOutput
from gpae.networks.layers import Carry
from gpae.networks.sizes import NetworkSizes, Sharing


def owners(sharing: Sharing, num_agents: int, types: Sequence[str] | None) -> tuple[int, ...] | None:
    """Which actor is whose: a number in [0, G) for each of N agents; None where all share one.

    Args:
      sharing: see `NetworkSizes.share_parameters`.
      num_agents: N.
      types: each agent's, N names; needed where those of a type share.
    """
    if sharing in ("critic", "false"):
        return tuple(range(num_agents))
    if sharing == "true" or (types is not None and len(set(types)) == 1):
        return None
    assert types is not None
    return tuple(map(list(dict.fromkeys(types)).index, types))


@dataclass(frozen=True)
class _Unshared:
    """G networks alike, with parameters [G, ...]."""

    network: Any
    """What each of them is."""
    owners: tuple[int, ...]
    """Which of them is whose, N numbers."""

    def of_agent(self, params: Any, agent: int) -> Any:
        """The parameters of one agent's network, from those of all."""
        return jax.tree.map(lambda x: x[self.owners[agent]], params)

    def of_agents(self, params: Any) -> Any:
        """The parameters of every agent's network, [N, ...]; those of a network's several owners stand there again."""
        if self.owners == tuple(range(len(self.owners))):
            return params
        return jax.tree.map(lambda x: x[np.asarray(self.owners)], params)

    def _init(self, key: Array, *seen: Any) -> Any:
        keys = jax.random.split(key, max(self.owners) + 1)
        # One after the other, not vmap: batched decompositions can wait for each other for ever.
        return jax.lax.map(lambda key: self.network.init(key, *seen), keys)


class UnsharedActor(_Unshared):
    """Actors of agents that do not share one; for each, the team has one agent."""

    network: Actor

    @property
    def sizes(self) -> NetworkSizes:
        """Of each."""
        return self.network.sizes

    @property
    def _alone(self) -> Actor:
        """The network of one agent, which is shown its index with the observation."""
        return self.network.clone(sizes=replace(self.sizes, actor_identity=False))

    def _seen(self, observations: Array) -> Array:
        if not self.sizes.actor_identity:
            return observations
        index = jnp.eye(len(self.owners), dtype=observations.dtype)
        return jnp.concatenate([observations, jnp.broadcast_to(index, (*observations.shape[:-1], len(index)))], -1)

    def init(self, key: Array, observations: Array, action_mask: Array, is_first: Array, carry: Carry) -> Any:
        """First parameters, [G, ...]; arguments as of `Actor`."""
        one = (self._seen(observations)[:, :, :1], action_mask[:, :, :1], is_first, jax.tree.map(_first, carry))
        return replace(self, network=self._alone)._init(key, *one)

    def apply(self, params: Any, observations: Array, *rest: Any, **more: Any) -> Any:
        """As `Actor.apply`, with parameters [G, ...]: the policy, [T, E, N], and the carry after every row."""
        *mask, is_first, carry = rest

        def one(params: Any, observations: Array, mask: Any, carry: Any) -> Any:
            team = [jnp.expand_dims(x, 2) for x in (observations, *mask)]
            before = jax.tree.map(lambda x: x[:, None], carry)
            return _only(self._alone.apply(params, *team, is_first, before, **more))

        each = jax.vmap(one, in_axes=(0, 2, 2, 1), out_axes=2)
        return each(self.of_agents(params), self._seen(observations), mask, carry)

    def noise(self, key: Array, *batch: int) -> Array:
        """What the policies choose actions by; `batch` ends with N."""
        return self.network.noise(key, *batch)

    def initial_carry(self, *batch: int) -> Carry:
        """The carry at the start of an episode; `batch` is (E, N)."""
        return self.network.initial_carry(*batch)


class UnsharedCritic(_Unshared):
    """Critics of agents that do not share one; each is shown what the shared one is shown of its agent."""

    network: Critic

    def init(self, key: Array, inputs: CriticInput, is_first: Array, carry: Carry) -> Any:
        """First parameters, [G, ...]; arguments as of `Critic`."""
        return self._init(key, inputs, is_first, jax.tree.map(_first, carry), jnp.int32(0))

    def apply(self, params: Any, inputs: CriticInput, is_first: Array, carry: Carry) -> CriticOutput:
        """As `Critic.apply`, with parameters [G, ...]."""

        def one(params: Any, agent: Array, carry: Any) -> Any:
            before = jax.tree.map(lambda x: x[:, None], carry)
            return _only(self.network.apply(params, inputs, is_first, before, agent))

        each = jax.vmap(one, in_axes=(0, 0, 1), out_axes=2)
        return each(self.of_agents(params), jnp.arange(len(self.owners)), carry)

    def initial_carry(self, num_envs: int) -> Carry:
        """The carry at the start of an episode, [E, N, H]."""
        return self.network.initial_carry(num_envs)


def _first(x: Array) -> Array:
    """Of the first agent, [E, 1, ...]."""
    return x[:, :1]


def _only(tree: Any) -> Any:
    """What is said of a team's only agent, [T, E, ...] from [T, E, 1, ...]."""
    return jax.tree.map(lambda x: x[:, :, 0], tree)
