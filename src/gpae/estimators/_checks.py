"""Checks of arguments at trace time, each of which names the argument."""

from __future__ import annotations

from math import inf

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def floating(name: str, x: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    """`x` as an array, which must be floating and, where it is given, of `shape`."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {x.dtype}")
    if shape is not None and x.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {x.shape}")
    return x


def integer(name: str, x: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`x` as an array, which must be integer and of `shape`."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} must be integer, got {x.dtype}")
    if x.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {x.shape}")
    return x


def per_agent(name: str, x: ArrayLike) -> Array:
    """`x` as a floating array [T, ..., N]."""
    x = floating(name, x)
    if x.ndim < 2:
        raise ValueError(f"{name} must be [T, ..., N], got shape {x.shape}")
    return x


def flags(name: str, x: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    """`x` as an array, which must be boolean and, where it is given, of `shape`."""
    x = jnp.asarray(x)
    if x.dtype != jnp.bool_:
        raise TypeError(f"{name} must be bool, got {x.dtype}")
    if shape is not None and x.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {x.shape}")
    return x


def scalar(name: str, x: ArrayLike, low: float, high: float = inf) -> ArrayLike:
    """`x`, a scalar in [low, high]; the range of a traced one cannot be known and is not checked."""
    if jnp.shape(x) != ():
        raise ValueError(f"{name} must be a scalar, got shape {jnp.shape(x)}")
    if not isinstance(x, jax.core.Tracer) and not low <= float(np.asarray(x)) <= high:
        wanted = f"at least {low:g}" if high == inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {wanted}, got {x}")
    return x


def cap(name: str, x: ArrayLike, like: Array) -> Array:
    """`x` >= 1 as an array that broadcasts to `like`; the range of a traced one cannot be known and is not checked."""
    if not isinstance(x, jax.core.Tracer) and not bool((np.asarray(x) >= 1).all()):
        raise ValueError(f"{name} must be at least 1, got {np.asarray(x).min()}")
    x = jnp.asarray(x, like.dtype)
    if x.ndim > like.ndim or any(n not in (1, m) for n, m in zip(x.shape[::-1], like.shape[::-1], strict=False)):
        raise ValueError(f"{name} must broadcast to {like.shape}, got shape {x.shape}")
    # Ranks that differ are not promoted silently.
    return x if x.ndim in (0, like.ndim) else x.reshape((1,) * (like.ndim - x.ndim) + x.shape)
