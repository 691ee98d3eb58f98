"""Random numbers of E battles at once, [..., E], the same as `jax.random` draws from each battle's key.

`jax.random` compiles Threefry as a loop over arrays in memory, once per use; here a battle's draws are one kernel.
For keys of another kind than JAX's default, `jax.random` itself is used.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; jax.random, with jax_threefry_partitionable.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


class Keys(NamedTuple):
    """Threefry keys as their two words, each [..., E] uint32."""

    high: Array
    low: Array


def words(keys: Array) -> Keys | None:
    """The words of keys [E]; None where they are not of the kind that `split` and `uniform` imitate."""
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return None
    if jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(keys)) != "threefry2x32":
            return None
        keys = jax.random.key_data(keys)
    return Keys(keys[:, 0], keys[:, 1]) if keys.shape[1:] == (2,) else None


def threefry(key: Keys, high: Array, low: Array) -> Keys:
    """The block of each counter; arrays broadcast."""
    schedule = (key.high, key.low, key.high ^ key.low ^ jnp.uint32(_PARITY))
    x, y = high + schedule[0], low + schedule[1]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x = x + y
            y = ((y << jnp.uint32(r)) | (y >> jnp.uint32(32 - r))) ^ x
        x, y = x + schedule[(i + 1) % 3], y + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return Keys(x, y)


def split(key: Keys, number: int) -> Keys:
    """As `jax.random.split`: words [number, ..., E]."""
    count = jnp.arange(number, dtype=jnp.uint32).reshape(number, *(1,) * key.high.ndim)
    return threefry(Keys(key.high[None], key.low[None]), jnp.zeros_like(count), count)


def uniform(key: Keys, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
    """As `jax.random.uniform`, [*shape, ..., E] float32."""
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(*shape, *(1,) * key.high.ndim)
    block = threefry(key, jnp.zeros_like(count), count)
    mantissa = ((block.high ^ block.low) >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    unit = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
    if (low, high) == (0.0, 1.0):
        return unit
    return jnp.maximum(low, unit * (jnp.float32(high) - jnp.float32(low)) + jnp.float32(low))


def chain(key: Keys, number: int) -> Keys:
    """The second keys of `number` splits, each of the first key of the one before: words [number, E]."""

    def step(key: Keys, _: None) -> tuple[Keys, Keys]:
        pair = split(key, 2)
        return Keys(pair.high[0], pair.low[0]), Keys(pair.high[1], pair.low[1])

    return jax.lax.scan(step, key, length=number)[1]


def of_key(keys: Keys, place: int) -> Keys:
    """One of several keys."""
    return Keys(keys.high[place], keys.low[place])


def step_noise(
    keys: Array, enemies: int, units: int, ticks: int, seconds: float, *, whom: bool
) -> tuple[Array, Array, Array]:
    """All random numbers of a step, from the keys that JaxMARL would use.

    Args:
      keys: [E].
      enemies: M.
      units: U.
      ticks: steps of the physics.
      seconds: of one of them.
      whom: whether the enemies draw whom they attack.

    Returns:
      Deviations of the weapons' cooldowns in [-seconds, 2 seconds), [ticks, U, E]; what draws whom in sight each enemy
      walks to, and whom it attacks, in [0, 1), [M, E].
    """
    known = words(keys)
    if known is None:
        draw = partial(_plain, enemies=enemies, units=units, ticks=ticks, seconds=seconds, whom=whom)
        return jax.vmap(draw, out_axes=-1)(keys)
    pair = split(known, 2)
    policy = split(split(of_key(pair, 1), enemies), 2)
    walk = uniform(of_key(policy, 0))
    attack = uniform(of_key(policy, 1)) if whom else jnp.zeros_like(walk)
    tick = split(chain(of_key(pair, 0), ticks), units)
    noise = uniform(Keys(*(jnp.swapaxes(word, 0, 1) for word in tick)), low=-seconds, high=2 * seconds)
    return noise, walk, attack


def _plain(
    key: Array, *, enemies: int, units: int, ticks: int, seconds: float, whom: bool
) -> tuple[Array, Array, Array]:
    """The same of one battle by `jax.random`."""
    key, policy_key = jax.random.split(key)
    policy_keys = jax.vmap(jax.random.split)(jax.random.split(policy_key, enemies))
    walk = jax.vmap(jax.random.uniform)(policy_keys[:, 0])
    attack = jax.vmap(jax.random.uniform)(policy_keys[:, 1]) if whom else jnp.zeros_like(walk)
    tick_keys = []
    for _ in range(ticks):
        key, tick_key = jax.random.split(key)
        tick_keys.append(jax.random.split(tick_key, units))
    draw = partial(jax.random.uniform, minval=-seconds, maxval=2 * seconds)
    return jax.vmap(jax.vmap(draw))(jnp.stack(tick_keys)), walk, attack
