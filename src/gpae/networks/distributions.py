"""A categorical policy over the legal actions, as functions of its log-probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def log_policy(logits: Array, legal_actions: Array) -> Array:
    """Log-probabilities over the actions, [..., A]; those of illegal actions are hugely negative, but finite.

    The mask is the smallest finite number, not -inf: with -inf the gradient of the entropy is NaN.

    Args:
      logits: [..., A] float.
      legal_actions: [..., A] bool; where none is legal the policy is uniform over all (such rows are padding).
    """
    return jax.nn.log_softmax(jnp.where(legal_actions, logits, jnp.finfo(logits.dtype).min), axis=-1)


def sample(key: Array, log_probs: Array) -> Array:
    """One action per row of `log_probs` [..., A], as int32 [...]."""
    return jax.random.categorical(key, log_probs, axis=-1).astype(jnp.int32)


def mode(log_probs: Array) -> Array:
    """The most probable action, the first of several, int32 [...]."""
    return jnp.argmax(log_probs, axis=-1).astype(jnp.int32)


def log_prob(log_probs: Array, actions: Array) -> Array:
    """The log-probability of `actions` [...] under `log_probs` [..., A]."""
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0]


def entropy(log_probs: Array) -> Array:
    """The entropy in nats, [...]; actions of probability 0 add 0."""
    probs = jnp.exp(log_probs)
    return -jnp.sum(jnp.where(probs > 0, probs * log_probs, 0.0), axis=-1)
