"""Random numbers, the same as `jax.random` draws, that take XLA a fifth of the time to compile.

`jax.random` compiles Threefry as a loop over arrays in memory, once per use, and for arrays of several axes as loops
that LLVM takes a second to optimise. Here a use is one kernel over a flat array. For keys of another kind than JAX's
default, `jax.random` itself is used.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; jax.random, with jax_threefry_partitionable.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_KIND = "threefry2x32"
_TINY = float(jnp.finfo(jnp.float32).tiny)


class Words(NamedTuple):
    """Threefry keys as their two words, each [...] uint32."""

    high: Array
    low: Array


def words(keys: Array) -> Words | None:
    """The words of keys [...]; None where they are not of the kind that this module imitates."""
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return None
    if jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(keys)) != _KIND:
            return None
        keys = jax.random.key_data(keys)
    return Words(keys[..., 0], keys[..., 1]) if keys.shape[-1:] == (2,) else None


def block(key: Words, high: Array, low: Array) -> Words:
    """The block of each counter; arrays broadcast."""
    schedule = (key.high, key.low, key.high ^ key.low ^ jnp.uint32(_PARITY))
    x, y = high + schedule[0], low + schedule[1]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x = x + y
            y = ((y << jnp.uint32(r)) | (y >> jnp.uint32(32 - r))) ^ x
        x, y = x + schedule[(i + 1) % 3], y + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return Words(x, y)


def split_words(key: Words, number: int) -> Words:
    """As `jax.random.split` of keys [...]: words [number, ...]."""
    count = jnp.arange(number, dtype=jnp.uint32).reshape(number, *(1,) * key.high.ndim)
    return block(Words(key.high[None], key.low[None]), jnp.zeros_like(count), count)


def uniform_of(key: Words, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
    """As `jax.random.uniform` of keys [...]: [*shape, ...] float32."""
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(*shape, *(1,) * key.high.ndim)
    found = block(key, jnp.zeros_like(count), count)
    mantissa = ((found.high ^ found.low) >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    unit = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
    if (low, high) == (0.0, 1.0):
        return unit
    return jnp.maximum(low, unit * (jnp.float32(high) - jnp.float32(low)) + jnp.float32(low))


def split(key: Array, number: int = 2) -> Array:
    """As `jax.random.split` of one key: [number] keys."""
    known = words(key)
    if known is None:
        return jax.random.split(key, number)
    return _as_keys(split_words(known, number), key)


def fold_in(key: Array, number: Array) -> Array:
    """As `jax.random.fold_in` of one key and a whole number of at least 0: a key."""
    known = words(key)
    if known is None:
        return jax.random.fold_in(key, number)
    number = jnp.asarray(number).astype(jnp.uint32)
    return _as_keys(block(known, jnp.zeros_like(number), number), key)


def gumbel(key: Array, shape: tuple[int, ...]) -> Array:
    """As `jax.random.gumbel` of one key: [*shape] float32."""
    known = words(key)
    if known is None:
        return jax.random.gumbel(key, shape)
    drawn = uniform_of(known, (math.prod(shape),), _TINY)
    return -jnp.log(-jnp.log(drawn)).reshape(shape)


def _as_keys(found: Words, like: Array) -> Array:
    # Behind a barrier, or XLA computes the keys anew wherever they are used.
    data = jax.lax.optimization_barrier(jnp.stack(found, axis=-1))
    typed = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(data, impl=_KIND) if typed else data
