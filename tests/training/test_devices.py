"""Training on several devices, from the command's side: files, resume on other devices, refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.training import experiment
from gpae.training.config import RunOptions, configure
from gpae.training.device import mesh
from gpae.training.experiment import Experiment
from gpae.training.trainer import train

CONFIG = configure(
    "gpae",
    groups=2,
    num_envs=8,
    rollout_length=8,
    epochs=1,
    hidden_size=8,
    embedding_size=8,
    total_steps=128,
    evaluations=1,
    evaluation_episodes=2,
)


def test_a_run_begun_on_two_devices_goes_on_on_one(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "make_environment", lambda config: Team())
    options = RunOptions(runs=tmp_path, name="moved", quiet=True, devices=2)
    train(CONFIG, options)
    moved = train(CONFIG.replace(total_steps=256), dataclasses.replace(options, devices=1, resume=True))
    assert [line["update"] for line in moved.metrics] == [1, 2, 3, 4]
    assert np.isfinite(moved.metrics[-1]["value_loss"])


def test_devices_that_do_not_divide_the_groups_are_refused():
    with pytest.raises(UserError, match="--groups 4 would do"):
        mesh(2, 4)
    with pytest.raises(UserError, match="JAX finds 4"):
        mesh(8, 8)


def test_as_many_devices_train_as_divide_the_groups():
    assert jax.device_count() == 4
    assert mesh(1) is None
    assert mesh(6).shape["env"] == 3
    assert mesh(8).shape["env"] == 4


def test_products_are_as_precise_as_was_asked_for():
    """Where the device has several precisions, such as TF32; seen in the program, since a CPU has one."""
    for precision, shown in (("default", False), ("float32", True)):
        config = configure("mappo", env="probe/team", num_envs=2, rollout_length=4, matmul_precision=precision)
        made = Experiment(config)
        program = jax.jit(made.updates).lower(made.shapes, made.traced, made.budget)
        assert ("HIGHEST" in program.as_text()) is shown
