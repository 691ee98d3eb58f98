"""Policies over what an agent can do, as values: what an actor returns.

A distribution says what to do (`sample`, `mode`), how likely that was (`log_prob`), how undecided the policy is
(`entropy`) and what a critic of the joint action is shown in the agent's own slot (`own_slot`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.threefry import gumbel

_NODES, _WEIGHTS = (x.astype(np.float32) for x in np.polynomial.hermite_e.hermegauss(15))
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LARGEST_TANH = 1.0 - 1e-6  # what float32 can still invert


class Distribution(Protocol):
    """A policy, with batch axes [...] in front; an action is an index, or a vector where actions are continuous."""

    def sample(self, key: Array) -> Array:
        """One action for each row of the batch."""
        ...

    def chosen_by(self, noise: Array) -> Array:
        """One action for each row of the batch, by an actor's `noise`, which broadcasts."""
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
        """What critics are shown of the action: the probabilities, [..., A]; or the mean [..., D], or the mean and the
        standard deviation, [..., 2 D].
        """
        ...


@struct.dataclass
class Categorical:
    """A policy over A actions, of which some may be illegal."""

    log_probs: Array
    """[..., A]; those of illegal actions are hugely negative, but finite."""

    def sample(self, key: Array) -> Array:
        """One action per row, int32 [...]."""
        return self.chosen_by(gumbel(key, self.log_probs.shape))

    def chosen_by(self, noise: Array) -> Array:
        """One action per row, int32 [...], by Gumbel noise that broadcasts to [..., A]."""
        return jnp.argmax(self.log_probs + noise, axis=-1).astype(jnp.int32)

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


@struct.dataclass
class DiagonalNormal:
    r"""A policy over vectors of D numbers, its components independent.

        a = centre + half f(u)      u ~ N(mean, scale^2)      f(u) = u, or tanh(u) where it is squashed

    with centre and half the width of [low, high] from `low` and `high`, so that a mean of 0 and a scale of 1 suit any
    box. Without squashing actions may lie outside it. Components that an agent does not have are 0, and count in
    neither log-density nor entropy.
    """

    mean: Array
    """[..., D], of u."""
    log_scale: Array
    """[..., D]: the logarithm of u's standard deviation."""
    mask: Array
    """[..., D] bool: components that the agent has."""
    low: float = struct.field(pytree_node=False, default=-1.0)
    high: float = struct.field(pytree_node=False, default=1.0)
    squashed: bool = struct.field(pytree_node=False, default=False)
    show_scale: bool = struct.field(pytree_node=False, default=False)
    """Whether critics are shown the standard deviation beside the mean."""

    def sample(self, key: Array) -> Array:
        """One action per row, float [..., D]."""
        return self.chosen_by(normal(key, self.mean.shape))

    def chosen_by(self, noise: Array) -> Array:
        """One action per row, float [..., D], by standard normal noise that broadcasts to it."""
        return self._action(self.mean + jnp.exp(self.log_scale) * noise)

    def mode(self) -> Array:
        """The action of the most probable u, [..., D]: the median, and where nothing is squashed the mean."""
        return self._action(self.mean)

    def log_prob(self, actions: Array) -> Array:
        """The log-density of `actions` [..., D], summed over components: [...].

        Squashed actions are inverted up to 1e-6 of half the box's width from its ends; the Jacobian
        sum_d log (half (1 - tanh^2 u_d)) is taken off.
        """
        u = (actions - self._centre) / self._half
        if self.squashed:
            u = jnp.arctanh(jnp.clip(u, -_LARGEST_TANH, _LARGEST_TANH))
        standard = (u - self.mean) * jnp.exp(-self.log_scale)
        each = -0.5 * jnp.square(standard) - self.log_scale - (0.5 * math.log(2 * math.pi) + math.log(self._half))
        return self._total(each - _log_slope(u) if self.squashed else each)

    def entropy(self) -> Array:
        """The differential entropy in nats, [...]; where squashed its Jacobian is a Gauss-Hermite sum of 15 nodes."""
        each = self.log_scale + (0.5 * math.log(2 * math.pi * math.e) + math.log(self._half))
        return self._total(each + self._mean_of(_log_slope) if self.squashed else each)

    @property
    def own_slot(self) -> Array:
        """The mean action, [..., D], or mean and standard deviation, [..., 2 D]; exact, but where squashed sums of 15
        nodes.
        """
        middle, spread = self.mean, jnp.exp(self.log_scale)
        if self.squashed:
            middle = self._mean_of(jnp.tanh)
            spread = jnp.sqrt(jnp.maximum(self._mean_of(lambda u: jnp.square(jnp.tanh(u))) - jnp.square(middle), 0.0))
        shown = self._masked(self._centre + self._half * middle)
        return jnp.concatenate([shown, self._masked(self._half * spread)], axis=-1) if self.show_scale else shown

    @property
    def _centre(self) -> float:
        return 0.5 * (self.low + self.high)

    @property
    def _half(self) -> float:
        return 0.5 * (self.high - self.low)

    def _action(self, u: Array) -> Array:
        return self._masked(self._centre + self._half * (jnp.tanh(u) if self.squashed else u))

    def _masked(self, x: Array) -> Array:
        return jnp.where(self.mask, x, jnp.zeros_like(x))

    def _total(self, each: Array) -> Array:
        return jnp.sum(self._masked(each), axis=-1)

    def _mean_of(self, of: Callable[[Array], Array]) -> Array:
        u = self.mean[..., None] + jnp.exp(self.log_scale)[..., None] * _NODES.reshape((1,) * self.mean.ndim + (-1,))
        return of(u) @ _WEIGHTS


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise, drawn flat: see `gpae.threefry`."""
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def _log_slope(u: Array) -> Array:
    """Log (1 - tanh^2 u), without its cancellation."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
