"""All random numbers of a step of E battles at once, [..., E], from the keys that JaxMARL would use."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from gpae.threefry import Words, split_words, uniform_of, words


def chain(key: Words, number: int) -> Words:
    """The second keys of `number` splits, each of the first key of the one before: words [number, E]."""

    def step(key: Words, _: None) -> tuple[Words, Words]:
        pair = split_words(key, 2)
        return Words(pair.high[0], pair.low[0]), Words(pair.high[1], pair.low[1])

    return jax.lax.scan(step, key, length=number)[1]


def of_key(keys: Words, place: int) -> Words:
    """One of several keys."""
    return Words(keys.high[place], keys.low[place])


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
    pair = split_words(known, 2)
    policy = split_words(split_words(of_key(pair, 1), enemies), 2)
    walk = uniform_of(of_key(policy, 0))
    attack = uniform_of(of_key(policy, 1)) if whom else jnp.zeros_like(walk)
    tick = split_words(chain(of_key(pair, 0), ticks), units)
    noise = uniform_of(Words(*(jnp.swapaxes(word, 0, 1) for word in tick)), low=-seconds, high=2 * seconds)
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
