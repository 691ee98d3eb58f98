"""Running means and variances inside networks, in a collection of variables of their own beside the parameters.

They are part of a network's variables, and so of checkpoints, of the best parameters and of a loaded policy. A network
reads them and never writes them: `gpae.algorithms.statistics` does, once per update. No gradient flows into them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

STATISTICS = "statistics"
"""The collection: of each normaliser, by its name, {"count", "mean", "variance"}, arrays of one shape."""
EPSILON = 1e-8
"""Added to variances."""
LIMIT = 10.0
"""Normalised inputs are clipped to +- this."""


class _Normaliser(nn.Module):
    def moments(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Mean and standard deviation; before anything was seen 0 and 1. Call it inside a compact method."""
        mean = self.variable(STATISTICS, "mean", jnp.zeros, shape)
        variance = self.variable(STATISTICS, "variance", jnp.ones, shape)
        self.variable(STATISTICS, "count", jnp.zeros, shape)
        return jax.lax.stop_gradient(mean.value), jnp.sqrt(jax.lax.stop_gradient(variance.value) + EPSILON)


class InputNormaliser(_Normaliser):
    """Inputs shifted and scaled to mean 0 and standard deviation 1, each of their F numbers by itself."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] from [..., F]."""
        mean, deviation = (jnp.broadcast_to(m, x.shape) for m in self.moments(x.shape[-1:]))
        return jnp.clip((x - mean) / deviation, -LIMIT, LIMIT)


class ValueScale(_Normaliser):
    """Values in the units of rewards, from those that the network makes, whose targets have mean 0 and deviation 1."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[...] from [...]."""
        mean, deviation = (jnp.broadcast_to(m, x.shape) for m in self.moments(()))
        return mean + deviation * x


def is_statistics(value: Any) -> bool:
    """Whether `value` is what one normaliser keeps."""
    return isinstance(value, dict) and value.keys() == {"count", "mean", "variance"}


def without_statistics(variables: Any) -> Any:
    """What is learnt by gradients of a network's variables, or of a dict of such."""
    if not isinstance(variables, dict):
        return variables
    return {name: without_statistics(value) for name, value in variables.items() if name != STATISTICS}
