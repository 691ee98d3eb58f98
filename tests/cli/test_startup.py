"""What happens before a command begins: nothing heavy is imported, no device is taken, nothing foreign is printed."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gpae.cli.commands import COMMANDS
from reference.terminal import on_terminal

HEAVY = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax", "matplotlib", "rich", "tyro", "jaxmarl")
slow = partial(pytest.param, marks=pytest.mark.slow)
OLD = Path(__file__).parents[1] / "data" / "run-0.1"


def python(program, *, timeout=120, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env={k: v for k, v in (os.environ | environment).items() if v is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def gpae(*words, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gpae.cli", *words],
        env={k: v for k, v in (os.environ | environment).items() if v is not None},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["nonsense"], ["credit", "x"]])
def test_help_and_mistakes_take_less_than_a_second_and_import_nothing_heavy(words):
    program = (
        f"import sys; from gpae.cli import main; main({words!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    fastest = float("inf")
    for _ in range(3):  # of three, since other tests run beside this one
        began = time.monotonic()
        done = python(program)
        fastest = min(fastest, time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    assert fastest < 1.0


def test_usage_names_every_command_without_importing_it():
    done = python("import sys; from gpae.cli.commands import usage; print(usage()); sys.exit('jax' in sys.modules)")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


def test_importing_the_command_line_starts_no_backend_and_imports_no_jax():
    done = python("import sys, gpae, gpae.cli, gpae.cli.commands; sys.exit('jax' in sys.modules)")
    assert done.returncode == 0


def test_importing_what_trains_starts_no_backend():
    """A study holds no memory of a GPU beside its trainings, nor does a program that only reads runs."""
    modules = [
        *("gpae.algorithms", "gpae.envs", "gpae.training.trainer", "gpae.cli.train", "gpae.diagnostics.pictures"),
        *("gpae.studies.execute", "gpae.studies.tuner", "gpae.report.build", "gpae.report.tuning"),
    ]
    program = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "    from jax._src import xla_bridge\n"
        "    if xla_bridge._backends: sys.exit(f'{module} starts {list(xla_bridge._backends)}')"
    )
    done = python(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("cuda", ["train", "--env", "probe/team", "--name", "x"]),
        ("nonsense", ["train", "--env", "smax/3m", "--name", "x"]),
        ("cuda", ["evaluate", str(OLD)]),
        slow("cuda", ["play", str(OLD)]),
        slow("cuda", ["inspect", "credit", str(OLD), "--best"]),
        slow("cuda", ["inspect", "critic", str(OLD), "--best"]),
        slow("nonsense", ["verify", "--games", "1"]),
    ],
)
def test_without_the_device_that_is_asked_for_every_command_is_one_line(platform, words, tmp_path):
    done = gpae(*words, cwd=tmp_path, JAX_PLATFORMS=platform, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert f"gpae: JAX finds no device for JAX_PLATFORMS={platform}" in done.stderr
    assert "JAX_PLATFORMS=cpu computes on the processor" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not list(tmp_path.rglob("config.json"))


def test_a_policy_without_a_device_is_one_line_in_python_too():
    program = f"import gpae\ntry: gpae.load_policy({str(OLD)!r})\nexcept ValueError as error: print(error)"
    done = python(program, JAX_PLATFORMS="cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("JAX finds no device")


@pytest.mark.parametrize("words", [pytest.param(["envs"], marks=pytest.mark.slow), ["algorithms"], ["train", "--help"]])
def test_lists_and_help_need_no_device(words):
    done = gpae(*words, JAX_PLATFORMS="cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 10


@pytest.mark.slow
def test_the_alarm_of_slow_compilations_stays_out_of_the_terminal():
    """XLA reports constants that take more than a second to fold in the way of programs that take long to compile."""
    program = (
        "import gpae.cli.commands, time, jax, jax.numpy as jnp, numpy as np\n"
        "size, took = 32, 0.0\n"
        "while took < 1.5:\n"
        "    x, size = np.random.default_rng(0).random((size, size, 20), np.float32), round(1.4 * size)\n"
        "    f = lambda: jax.lax.reduce_window(jnp.asarray(x), -jnp.inf, jax.lax.max, (3, 3, 3), (1, 1, 1), 'SAME')\n"
        "    began = time.monotonic(); jax.jit(f).lower().compile(); took = time.monotonic() - began"
    )
    alone = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_FLAGS": None, "JAX_PLATFORMS": "cpu"}
    quiet = python(program, TF_CPP_MIN_LOG_LEVEL=None, **alone)
    assert quiet.returncode == 0, quiet.stderr
    assert quiet.stderr == ""
    loud = python(program, TF_CPP_MIN_LOG_LEVEL="0", **alone)
    assert "slow_operation_alarm" in loud.stderr  # or the lines above would say nothing


def test_on_a_terminal_something_is_said_while_modules_are_loaded():
    """And nothing of it remains."""
    code, said = on_terminal("train", "--env", "nowhere")
    assert code == 2
    assert said.startswith("loading ...")
    assert said.index("\r\x1b[K") < said.index("gpae: unknown environment")
