"""The benchmarks follow the library: each can be imported and takes its flags; what they time runs on small shapes."""

import importlib
import sys
from pathlib import Path

import pytest

from gpae.training.config import configure

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", NAMES)
def test_each_explains_itself(name, monkeypatch, capsys):
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert "--out" in capsys.readouterr().out


@pytest.mark.slow
def test_an_update_on_random_experience(monkeypatch):
    module = importlib.import_module("estimator_overhead")
    monkeypatch.setattr(module, "SHAPES", {"probe/team": (4, 4)})
    monkeypatch.setattr(module, "BARS", {"probe/team": 2.0})
    monkeypatch.setattr(module, "SETTINGS", {"epochs": 1, "minibatches": 2, "hidden_size": 8, "chunk_length": 4})
    found = module.measure("probe/team", rounds=1)
    assert found["seconds_per_update"].keys() == {"gpae", "mappo", "mappo_per_state"}
    assert module.critic_memory(4, rows=2, num_envs=2) > 0


def test_sums_over_devices_are_counted(monkeypatch):
    module = importlib.import_module("devices")
    config = {"num_envs": 8, "rollout_length": 4, "hidden_size": 8, "embedding_size": 8, "recurrent": False}
    small = configure("ippo", **config, epochs=3, minibatches=1)
    monkeypatch.setattr(module, "preset", lambda name, algorithm: small)
    found = module.counted("probe/team", "ippo", "none")
    assert found["gradient_steps"] == 3
    assert found["sums"] >= 3
    # Every parameter's gradient, a float32 each, and a few numbers more.
    assert 0 <= found["bytes"] - 3 * 4 * found["parameters"] < 1000


@pytest.mark.slow
def test_the_stages_of_an_update(monkeypatch):
    module = importlib.import_module("training_speed")
    monkeypatch.setattr(module, "ENVIRONMENTS", 8)
    monkeypatch.setattr(module, "ROWS", 16)
    found = module.measure("probe/team", "gpae", 1, "jaxmarl")
    assert found["seconds"].keys() == {"update", "collect", "prepare", "optimise"}


@pytest.mark.slow
def test_an_update_of_several_seeds(monkeypatch):
    """`JAX_PLATFORMS=cpu python benchmarks/gpu.py --toy` is the whole script in small."""
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module, "MINIBATCHES", 2)
    update, arguments = module.program("probe/team", "mappo", 2, 4, 8)
    assert module.timed(update, arguments, steps=2 * 4 * 8, rounds=1)["steps_per_second"] > 0
    found = module.profiled(update, arguments)
    assert found["seconds"] > 0
    assert found["kernels"] == 0, "a CPU launches none"
