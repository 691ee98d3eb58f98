"""Policies over what an agent can do, as values: what an actor returns.

A distribution says what to do (`sample`, `mode`), how likely that was (`log_prob`), how undecided the policy is
(`entropy`) and what a critic of the joint action is shown in the agent's own slot (`own_slot`).
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array


class Distribution(Protocol):
    """A policy, with batch axes [...] in front; an action is an index, or a vector where actions are continuous."""

    def sample(self, key: Array) -> Array:
        """One action for each row of the batch."""
        ...

    def sample_rows(self, key: Array) -> Array:
        """One action for each row of the batch, by the same noise along the first axis."""
        ...

    def mode(self) -> Array:
        """The most probable action."""
        ...

    def log_prob(self, actions: Array) -> Array:
        """The log-probability (or log-density) of `actions`, [...]."""
        ...

    def entropy(self) -> Array:
        """In nats, [...]."""
        ...

    @property
    def own_slot(self) -> Array:
        """What critics are shown of the action, [..., A] or [..., D]: the probabilities, or the mean."""
        ...


@struct.dataclass
class Categorical:
    """A policy over A actions, of which some may be illegal."""

    log_probs: Array
    """[..., A]; those of illegal actions are hugely negative, but finite."""

    def sample(self, key: Array) -> Array:
        """One action per row, int32 [...]."""
        return jax.random.categorical(key, self.log_probs, axis=-1).astype(jnp.int32)

    def sample_rows(self, key: Array) -> Array:
        """One action per row, int32 [T, ...], by the same noise for all T."""
        noise = jax.random.gumbel(key, self.log_probs.shape[1:])
        return jnp.argmax(self.log_probs + noise[None], axis=-1).astype(jnp.int32)

    def mode(self) -> Array:
        """The most probable action, the first of several, int32 [...]."""
        return jnp.argmax(self.log_probs, axis=-1).astype(jnp.int32)

    def log_prob(self, actions: Array) -> Array:
        """The log-probability of `actions` [...]."""
        return of_taken(self.log_probs, actions)

    def entropy(self) -> Array:
        """The entropy in nats, [...]; actions of probability 0 add 0."""
        probs = jnp.exp(self.log_probs)
        return -jnp.sum(jnp.where(probs > 0, probs * self.log_probs, 0.0), axis=-1)

    @property
    def own_slot(self) -> Array:
        """The probabilities, [..., A]."""
        return jnp.exp(self.log_probs)


def masked(logits: Array, action_mask: Array) -> Categorical:
    """The softmax policy over the legal actions.

    The mask is the smallest finite number, not -inf: with -inf the gradient of the entropy is NaN.

    Args:
      logits: [..., A] float.
      action_mask: [..., A] bool; where none is legal the policy is uniform over all (such rows are padding).
    """
    return Categorical(jax.nn.log_softmax(jnp.where(action_mask, logits, jnp.finfo(logits.dtype).min), axis=-1))


def epsilon_greedy(values: Array, action_mask: Array, epsilon: Array | float) -> Categorical:
    """The best legal action, the first of equals, or with probability `epsilon` any legal one, evenly.

    Args:
      values: [..., A] float.
      action_mask: [..., A] bool, at least one.
      epsilon: in [0, 1]; below 1 the `mode` is the best action.
    """
    best = jnp.argmax(jnp.where(action_mask, values, jnp.finfo(values.dtype).min), axis=-1)
    legal = action_mask.astype(values.dtype)
    even = legal / jnp.maximum(legal.sum(-1, keepdims=True), 1.0)
    probs = (1.0 - epsilon) * jax.nn.one_hot(best, values.shape[-1], dtype=values.dtype) + epsilon * even
    taken = probs > 0
    return Categorical(
        jnp.where(taken, jnp.log(jnp.where(taken, probs, jnp.ones_like(probs))), jnp.finfo(values.dtype).min)
    )


def of_taken(per_action: Array, actions: Array) -> Array:
    """The entries [...] of `per_action` [..., A] for `actions` [...]."""
    return jnp.take_along_axis(per_action, actions[..., None], axis=-1)[..., 0]
