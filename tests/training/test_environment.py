"""The environment of an experiment, and options that are read by the types of its parameters."""

from __future__ import annotations

from typing import Literal

import pytest

import gpae
import gpae.envs
from gpae.envs import registry
from gpae.envs.probes import Constant
from gpae.errors import UserError
from gpae.training.environment import environment_options, make_environment
from reference.trainings import CONFIG, options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": "smax/2s3zz"}, "smax/2s3z"),
        ({"env": "probe/team", "env_options": ("lenght=3",)}, "length"),
        ({"env": "probe/team", "env_options": ("length",)}, "name=value"),
    ],
)
def test_wrong_environments_are_refused_before_anything_is_written(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        gpae.train(CONFIG.replace(**changes), options(tmp_path))
    assert not list(tmp_path.iterdir())


def test_wrong_options_leave_the_run_that_was_to_be_overwritten(run):
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    with pytest.raises(UserError, match="whole number"):
        gpae.train(CONFIG.replace(env_options=("length=1.5",)), options(run.path.parent, overwrite=True))
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_the_time_limit_switch_reaches_the_environment():
    environment = make_environment(CONFIG.replace(timeout_is_termination=True))
    assert isinstance(environment, gpae.envs.TimeoutIsTermination)


def test_environment_options_reach_the_environment():
    spec = make_environment(CONFIG.replace(env="probe/delay", env_options=("length=7", "num_agents=4"))).spec
    assert (spec.episode_limit, spec.num_agents) == (7, 4)
    env = make_environment(CONFIG.replace(env="smax/3m", env_options=("walls_cause_death=no", "max_steps=12")))
    assert env.walls_cause_death is False
    assert env.spec.episode_limit == 13


@pytest.mark.parametrize("word", ["no", "false", "False", "FALSE", "off", "0"])
def test_words_for_no_are_false(word):
    assert environment_options("smax/3m", [f"walls_cause_death={word}"]) == {"walls_cause_death": False}


@pytest.mark.parametrize("word", ["yes", "true", "True", "on", "1"])
def test_words_for_yes_are_true(word):
    assert environment_options("smax/3m", [f"walls_cause_death = {word}"]) == {"walls_cause_death": True}


@pytest.mark.parametrize(
    ("env", "given", "words"),
    [
        ("smax/3m", ["walls_cause_death=maybe"], "walls_cause_death must be true or false"),
        ("smax/3m", ["walls_cause_death="], "walls_cause_death must be true or false"),
        ("smax/3m", ["walls_cause_death=2"], "walls_cause_death must be true or false"),
        ("smax/3m", ["max_steps=1.5"], "max_steps must be a whole number"),
        ("smax/3m", ["max_steps=many"], "max_steps must be a whole number"),
        ("smax/3m", ["max_steps=99999999999999999999"], r"max_steps must be a whole number below 2\^31"),
        ("smax/3m", ["max_steps=0"], "max_steps must be at least 1"),
        ("smax/3m", ["attack_mode=foo"], "attack_mode must be one of closest, random"),
        ("smax/3m", ["attackmode=closest"], "did you mean 'attack_mode'"),
        ("smax/3m", ["max_steps"], "an option is name=value"),
        ("smax/3m", ["max_steps=3", "max_steps=4"], "max_steps is given twice"),
        ("smax/custom:3m_vs_4m", ["attack_mode=far"], "one of closest, random"),
        ("mpe/simple_spread", ["local_ratio=half"], "local_ratio must be a finite number"),
        ("mpe/simple_spread", ["local_ratio=nan"], "local_ratio must be a finite number"),
        ("mpe/simple_spread", ["local_ratio=-inf"], "local_ratio must be a finite number"),
    ],
)
def test_options_that_are_not_of_the_parameters_types_are_one_line(env, given, words):
    with pytest.raises(UserError, match=words) as error:
        make_environment(CONFIG.replace(env=env, env_options=tuple(given)))
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def registered(monkeypatch):
    """Registers environments for one test."""
    monkeypatch.setattr(registry, "_ENVIRONMENTS", dict(registry._ENVIRONMENTS))
    return gpae.envs.register


def test_own_environments_get_what_their_annotations_and_defaults_say(registered):
    def make(
        size: int,
        *,
        map: Literal["small", "large"] = "small",
        seed: int | None = None,
        speed=1.0,
        name: str = "",
        wind: float = 0.0,
        anything=None,
    ):
        return Constant()

    registered("own/grid", make)

    def read(*given):
        return environment_options("own/grid", given)

    assert read("size=4", "map=large", "seed=None") == {"size": 4, "map": "large", "seed": None}
    assert read("seed=3", "speed=2", "name=3", "wind=1e-3") == {"seed": 3, "speed": 2.0, "name": "3", "wind": 0.001}
    assert isinstance(read("speed=2")["speed"], float)
    # What says nothing of its type becomes what it looks like.
    assert [read(f"anything={x}")["anything"] for x in ("true", "3", "1.5", "a=b")] == [True, 3, 1.5, "a=b"]
    for given, words in (("seed=x", "whole number below 2\\^31 or None"), ("map=huge", "one of small, large")):
        with pytest.raises(UserError, match=words):
            read(given)


def test_environments_that_take_any_option_get_what_it_looks_like(registered):
    registered("own/any", lambda **options: Constant())
    assert environment_options("own/any", ["a=1", "b=no", "c=false"]) == {"a": 1, "b": "no", "c": False}
