"""What the public docstrings promise: examples that run, every argument described, names that are all there."""

import doctest
import importlib
import inspect
import re
import typing

import jax.numpy as jnp
import pytest

from gpae import estimators

FUNCTIONS = [name for name in estimators.__all__ if inspect.isfunction(getattr(estimators, name))]
MODULES = ["gpae.estimators", *(f"gpae.estimators.{name}" for name in ("action_values", "advantages", "traces"))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run_and_print_what_they_say(name):
    names = {"jnp": jnp, "estimators": estimators}
    result = doctest.testmod(importlib.import_module(name), extraglobs=names)
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_described_with_what_is_returned_and_raised(name):
    function = getattr(estimators, name)
    document = inspect.getdoc(function)
    described = re.findall(r"^  (\w+): ", document[document.index("Args:") : document.index("Returns:")], re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    assert "Raises:" in document
    assert "Source: " in document


def test_the_table_names_every_function():
    table = estimators.__doc__.partition("`gpae`, `gae`")[0]
    assert {line.split()[-1] for line in table.splitlines() if line.startswith("    ")} - {"function"} == set(FUNCTIONS)


def test_the_names_of_what_can_be_chosen_have_one_home():
    for names, alias in (("TRACES", "Trace"), ("OWN_WEIGHTS", "OwnWeight"), ("BOOTSTRAPS", "Bootstrap")):
        assert getattr(estimators, names) == typing.get_args(getattr(estimators, alias))
    assert estimators.TRACES == ("none", "st", "it", "dt", "others")
    assert estimators.OWN_WEIGHTS == ("truncated", "exact")
    assert estimators.BOOTSTRAPS == ("sampled", "weighted", "resampled", "expected")
