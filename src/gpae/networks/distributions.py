"""Policies over the legal actions, softmax or epsilon-greedy, as functions of their log-probabilities."""

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


def epsilon_greedy(values: Array, legal_actions: Array, epsilon: Array | float) -> Array:
    """Log-probabilities of the best legal action, or with probability `epsilon` any legal one, evenly: [..., A].

    Those of actions that are never taken are hugely negative, but finite. Of equal values the first is the best.

    Args:
      values: [..., A] float.
      legal_actions: [..., A] bool, at least one.
      epsilon: in [0, 1]; below 1 the `mode` is the best action.
    """
    best = jnp.argmax(jnp.where(legal_actions, values, jnp.finfo(values.dtype).min), axis=-1)
    legal = legal_actions.astype(values.dtype)
    even = legal / jnp.maximum(legal.sum(-1, keepdims=True), 1.0)
    probs = (1.0 - epsilon) * jax.nn.one_hot(best, values.shape[-1], dtype=values.dtype) + epsilon * even
    taken = probs > 0
    return jnp.where(taken, jnp.log(jnp.where(taken, probs, jnp.ones_like(probs))), jnp.finfo(values.dtype).min)


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
