"""Whom a run tells besides its own directory."""

import sys
import types

import numpy as np
import pytest

from gpae.errors import UserError
from gpae.runs.directory import RunDirectory
from gpae.training.config import as_dict
from gpae.training.experiment import Experiment
from gpae.training.recorder import Recorder
from gpae.training.sinks import TensorBoard, WeightsAndBiases
from reference.trainings import CONFIG, options


def test_tensorboard_writes_one_curve_per_seed(tmp_path):
    board = TensorBoard(tmp_path, start_steps=50)
    for seed in (0, 1):
        board.log(100, seed, {"policy_loss": 0.5 + seed})
    board.close()
    for seed in (0, 1):
        (file,) = (tmp_path / f"seed_{seed}").iterdir()
        assert b"policy_loss" in file.read_bytes()


class FakeRun:
    def __init__(self):
        self.logged, self.finished = [], False

    def define_metric(self, name, step_metric=None):
        pass

    def log(self, metrics):
        self.logged.append(metrics)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """W&B as far as it is used; the package itself is an extra."""
    module = types.ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.Settings = dict
    module.runs = []

    def init(**settings):
        module.runs.append((settings, FakeRun()))
        return module.runs[-1][1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_recorder_tells_whom_it_was_asked_to_tell(tmp_path, wandb):
    experiment, asked = Experiment(CONFIG), options(tmp_path, tensorboard=True, wandb=True)
    with (
        RunDirectory.create(tmp_path / "run", as_dict(CONFIG)) as directory,
        Recorder(experiment, directory, asked, [], start_steps=16) as recorder,
    ):
        recorder.update(2, 32, 1.0, {"episodes": np.float32(4), "wins": np.float32(1), "entropy": np.float32(0.25)})
        recorder.evaluation(2, 32, 1.0, [{"win_rate": [0.0, 1.0], "return": [0.5, 0.5]}])
    ((settings, told),) = wandb.runs
    assert settings["resume"]
    logged = {name for metrics in told.logged for name in metrics}
    assert logged >= {"entropy", "train_win_rate", "evaluation/win_rate"}
    (file,) = (tmp_path / "run" / "tensorboard" / "seed_0").iterdir()
    assert b"evaluation/win_rate" in file.read_bytes()


def test_wandb_is_told_and_a_resumed_run_stays_the_same(tmp_path, wandb):
    for resume in (False, True, False):
        board = WeightsAndBiases(tmp_path / "run", config={"a": 1}, seeds=2, resume=resume)
        board.log(100, 1, {"return": 2.0})
        board.close()
    (first, run), (second, _), (third, _) = wandb.runs
    assert run.logged == [{"return/seed_1": 2.0, "env_steps": 100}]
    assert run.finished
    assert first["name"] == "run"
    assert first["config"] == {"a": 1}
    assert first["id"] == second["id"] != third["id"]
    assert (first["resume"], second["resume"]) == (None, "allow")


def test_wandb_errors_are_one_line(tmp_path, wandb):
    def init(**_):
        raise wandb.Error("no API key")

    wandb.init = init
    with pytest.raises(UserError, match=r"no API key; WANDB_MODE=offline"):
        WeightsAndBiases(tmp_path, config={})


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[tensorboard\]'"):
        TensorBoard(tmp_path)
    with pytest.raises(UserError, match=r"pip install -e '.\[wandb\]'"):
        WeightsAndBiases(tmp_path, config={})
