"""How a battle begins: positions and types of units, drawn with JaxMARL's keys.

Source: jaxmarl.environments.smax.distributions; Ellis et al. 2023 (arXiv 2212.07489) for SMACv2.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from gpae.envs.smax.draws import of_key
from gpae.envs.smax.maps import Scenario
from gpae.envs.smax.units import MAP_SIZE, UNIT_TYPES
from gpae.threefry import split_words, uniform_of, words

_MIDDLE = MAP_SIZE / 2
_NOISE = 2.0
"""Units begin at most so far from the point of their group, along each axis."""


def draw(keys: Array, scenario: Scenario) -> tuple[Array, Array, Array]:
    """Positions x and y and types (uint8) at the start, [U, E]; overlapping units are not yet pushed apart.

    Args:
      keys: [E].
      scenario: which battle.
    """
    allies, enemies = scenario.num_allies, scenario.num_enemies
    known = words(keys)
    if known is None or scenario.smacv2_position_generation or scenario.smacv2_unit_type_generation:
        positions, types = jax.vmap(partial(_draw, scenario=scenario), out_axes=-1)(keys)
        return positions[:, 0], positions[:, 1], types
    teams = split_words(of_key(split_words(known, 2), 1), 3)
    noise = [
        uniform_of(of_key(teams, place), (number, 2), -_NOISE, _NOISE) for place, number in ((1, allies), (2, enemies))
    ]
    x = jnp.concatenate([MAP_SIZE / 4 + noise[0][:, 0], MAP_SIZE / 4 * 3 + noise[1][:, 0]])
    y = _MIDDLE + jnp.concatenate([noise[0][:, 1], noise[1][:, 1]])
    types = jnp.asarray(scenario.unit_types, jnp.uint8)
    return x, y, jnp.broadcast_to(types[:, None], x.shape)


def _draw(key: Array, *, scenario: Scenario) -> tuple[Array, Array]:
    """The same of one battle by `jax.random`: positions [U, 2] and types [U]."""
    allies, enemies = scenario.num_allies, scenario.num_enemies
    _, key = jax.random.split(key)  # the other is the enemies' policy's, which draws nothing
    key, allies_key, enemies_key = jax.random.split(key, 3)
    key, positions_key = jax.random.split(key)
    _, types_key = jax.random.split(key)
    if scenario.smacv2_position_generation:
        positions = _surround_or_reflect(positions_key, allies, enemies)
    else:
        ours, theirs = jnp.array([MAP_SIZE / 4, _MIDDLE]), jnp.array([MAP_SIZE / 4 * 3, _MIDDLE])
        positions = jnp.concatenate([_near(allies_key, ours, allies), _near(enemies_key, theirs, enemies)])
    types = jnp.asarray(scenario.unit_types, jnp.uint8)
    if scenario.smacv2_unit_type_generation:
        types = _alike(types_key, allies, enemies)
    return positions, types


def _near(key: Array, centre: Array, number: int) -> Array:
    return centre + jax.random.uniform(key, (number, 2), minval=-_NOISE, maxval=_NOISE)


def _alike(key: Array, allies: int, enemies: int) -> Array:
    """Random types of the allies, and the same of the enemies; what they have more of are marines."""
    _, key = jax.random.split(key)
    uniform = jnp.log(jnp.ones(len(UNIT_TYPES)) / len(UNIT_TYPES))
    drawn = jax.random.categorical(key, uniform, shape=(allies,)).astype(jnp.uint8)
    more = jnp.zeros(max(0, enemies - allies), jnp.uint8)
    return jnp.concatenate([drawn, drawn[:enemies], more])


def _surround_or_reflect(key: Array, allies: int, enemies: int) -> Array:
    which, surround_key, reflect_key = jax.random.split(key, 3)
    surround = jax.random.uniform(which) < 0.5
    return jnp.where(surround, _surround(surround_key, allies, enemies), _reflect(reflect_key, allies, enemies))


def _reflect(key: Array, allies: int, enemies: int) -> Array:
    """Allies anywhere on the left, enemies as in a mirror; what they have more of anywhere on the right."""
    key, allies_key = jax.random.split(key)
    left = jnp.array([_MIDDLE, MAP_SIZE])
    ours = jax.random.uniform(allies_key, (allies, 2), minval=jnp.zeros(2), maxval=left)
    theirs = jnp.stack([MAP_SIZE - ours[:, 0], ours[:, 1]], axis=1)[:enemies]
    if enemies > allies:
        low, high = jnp.array([_MIDDLE, 0.0]), jnp.array([MAP_SIZE, MAP_SIZE])
        more = jax.random.uniform(key, (enemies - allies, 2), minval=low, maxval=high)
        theirs = jnp.concatenate([theirs, more])
    return jnp.concatenate([ours, theirs])


def _surround(key: Array, allies: int, enemies: int) -> Array:
    """One team in the middle, the other in up to four groups on the diagonals around it."""
    key, allies_key, enemies_key = jax.random.split(key, 3)
    inside, outside = _inside_and_outside(allies_key, allies, enemies)
    ours_inside = jnp.concatenate([inside, outside])
    inside, outside = _inside_and_outside(enemies_key, enemies, allies)
    theirs_inside = jnp.concatenate([outside, inside])
    return jnp.where(jax.random.randint(key, (), 0, 2) == 1, ours_inside, theirs_inside)


def _inside_and_outside(key: Array, inside: int, outside: int) -> tuple[Array, Array]:
    middle = jnp.array([_MIDDLE, _MIDDLE])
    corners = jnp.array([[0.0, 0.0], [0.0, MAP_SIZE], [MAP_SIZE, 0.0], [MAP_SIZE, MAP_SIZE]])
    key, inside_key = jax.random.split(key)
    key, groups_key = jax.random.split(key)
    key, along_key = jax.random.split(key)
    _, outside_key = jax.random.split(key)
    groups = jax.random.categorical(groups_key, jnp.log(jnp.ones(4) / 4), shape=(outside,))
    along = jax.random.uniform(along_key, (4, 1))
    places = along * middle + (1 - along) * corners
    noise = jax.random.uniform(outside_key, (outside, 2), minval=-_NOISE, maxval=_NOISE)
    return _near(inside_key, middle, inside), places[groups] + noise
