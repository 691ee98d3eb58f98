"""The network of value-based methods: from what one agent has seen to the value of each of its actions."""

from __future__ import annotations

from jax import Array

from gpae.networks.actor import Actor
from gpae.networks.distributions import epsilon_greedy
from gpae.networks.recurrent import Memory


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
        legal_actions: Array,
        starts: Array,
        memory: Memory,
        epsilon: Array | None = None,
    ) -> tuple[Array, Memory]:
        """Log-probabilities of all actions, [T, E, N, A], and the memory after every row; see `Actor`."""
        values, memories = self.logits(observations, starts, memory)
        return epsilon_greedy(values, legal_actions, self.epsilon if epsilon is None else epsilon), memories
