"""Training on several devices: seeds, evaluations, files, resume on other devices, refusals."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.studies.file import read_study
from gpae.training import device, experiment
from gpae.training.config import RunOptions, configure
from gpae.training.device import groups_of, mesh
from gpae.training.experiment import Experiment
from gpae.training.trainer import train

CONFIG = configure(
    "ippo",
    recurrent=False,
    groups=2,
    num_envs=8,
    rollout_length=8,
    epochs=1,
    hidden_size=8,
    embedding_size=8,
    total_steps=128,
    evaluations=1,
    evaluation_episodes=3,
)


@pytest.fixture(autouse=True)
def _team(monkeypatch):
    monkeypatch.setattr(experiment, "make_environment", lambda config: Team())


def updated(config, devices, updates=2):
    """The experiment, its state after some updates, and the metrics of the last one."""
    found = Experiment(config, devices)
    state = found.init()
    for _ in range(updates):
        state, metrics = found.update(state)
    return found, state, metrics


@pytest.mark.slow
def test_devices_share_seeds_and_their_environments_and_learn_and_play_what_one_does():
    config = CONFIG.replace(seeds=2)
    one, alone, measured = updated(config, 1)
    several, shared, measured_there = updated(config, 4)
    assert dict(several.mesh.shape) == {"seed": 2, "env": 2}
    held = shared.vector.is_first
    assert held.addressable_shards[0].data.shape == (1, held.shape[1] // 2)
    for x, y in zip(jax.tree.leaves(alone.params), jax.tree.leaves(shared.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    for name in measured:
        np.testing.assert_allclose(measured[name], measured_there[name], rtol=1e-3, atol=1e-4, err_msg=name)

    text = several._update.wait().as_text()
    # Sums are over the two devices of a seed and never over all four, in either of XLA's ways to write that.
    sums = [line for line in text.splitlines() if re.search(r"= .* all-reduce\S*\(", line)]
    assert sums
    assert not [line for line in sums if "{0,1,2,3}" in line or "[1,4]<=[4]" in line]
    assert not re.search(r"= .*(all-to-all|collective-permute)", text)
    # A number per seed and update of each metric is all that is gathered.
    assert set(re.findall(r"= (\S+?)\{\S* all-gather\(", text)) == {"f32[2,1]"}
    assert several._update.wait().cost_analysis()["flops"] < 0.35 * one._update.wait().cost_analysis()["flops"]

    # Three greedy and three sampled episodes, which no number of devices but 2 can share evenly.
    actors = jax.device_get(alone.params.actor)
    assert one.evaluate(actors, purpose=2, episodes=5) == several.evaluate(actors, purpose=2, episodes=5)
    theirs = several.episode(actors)
    jax.tree.map(np.testing.assert_array_equal, one.episode(actors), theirs)
    assert several._episodes.wait().cost_analysis()["flops"] < 0.35 * one._episodes.wait().cost_analysis()["flops"]


def test_what_is_only_played_is_played_on_all_devices_whatever_groups_it_has(monkeypatch):
    monkeypatch.setattr(device, "usable", jax.devices)
    monkeypatch.setattr(experiment, "usable", jax.devices)
    config = CONFIG.replace(groups=1)
    assert dict(Experiment(config, only_played=True).mesh.shape) == {"seed": 1, "env": 4}
    assert dict(Experiment(config.replace(seeds=6), only_played=True).mesh.shape) == {"seed": 2, "env": 2}


@pytest.mark.slow
def test_a_run_begun_on_two_devices_goes_on_on_one(tmp_path):
    """With the numbers of one that was there all the time."""
    options = RunOptions(runs=tmp_path, name="moved", quiet=True, devices=2)
    config = CONFIG.replace(groups=None, anneal=False)
    begun = train(config, options)
    assert begun.config == CONFIG.replace(anneal=False)
    moved = train(config.replace(total_steps=256), dataclasses.replace(options, devices=1, resume=True))
    stayed = dataclasses.replace(options, name="stayed", devices=1)
    unbroken = train(CONFIG.replace(anneal=False, total_steps=256), stayed)
    assert [line["update"] for line in moved.metrics] == [1, 2, 3, 4]
    for ours, theirs in zip(moved.metrics, unbroken.metrics, strict=True):
        for name in ours.keys() - {"seconds"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_devices_that_cannot_share_evenly_are_refused():
    with pytest.raises(UserError, match="--groups 4 would do"):
        mesh(2, 4)
    with pytest.raises(UserError, match="groups of environments of 3 seeds, and this run has 2"):
        mesh(2, 4, seeds=3)
    with pytest.raises(UserError, match="JAX finds 4"):
        mesh(8, 8)


def test_as_many_devices_train_as_can_share_evenly(monkeypatch):
    assert jax.device_count() == 4
    assert mesh(8) is None  # one CPU computes with all cores
    monkeypatch.setattr(device, "usable", jax.devices)
    assert mesh(1) is None
    assert dict(mesh(6).shape) == {"seed": 1, "env": 3}
    assert dict(mesh(8).shape) == {"seed": 1, "env": 4}
    assert dict(mesh(1, seeds=6).shape) == {"seed": 3, "env": 1}
    assert dict(mesh(2, seeds=2).shape) == {"seed": 2, "env": 2}
    assert dict(mesh(4, 4, seeds=5).shape) == {"seed": 1, "env": 4}


def test_products_are_as_precise_as_was_asked_for():
    """Where the device has several precisions, such as TF32; seen in the program, since a CPU has one."""
    for precision, shown in (("default", False), ("float32", True)):
        config = configure("mappo", env="probe/team", num_envs=2, rollout_length=4, matmul_precision=precision)
        made = Experiment(config)
        program = jax.jit(made.updates).lower(made.shapes, made.traced, made.budget)
        assert ("HIGHEST" in program.as_text()) is shown


def test_a_run_has_a_group_for_every_device_unless_it_says_otherwise(monkeypatch):
    config = CONFIG.replace(groups=None)
    assert groups_of(config) == 1
    assert groups_of(config, 4) == 4
    assert groups_of(config.replace(seeds=2), 4) == 2  # seeds are shared out first
    assert groups_of(config.replace(seeds=4), 4) == 1
    with pytest.raises(UserError, match="--devices 3: num_envs / window = 8 is not divisible by groups = 3"):
        groups_of(config, 3)
    monkeypatch.setattr(device, "usable", jax.devices)
    assert groups_of(config) == 4
    assert groups_of(config.replace(num_envs=6)) == 3
    assert groups_of(config.replace(num_envs=7)) == 1
    assert groups_of(config.replace(seeds=3)) == 4
    assert groups_of(config.replace(seeds=6, num_envs=7)) == 1  # three devices have two seeds each


def test_a_study_has_one_group_wherever_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "usable", jax.devices)
    file = tmp_path / "study.toml"
    file.write_text('environments = ["probe/team"]\nalgorithms = ["gpae"]\nsteps = 100\n')
    assert read_study(file, tmp_path).runs[0].config.groups == 1
    file.write_text(file.read_text() + "[all]\ngroups = 2\n")
    assert read_study(file, tmp_path).runs[0].config.groups == 2
