"""Programs are traced at once and compiled in another thread."""

import gc
import threading
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.accelerator import runs_once
from gpae.training import compilation
from gpae.training.compilation import Program

X = jnp.linspace(-3.0, 3.0, 101)


def traced_on():
    """A function that notes the threads which trace it, and those notes."""
    threads = []

    def function(x):
        threads.append(threading.current_thread())
        return {"sum": jnp.sum(jnp.tanh(x) * x), "same": x}

    return function, threads


def test_a_program_is_traced_once_in_the_callers_thread_and_a_call_waits_for_its_compilation():
    function, threads = traced_on()
    program = Program(function, jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert threads == [threading.current_thread()]
    assert program.shapes == {"sum": jax.ShapeDtypeStruct((), X.dtype), "same": jax.ShapeDtypeStruct(X.shape, X.dtype)}
    assert not program.ready
    program.compile()
    found = program(X)
    assert program.ready
    assert len(threads) == 1
    np.testing.assert_array_equal(found["same"], X)
    np.testing.assert_allclose(found["sum"], np.sum(np.tanh(X) * X), rtol=1e-6)


def test_garbage_is_collected_again_after_an_error_of_the_function():
    def function(x):
        assert not gc.isenabled()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Program(function, X)
    assert gc.isenabled()


def test_an_error_of_the_compiler_comes_where_the_program_is_called():
    program = Program(lambda x: x + 1.0, X, compiler_options={"xla_no_such_option": 1})
    program.compile()
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        program(X)


def test_what_comes_last_waits_for_what_was_begun():
    unfinished = Future()
    compilation._BEGUN.add(unfinished)
    last, other = Program(lambda x: x + 1.0, X), Program(lambda x: x - 1.0, X)
    last.compile(last=True)
    np.testing.assert_array_equal(other(X), X - 1.0)
    with pytest.raises(TimeoutError):
        last._compiled.result(timeout=1.0)
    unfinished.set_result(None)
    np.testing.assert_array_equal(last(X), X + 1.0)


def test_a_program_that_runs_once_is_compiled_quickly_unless_the_user_has_chosen(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    assert runs_once() is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    options = runs_once()
    assert options == {"xla_backend_optimization_level": 1}
    f = lambda key: jax.random.normal(key, (7, 3))  # noqa: E731
    key = jax.random.key(0)
    np.testing.assert_array_equal(jax.jit(f, compiler_options=options)(key), jax.jit(f)(key))
