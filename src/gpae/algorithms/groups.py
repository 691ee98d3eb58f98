"""Sums over all groups of environments: what a loss, a statistic or a gradient needs where a batch is shared out.

An update may be computed for several groups of environments apart (`gpae.algorithms.sharding`). What is summed over
environments is then summed over groups too, before anything is divided. Without groups each function is the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_AXES: ContextVar[tuple[str, ...]] = ContextVar("axes", default=())


@contextmanager
def summed_over(*axes: str) -> Iterator[None]:
    """While it is traced, the sums of this module go over these named axes as well."""
    token = _AXES.set(axes)
    try:
        yield
    finally:
        _AXES.reset(token)


def apart() -> AbstractContextManager[None]:
    """While it is traced, the sums of this module are each group's own: `everywhere` adds them up."""
    return summed_over()


def everywhere(sums: Any) -> Any:
    """Each group's own sums, added up over all groups: a tree of the same structure."""
    axes = _AXES.get()
    return jax.lax.psum(sums, axes) if axes else sums


def total(x: Array) -> Array:
    """The sum of all elements of `x`, of all groups: []."""
    return everywhere(jnp.sum(x))


def total_of_rows(x: Array) -> Array:
    """The sum over all axes of `x` but the last, of all groups: [F] of [..., F]."""
    return everywhere(jnp.sum(x, axis=tuple(range(x.ndim - 1))))


def whole_gradient(gradient: Any) -> Any:
    """The gradient of a loss that is made of `total`s, from each group's own: to be called before it is clipped.

    Each group differentiates the whole loss, whose sums pass a gradient of 1 from every group to every other one: what
    a group finds is its part times the number of groups. The mean is the sum of the parts.
    """
    axes = _AXES.get()
    return jax.lax.pmean(gradient, axes) if axes else gradient


def log_total_exp(x: Array, where: Array) -> Array:
    """Log sum exp of `x` where `where`, of all groups: []. No gradient flows through it where there are groups."""
    axes = _AXES.get()
    if not axes:
        return jax.nn.logsumexp(x, where=where)
    x = jax.lax.stop_gradient(x)
    largest = jax.lax.pmax(jnp.max(x, where=where, initial=jnp.finfo(x.dtype).min), axes)
    return largest + jnp.log(total(jnp.where(where, jnp.exp(jnp.minimum(x - largest, 0.0)), 0.0)))
