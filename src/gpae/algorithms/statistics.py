"""Running means and variances of what networks are shown and learn, brought up to date once per update.

What is counted is every row of experience, once, from the first update on; all groups of environments count together.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.algorithms.batch import PerNetwork
from gpae.algorithms.groups import total, total_of_rows
from gpae.networks.normalisers import EPSILON, is_statistics
from gpae.types import View


@struct.dataclass
class Moments:
    """Of a batch, or of all that was seen."""

    count: Array
    """How many were seen, [] or as mean."""
    mean: Array
    variance: Array
    """Mean square of what differs from the mean, as mean."""


def moments(x: Array) -> Moments:
    """Of the rows of `x`, [..., F]: [F] each."""
    rows = total(jnp.ones(x.shape[:-1]))
    mean = total_of_rows(x) / rows
    return Moments(rows, mean, total_of_rows(jnp.square(x - jnp.broadcast_to(mean, x.shape))) / rows)


def moments_where(x: Array, mask: Array) -> Moments:
    """Of the numbers of `x` where `mask`, both [...]: [] each."""
    count = total(mask.astype(x.dtype))
    rows = jnp.maximum(count, 1.0)
    mean = total(jnp.where(mask, x, jnp.zeros_like(x))) / rows
    return Moments(count, mean, total(jnp.where(mask, jnp.square(x - mean), jnp.zeros_like(x))) / rows)


def merged(one: Moments, other: Moments) -> Moments:
    """Of all that `one` and `other` were made of together.

    Source: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance.
    """
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1.0)
    shift = other.mean - one.mean
    variance = (1.0 - share) * one.variance + share * other.variance + share * (1.0 - share) * jnp.square(shift)
    return Moments(count, one.mean + share * shift, variance)


def with_moments(variables: Any, name: str, seen: Moments) -> Any:
    """Networks' variables whose normalisers called `name` have seen a batch more."""
    if not isinstance(variables, dict):
        return variables
    found = {}
    for key, value in variables.items():
        if key == name and is_statistics(value):
            now = merged(Moments(value["count"], value["mean"], value["variance"]), _like(seen, value["mean"]))
            found[key] = {"count": now.count, "mean": now.mean, "variance": now.variance}
        else:
            found[key] = with_moments(value, name, seen)
    return found


def _like(seen: Moments, kept: Array) -> Moments:
    """`seen` in the shape of what is `kept`: of several networks, [K, ...], all have the same.

    Numbers that a network is shown behind those that were seen, as an agent's index, are to be left as they are.
    """
    behind = kept.shape[-1] - seen.mean.shape[-1] if seen.mean.ndim else 0
    mean, variance = (
        jnp.pad(x, (0, behind), constant_values=v) if behind else x for x, v in ((seen.mean, 0.0), (seen.variance, 1.0))
    )
    return Moments(*(jnp.broadcast_to(x, kept.shape) for x in (seen.count, mean, variance)))


def with_inputs(params: PerNetwork, view: View) -> PerNetwork:
    """Networks' variables whose statistics have counted what a rollout showed, [T, E, ...].

    Only at the end of an update: within it the policy is the one that acted, so that on-policy ratios are 1.
    """
    for name, shown in (("observations", view.observations), ("state", view.state)):
        seen = moments(shown)
        params = PerNetwork(*(with_moments(variables, name, seen) for variables in (params.actor, params.critic)))
    return params


def shift_and_scale(variables: Any, name: str) -> tuple[Array, Array] | None:
    """Mean and standard deviation, [] each, of the normaliser called `name`, in several networks the same; None where
    there is none.
    """
    if not isinstance(variables, dict):
        return None
    for key, value in variables.items():
        if key == name and is_statistics(value):
            return value["mean"].reshape(-1)[0], jnp.sqrt(value["variance"].reshape(-1)[0] + EPSILON)
        if (found := shift_and_scale(value, name)) is not None:
            return found
    return None
