"""The script finds nothing; it would find estimators that are a little wrong; and it tells how to repeat it."""

import re

import jax
import jax.numpy as jnp
import pytest

from fuzz import estimators as fuzz
from gpae import estimators


def test_estimators_on_random_arrays_agree_with_the_slow_loops(capsys):
    code = fuzz.main(["--seconds", "2", "--seed", "0"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert int(re.match(r"(\d+) cases, (\d+) calls", said).group(2)) >= fuzz.DRAWS


def one_row_late(**arguments):
    """The trace of the row itself, not of the one that follows."""
    late = jnp.roll(arguments["log_ratios"], 1, axis=0)
    return estimators.gpae(**arguments | {"log_ratios": late})


def own_weight_always_truncated(own_weight, **arguments):
    return estimators.dae(**arguments)


def eta_of_the_first_place(eta=1.05, **arguments):
    return estimators.importance_traces(**arguments, eta=jnp.ravel(eta)[0])


def time_limits_as_terminations(**arguments):
    return estimators.gae(**arguments | {"terminated": arguments["terminated"] | arguments["truncated"]})


def a_step_too_few(steps, **arguments):
    return estimators.tree_backup(**arguments, steps=max(steps - 1, 1))


def the_dead_are_teammates(alive, **arguments):
    return estimators.advantage_gap(alive=jnp.ones_like(alive), **arguments)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("gpae", one_row_late),
        ("dae", own_weight_always_truncated),
        ("importance_traces", eta_of_the_first_place),
        ("gae", time_limits_as_terminations),
        ("tree_backup", a_step_too_few),
        ("advantage_gap", the_dead_are_teammates),
    ],
)
def test_an_estimator_that_is_a_little_wrong_is_found_and_the_case_made_small(name, wrong, monkeypatch, capsys):
    monkeypatch.setitem(fuzz.PROGRAMS, name, jax.jit(wrong, static_argnames=fuzz.ESTIMATORS[name][2]))
    monkeypatch.setattr(fuzz, "SHRINKING", 1.0)
    numbers = [k for k in range(200) if next(fuzz.make(k, seed=0)).estimator == name]
    codes = []
    for number in numbers[:6]:
        codes.append(fuzz.main(["--seconds", "1000", "--seed", "0", "--case", str(number)]))
        if codes[-1] == 1:
            break
    said = capsys.readouterr().out
    assert codes[-1] == 1, said
    assert f"--seed 0 --case {number}: result" in said
    assert f"{name}(\n" in said


def test_a_failing_case_is_made_as_small_as_it_can_be(monkeypatch):
    monkeypatch.setitem(fuzz.PROGRAMS, "gae", jax.jit(time_limits_as_terminations))
    failing = next(c for k in range(200) for c in fuzz.make(k, seed=0) if c.estimator == "gae" and fuzz.failure(c))
    small = fuzz.smallest(failing)
    # One row of one agent, cut off, with a value beyond.
    assert {name: x.size for name, x in small.arrays.items()} == dict.fromkeys(small.arrays, 1)
    assert small.arrays["truncated"].all()
    assert not small.arrays["terminated"].any()
    assert small.arrays["next_values"].any()
    assert not small.arrays["rewards"].any()
    assert not small.arrays["values"].any()
