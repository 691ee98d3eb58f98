"""What the networks are trained to make small. Means are masked: a sum over a count, never a mean of means."""

from __future__ import annotations

import typing
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax import Array

from gpae.algorithms.groups import total
from gpae.errors import unknown_name


def masked_mean(x: Array, mask: Array) -> Array:
    """The mean of `x` where `mask`, both [...]; 0 where nothing is selected."""
    weights = mask.astype(x.dtype)
    return total(jnp.where(mask, x, jnp.zeros_like(x))) / jnp.maximum(total(weights), 1.0)


def normalise(x: Array, mask: Array, epsilon: float = 1e-8) -> Array:
    """`x` shifted and scaled to mean 0 and standard deviation 1 over `mask`; both [...]."""
    mean = masked_mean(x, mask)
    variance = masked_mean(jnp.square(x - mean), mask)
    return (x - mean) / jnp.sqrt(variance + epsilon)


def explained_variance(values: Array, targets: Array, mask: Array) -> Array:
    """1 - Var(targets - values) / Var(targets) over `mask`: 1 is perfect, 0 no better than a constant."""

    def variance(x: Array) -> Array:
        return masked_mean(jnp.square(x - masked_mean(x, mask)), mask)

    return 1.0 - variance(targets - values) / jnp.maximum(variance(targets), 1e-8)


ClipRange: TypeAlias = Literal["multiplicative", "additive"]
"""Whether the surrogate's clip is as wide as eps times the old ratio, or as eps; see `clipped_surrogate`."""
CLIP_RANGES: tuple[ClipRange, ...] = typing.get_args(ClipRange)

LOG_RATIO_LIMIT = 10.0
"""Log-ratios of the surrogate are clipped to +-10, as in the code that the authors of arXiv 2603.02654 released for
SMAX."""


def clipped_surrogate(
    log_ratios: Array,
    old_log_ratios: Array,
    advantages: Array,
    clip: Array | float,
    *,
    clip_range: ClipRange = "multiplicative",
) -> Array:
    r"""The objective of each sample, to be made large, clipped around the policy at the start of the update.

        multiplicative   min( rho A, clip(rho, rho_old (1 - eps), rho_old (1 + eps)) A )
        additive         min( rho A, clip(rho, rho_old - eps, rho_old + eps) A )

    with rho = pi_theta / mu and rho_old = pi_old / mu, mu the behaviour policy. On-policy rho_old = 1: both are PPO.

    log rho and log rho_old beyond +-10 count as +-10 (`LOG_RATIO_LIMIT`): no sample weighs more than e^10 times its
    advantage, and one beyond has no gradient. Without it, one sample at log rho = 25 with A < 0, where PPO's minimum
    does not clip, made the loss of a whole minibatch.

    Args:
      log_ratios: log rho, [...].
      old_log_ratios: log rho_old, [...], no gradient.
      advantages: A, [...].
      clip: eps >= 0. GePPO makes it smaller as the window grows: 2 eps / (B + 1) for B segments weighed alike.
      clip_range: "multiplicative" or "additive".

    Returns:
      The objective, [...].

    Raises:
      UserError: an unknown clip_range.

    Source: Kim et al. 2026 (arXiv 2603.02654), multiplicative; GePPO (Queeney et al. 2021, arXiv 2111.00072),
    additive; on-policy PPO (Schulman et al. 2017, arXiv 1707.06347, Eq. 7).
    """
    if clip_range not in CLIP_RANGES:
        raise unknown_name("clip_range", clip_range, CLIP_RANGES)
    limit = LOG_RATIO_LIMIT
    ratios = jnp.exp(jnp.clip(log_ratios, -limit, limit))
    old = jnp.exp(jnp.clip(old_log_ratios, -limit, limit))
    margin = clip * old if clip_range == "multiplicative" else clip
    return jnp.minimum(ratios * advantages, jnp.clip(ratios, old - margin, old + margin) * advantages)


def value_error(
    values: Array, old_values: Array, targets: Array, clip: Array | float | None, huber: float | None = None
) -> Array:
    """Half the squared error of each value, [...]; the larger of it and that of the value clipped near the old one.

    Args:
      values: of the critic that is trained, [...].
      old_values: of the critic at the start of the update, [...], no gradient; not used without clip.
      targets: [...], no gradient.
      clip: how far a value may move from the old one before moving further gains nothing; None for no clipping.
      huber: errors beyond it count linearly, as in Huber's loss; None: by their squares, all of them.

    Returns:
      The errors, [...].

    Source: the reference implementation of PPO (Schulman et al. 2017).
    """

    def squared(error: Array) -> Array:
        if huber is None:
            return jnp.square(error)
        near = jnp.minimum(jnp.abs(error), huber)
        return near * (2.0 * jnp.abs(error) - near)

    error = squared(values - targets)
    if clip is not None:
        clipped = old_values + jnp.clip(values - old_values, -clip, clip)
        error = jnp.maximum(error, squared(clipped - targets))
    return 0.5 * error
