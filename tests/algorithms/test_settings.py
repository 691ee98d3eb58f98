"""No setting is silently without effect: all algorithms x all settings."""

import dataclasses
import functools
import typing

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from gpae.algorithms import ALGORITHMS
from gpae.algorithms.base import Budget, algorithm_called
from gpae.envs import Discrete
from gpae.envs.probes import Stay
from gpae.errors import UserError
from gpae.networks import ShownContinuousPolicy
from gpae.settings import as_arrays, settings_of, values_of
from gpae.training.config import configure


class Stoppable(Stay):
    """A probe that has an action called stop, and a reward for each agent."""

    @property
    def spec(self):
        return dataclasses.replace(super().spec, actions=Discrete(("stop", "1")), has_agent_rewards=True)

    def step(self, key, state, actions):
        state, outcome = super().step(key, state, actions)
        return state, outcome.replace(agent_rewards=actions * outcome.reward)


ENV = Stoppable(length=3)
BASE = {
    "minibatches": 1,
    "num_envs": 4,
    "rollout_length": 4,
    "hidden_size": 4,
    "embedding_size": 4,
    "epochs": 1,
    "actor_identity": True,
}
ALIVE = {
    "actor_weight": "own-others",
    "window": 2,
    "stop_agent": 0,
    "own_weight": "exact",
    "own_cap": 5.0,
    "entropy_end": 0.5,
    "replay_segments": 2,
    "replay_sequences": 2,
}
"""Beside these every other setting does something."""
OTHER = {
    "critic_epochs": 7,
    "huber": 10.0,
    "num_envs": 8,
    "rollout_length": 8,
    "minibatches": 2,
    "chunk_length": 2,
    "epsilon_end": 0.01,
    "stop_agent": 1,
    "share_parameters": "false",
    "tree_steps": 2,
}
"""Other values, where the next one would not divide something, not fit the environment, or be beyond the rows."""
NAMES = tuple(ALGORITHMS)
IN_FULL = ("gpae", "dae", "dop", "qmix")
"""One of each kind of learner: what its relatives have from a common class is traced here only."""
OF_CONTINUOUS_ACTIONS = tuple(settings_of(ShownContinuousPolicy))
"""What only continuous actions have: see `test_continuous.py`."""
ALL = {name: setting for cls in ALGORITHMS.values() for name, setting in settings_of(cls).items()}


def chosen(algorithm, **changes):
    known = settings_of(algorithm_called(algorithm))
    return configure(algorithm, **{name: x for name, x in (BASE | ALIVE | changes).items() if name in known})


def other(setting, value):
    """A value that `setting` may have, and is not `value`."""
    if setting.name in OTHER:
        return OTHER[setting.name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    kinds = [setting.kind, *typing.get_args(setting.kind)]
    choices = next(typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal)
    return next(choice for choice in choices if choice != value)


def state(config):
    return jax.eval_shape(lambda a: a.init(ENV, jax.random.key(0)), as_arrays(config.algorithm))


def update(config):
    """The update as a program of the traced settings and the state."""
    budget = Budget(updates=10, gradient_steps=jnp.float32(100))
    inputs = (as_arrays(config.algorithm), state(config))
    program = jax.make_jaxpr(lambda algorithm, state: algorithm.update(ENV, state, budget))(*inputs)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(inputs)]
    return program, names


def text(config):
    """Of the update, and of how the first state is made."""
    program, _ = update(config)
    begin = jax.make_jaxpr(lambda a: a.init(ENV, jax.random.key(0)))(as_arrays(config.algorithm))
    return f"{program} {program.consts} {begin}"


@functools.cache
def before(algorithm):
    config = chosen(algorithm)
    return state(config), text(config)


@pytest.mark.parametrize("algorithm", NAMES)
def test_every_traced_setting_is_used_by_the_update(algorithm):
    config = chosen(algorithm)
    assert config.algorithm.idle() == {}
    program, names = update(config)
    _, used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    traced = {name for name, setting in settings_of(config.algorithm).items() if setting.traced}
    inputs = {name.rsplit(".", 1)[1]: use for name, use in zip(names, used, strict=True) if name.startswith("[0]")}
    assert inputs == dict.fromkeys(traced, True)


@pytest.mark.filterwarnings("ignore:.*does nothing here")
@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.slow
def test_every_static_setting_changes_the_networks_or_the_update(algorithm):
    config = chosen(algorithm)
    now = values_of(config.algorithm)
    shapes, program = before(algorithm)
    silent = []
    structure = jax.tree.structure(as_arrays(config.algorithm))
    for name, setting in settings_of(config.algorithm).items():
        if not setting.traced and name not in OF_CONTINUOUS_ACTIONS:
            changed = chosen(algorithm, **{name: other(setting, now[name])})
            assert jax.tree.structure(as_arrays(changed.algorithm)) != structure  # it is compiled anew
            traced_here = algorithm in IN_FULL or setting.owner is type(config.algorithm)
            if traced_here and state(changed) == shapes and text(changed) == program:
                silent.append(name)
    assert silent == []


@pytest.mark.parametrize("algorithm", NAMES)
def test_every_other_setting_is_refused_with_those_that_have_it(algorithm):
    own = settings_of(algorithm_called(algorithm))
    foreign = ALL.keys() - own.keys()
    assert foreign
    for name in foreign:
        with pytest.raises(UserError, match=f"{ALL[name].flag} belongs to .*; {algorithm} has nothing"):
            configure(algorithm, **{name: ALL[name].default})


@pytest.mark.parametrize("algorithm", ["coma-q", "dop-clip"])
def test_without_old_experience_both_ranges_of_the_clip_are_the_same(algorithm):
    assert {"clip_range"} <= configure(algorithm, **BASE).algorithm.idle().keys()
    assert configure(algorithm, **BASE, stop_agent=0).algorithm.idle() == {}


def test_a_clip_of_nothing_is_said_to_be_one():
    assert "clip" in configure("dop", **BASE, clip_values=False).algorithm.idle()
    assert "clip" not in configure("dop", **BASE).algorithm.idle()
    assert "clip" not in configure("dop-clip", **BASE, clip_values=False).algorithm.idle()


def test_where_an_agent_is_stopped_ratios_are_none_of_1_and_their_settings_count():
    config = configure("gpae", **BASE, stop_agent=0, trace="others", own_weight="exact", own_cap=5.0)
    assert config.algorithm.idle().keys() == {"window_memory", "window_start"}
    program, names = update(config)
    _, used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    inputs = {name.rsplit(".", 1)[1]: use for name, use in zip(names, used, strict=True) if name.startswith("[0]")}
    assert inputs["eta"]
    assert inputs["own_cap"]


@pytest.mark.parametrize("algorithm", ["gpae", "mappo", "dae"])
def test_a_setting_that_the_others_make_idle_is_not_used_on_policy(algorithm):
    """What is remarked upon as idle is idle: the update does not depend on it."""
    config = configure(algorithm, **BASE)
    idle = config.algorithm.idle()
    program, names = update(config)
    _, used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    inputs = {name.rsplit(".", 1)[1]: use for name, use in zip(names, used, strict=True) if name.startswith("[0]")}
    assert "eta" in idle
    assert {name for name, use in inputs.items() if not use} <= idle.keys()
