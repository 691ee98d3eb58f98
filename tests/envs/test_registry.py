"""Environments by name."""

import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from gpae.envs import Environment, TimeoutIsTermination, make, names, register, registry
from gpae.envs.probes import Constant
from gpae.errors import UserError


@pytest.mark.slow
def test_every_environment_is_as_its_spec_says():
    """Sizes of every registered environment, without running one."""
    known = names()
    assert {"smax/3m", "smax/27m_vs_30m", "smax/smacv2_20_units", "mpe/simple_spread", "probe/memory"} <= set(known)
    assert len(known) == len(set(known))
    for extra, package in (("jumanji", "jumanji"), ("mabrax", "brax")):
        if importlib.util.find_spec(package) is None:
            known = [name for name in known if not name.startswith(f"{extra}/")]
    for name in known:
        env = make(name)
        spec = env.spec
        assert isinstance(env, Environment)
        assert spec.name == name
        assert len(spec.action_names) == (0 if spec.continuous else spec.num_actions)
        view = jax.eval_shape(lambda key, env=env: env.observe(env.reset(key)), jax.random.key(0))
        assert view.observations.shape == (spec.num_agents, spec.observation_size)
        assert view.state.shape == (spec.state_size,)
        assert view.action_mask.shape == (spec.num_agents, spec.actions.size)
        assert view.alive.shape == (spec.num_agents,)
        assert view.observations.dtype == view.state.dtype == jnp.float32
        assert view.action_mask.dtype == view.alive.dtype == jnp.bool_


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smax/3mm", {}, r"unknown environment 'smax/3mm'; did you mean 'smax/3m'"),
        ("prob/team", {}, r"unknown environment 'prob/team'; did you mean 'probe/team'"),
        ("3m", {}, r"unknown environment '3m'; did you mean 'smax/3m'"),
        ("smax/3m", {"max_step": 3}, r"unknown option of smax/3m 'max_step'; did you mean 'max_steps'"),
        ("probe/team", {"horizon": 3}, r"unknown option of probe/team 'horizon'"),
        ("teamwork/4", {"tasks": "Alike"}, r"unknown tasks of teamwork/4 'Alike'; did you mean 'alike'"),
        ("jaxmarl/overcooked", {"layout": "x"}, r"unknown layout of jaxmarl/overcooked 'x'; .*coord_ring"),
    ],
)
def test_unknown_names_and_options(name, options, message):
    with pytest.raises(UserError, match=message):
        make(name, **options)


def test_register(monkeypatch):
    monkeypatch.setattr(registry, "_ENVIRONMENTS", dict(registry._ENVIRONMENTS))
    register("mine/constant", lambda reward_agents=3: Constant(num_agents=reward_agents))
    assert "mine/constant" in names()
    assert make("mine/constant", reward_agents=4).spec.num_agents == 4
    with pytest.raises(UserError, match="reward_agents"):
        make("mine/constant", num_agents=4)
    for taken in ("mine/constant", "smax/3m"):
        with pytest.raises(UserError, match="already"):
            register(taken, Constant)


def test_an_option_may_be_called_name(monkeypatch):
    monkeypatch.setattr(registry, "_ENVIRONMENTS", dict(registry._ENVIRONMENTS))
    register("mine/named", lambda *, name="two": Constant(num_agents={"two": 2, "three": 3}[name]))
    assert make("mine/named", name="three").spec.num_agents == 3


def test_timeout_is_termination():
    env = make("probe/time_limit", length=2)
    switched = TimeoutIsTermination(env)
    assert switched.spec == env.spec
    state, actions = switched.reset(jax.random.key(0)), jnp.zeros(2, jnp.int32)
    ends = []
    for _ in range(2):
        state, outcome = switched.step(jax.random.key(0), state, actions)
        ends.append((bool(outcome.terminated), bool(outcome.truncated), float(outcome.reward)))
    assert ends == [(False, False, 1.0), (True, False, 1.0)]


def test_jaxmarl_comes_late_and_quietly():
    """Not for a probe nor for SMAX; imported for MPE without a word, and with the streams left as they were."""
    code = """
import sys
from gpae.envs import make
make("probe/team")
make("smax/3m")
assert "jaxmarl" not in sys.modules
streams = sys.stdout, sys.stderr = sys.stdout, sys.stderr
make("mpe/simple_spread")
assert "jaxmarl" in sys.modules
assert streams == (sys.stdout, sys.stderr)
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
