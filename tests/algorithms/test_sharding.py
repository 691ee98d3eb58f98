"""Groups of environments, on one device and on several (four faked ones): the same numbers, and no experience moves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import ALGORITHMS, having
from gpae.algorithms.base import Budget
from gpae.algorithms.sharding import grouped, mesh_of, of_group, shardings, shared_out
from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.settings import as_arrays
from gpae.training.config import configure

GROUPS = 4
SMALL = {"num_envs": 16, "rollout_length": 6, "epochs": 2, "hidden_size": 8, "embedding_size": 8}
EACH = {
    **{name: {} for name in ("ippo", "mappo", "coma-q", "dae", "vdn", "qmix", "iql", "dop", "dop-clip")},
    "gpae": {"window": 2, "chunk_length": 3, "bootstrap": "expected"},
    "coma": {"window": 2},
}


def small(name):
    known = {key: value for key, value in SMALL.items() if name in having(key)}
    algorithm = configure(name, **known | EACH[name]).algorithm
    if hasattr(algorithm, "replay_sequences"):
        algorithm = configure(algorithm, replay_sequences=8, replay_segments=3).algorithm
    return algorithm


def trained(name, devices, updates=5):
    """Parameters and the metrics of each update; the compiled program."""
    env, algorithm = Team(), small(name)
    budget = Budget(updates=updates, gradient_steps=jnp.float32(100.0))
    state = jax.jit(lambda key: algorithm.init(env, key))(jax.random.key(0))
    mesh = None if devices == 1 else mesh_of(jax.devices()[:devices])
    if mesh is not None:
        state = jax.device_put(state, shardings(state, mesh))
    traced = as_arrays(algorithm)
    update = grouped(env, GROUPS, devices)
    update = update if mesh is None else shared_out(update, mesh)
    program = jax.jit(update).lower(state, traced, budget).compile()
    found = []
    for _ in range(updates):
        state, metrics = program(state, traced, budget)
        found.append(metrics)
    return state, found, program


QUICK = ("gpae", "dop", "qmix")


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.slow
def test_four_devices_learn_what_one_does(name):
    one, found, alone = trained(name, 1)
    four, found_by_four, program = trained(name, 4)
    assert len(four.vector.is_first.sharding.device_set) == 4
    for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    for before, after in zip(found, found_by_four, strict=True):
        for metric in before:
            np.testing.assert_allclose(before[metric], after[metric], rtol=1e-3, atol=1e-4, err_msg=metric)
    text = program.as_text()
    assert re.search(r"= .*all-reduce", text)
    assert not re.search(r"= .*(all-gather|all-to-all|collective-permute)", text)
    assert program.cost_analysis()["flops"] < 0.35 * alone.cost_analysis()["flops"]


def test_groups_that_do_not_divide_the_environments_are_refused():
    with pytest.raises(UserError, match="num_envs / window = 8 is not divisible by groups = 3"):
        of_group(small("gpae"), 3)


def test_every_algorithm_is_among_these():
    assert {*EACH, "gpae-state"} == set(ALGORITHMS)  # that one has gpae's stages


@pytest.mark.parametrize("name", EACH)
def test_every_algorithm_sums_what_its_groups_share(name):
    """`vmap` refuses parameters and metrics that are not the same in every group: tracing is enough."""
    env, algorithm = Team(), small(name)
    state = jax.eval_shape(lambda key: algorithm.init(env, key), jax.random.key(0))
    budget = Budget(updates=5, gradient_steps=jnp.float32(100.0))
    following, _ = jax.eval_shape(grouped(env, GROUPS), state, as_arrays(algorithm), budget)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), following) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
