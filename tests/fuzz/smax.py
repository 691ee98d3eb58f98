"""Battles of all maps and of random scenarios and options, ours beside JaxMARL's, for as long as you like.

    PYTHONPATH=tests python -m fuzz.smax --seconds 600 --seed 1

Health, cooldowns, targets, rewards, ends and wins must be equal, positions and observations to 1e-4, over 200 steps of
8 battles each, in which attacks are preferred. Compiling takes most of the time.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

from fuzz.driver import drive
from gpae.envs.smax import UNIT_LETTERS, map_names, smax
from gpae.envs.vector import advance, begin, observe

MAPS = map_names()
STEPS, ENVS = 200, 8


def play(env, key):
    """Views, outcomes and states of ENVS battles, under the same keys whatever the backend."""

    def row(vector, key):
        action_key, step_key = jax.random.split(key)
        view = observe(env, vector)
        wish = jnp.where(jnp.arange(env.spec.num_actions) > 4, 2.0, 0.0)
        actions = jax.random.categorical(action_key, jnp.where(view.action_mask, wish, -jnp.inf)).astype(jnp.int32)
        following, outcome, _ = advance(env, step_key, vector, actions)
        return following, (view, outcome, vector.state)

    return jax.lax.scan(row, begin(env, key, ENVS), jax.random.split(key, STEPS))[1]


def compare(name, options, seed):
    """Raises an AssertionError where the two differ."""
    records = []
    for backend in ("gpae", "jaxmarl"):
        env = smax(name, backend=backend, **options)
        program = jax.jit(lambda key, env=env: play(env, key), compiler_options={"xla_backend_optimization_level": 1})
        records.append(jax.tree.map(np.asarray, program(jax.random.key(seed))))
    (view, outcome, ours), (their_view, their_outcome, theirs) = records
    for field in ("reward", "terminated", "truncated", "won"):
        np.testing.assert_array_equal(getattr(outcome, field), getattr(their_outcome, field), err_msg=field)
    np.testing.assert_array_equal(view.action_mask, their_view.action_mask)
    np.testing.assert_array_equal(view.alive, their_view.alive)
    np.testing.assert_allclose(view.observations, their_view.observations, rtol=0, atol=1e-4)
    np.testing.assert_allclose(view.state, their_view.state, rtol=0, atol=1e-4)
    units = theirs.state
    np.testing.assert_allclose(np.stack([ours.x, ours.y], -1), units.unit_positions, rtol=0, atol=1e-4)
    for mine, other in (
        (ours.health, units.unit_health),
        (ours.cooldown, units.unit_weapon_cooldowns),
        (ours.attack, units.prev_attack_actions),
        (ours.types, units.unit_types),
        (ours.last_target, theirs.enemy_policy_state.last_attacked_enemy),
    ):
        np.testing.assert_array_equal(mine, other)
    return int(outcome.won.sum()), int((outcome.terminated | outcome.truncated).sum())


def team(draw, most):
    """Units of a team, such as "3m2s"."""
    return "".join(f"{draw.randint(1, most)}{letter}" for letter in draw.sample(UNIT_LETTERS, draw.randint(1, 2)))


def case(draw):
    """One of the maps, or a random battle of 2 to 64 units; and random options."""
    name = draw.choice([*MAPS, *["custom"] * len(MAPS)])
    if name == "custom":
        name = f"custom:{team(draw, 16)}_vs_{team(draw, 16)}"
    options = {
        "attack_mode": draw.choice(["closest", "random"]),
        "walls_cause_death": draw.random() < 0.5,
        "see_enemy_actions": draw.random() < 0.5,
        "max_steps": draw.choice([10, 100]),
    }
    try:
        wins, ends = compare(name, options, draw.randint(0, 2**31 - 1))
    except AssertionError as error:
        return [("failed", f"{name} {options}: {error}")]
    print(f"{name} {options}: equal; {wins} wins in {ends} episodes", flush=True)
    return [("well", "")]


if __name__ == "__main__":
    sys.exit(drive("Battles beside JaxMARL's:", case))
