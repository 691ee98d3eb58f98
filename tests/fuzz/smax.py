"""Battles of all maps and of random scenarios and options, ours beside JaxMARL's, for as long as you like.

    PYTHONPATH=tests python -m fuzz.smax --seconds 600 --seed 1

Over 200 steps of 8 battles each, in which attacks are preferred, every step of ours from JaxMARL's state must give its
health, cooldowns, targets, rewards, ends and wins exactly, positions and observations to 1e-4. Compiling takes most of
the time.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from fuzz.driver import drive
from gpae.envs.smax import UNIT_LETTERS, map_names, smax
from gpae.envs.vector import advance, begin, observe
from reference.battles import theirs_as_ours

MAPS = map_names()
STEPS, ENVS = 200, 8


def play(ours, theirs, key):
    """STEPS steps of ENVS battles by JaxMARL's functions, and beside each the step of ours from the same state."""

    def row(vector, key):
        action_key, step_key = jax.random.split(key)
        view = observe(theirs, vector)
        wish = jnp.where(jnp.arange(theirs.spec.num_actions) > 4, 2.0, 0.0)
        actions = jax.random.categorical(action_key, jnp.where(view.action_mask, wish, -jnp.inf)).astype(jnp.int32)
        following, outcome, _ = advance(theirs, step_key, vector, actions)
        mine = replace(vector, state=theirs_as_ours(vector.state))
        after, our_outcome, _ = advance(ours, step_key, mine, actions)
        reference = (view, outcome, theirs_as_ours(following.state))
        return following, (reference, (observe(ours, mine), our_outcome, after.state))

    return jax.lax.scan(row, begin(theirs, key, ENVS), jax.random.split(key, STEPS))[1]


def compare(name, options, seed):
    """Raises an AssertionError where the two differ."""
    envs = smax(name, **options), smax(name, backend="jaxmarl", **options)
    program = jax.jit(lambda key: play(*envs, key), compiler_options={"xla_backend_optimization_level": 1})
    theirs, ours = jax.tree.map(np.asarray, program(jax.random.key(seed)))
    leaves = jax.tree_util.tree_leaves_with_path(ours)
    for (path, mine), reference in zip(leaves, jax.tree.leaves(theirs), strict=True):
        where = jax.tree_util.keystr(path)
        nearly = where.endswith(("x", "y", "observations", ".state"))
        # A sum over more than 31 units has another order there.
        close = {"rtol": 1e-6 if where.endswith("reward") else 0, "atol": 1e-4 if nearly else 0}
        np.testing.assert_allclose(mine, reference, **close, err_msg=where)
    outcome = theirs[1]
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
