"""A training that starts from another run's parameters: what fits is taken, what does not is said."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.envs import make
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory
from gpae.training.config import as_dict
from gpae.training.experiment import Experiment
from gpae.training.stopped import Interrupted
from gpae.training.transfer import read_trained
from reference.trainings import CONFIG, TINY, assert_same_arrays, final_state, options, same_but_for_time, stop_after

pytestmark = pytest.mark.slow


def begun(config, path):
    """The experiment's first state without and with what another run has learnt, and what was said."""
    experiment = Experiment(config)
    found = read_trained(str(path), experiment)
    fresh = experiment.init()
    return fresh, found.begin(experiment, fresh), found.report


def trained(path, config=CONFIG):
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore({"params": Experiment(config).shapes.params})[0]["params"]


def test_where_everything_fits_the_first_state_has_all_parameters_and_a_fresh_optimiser(run):
    fresh, state, report = begun(CONFIG, run.path)
    assert_same_arrays(state.params, trained(run.path))
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (state.params, fresh.params)), strict=True))
    assert_same_arrays(jax.tree.leaves(state.optimiser), jax.tree.leaves(fresh.optimiser))
    assert report[0] == f"starts from {run.path}, its update 20 (320 steps)"
    assert [line.split(": ")[0] for line in report[1:]] == ["  actor, fits", "  critic, fits"]


def test_what_does_not_fit_begins_afresh_and_is_named(run):
    """In an environment with fewer agents, and an actor that is shown no index."""
    config = CONFIG.replace(env="probe/death", actor_identity=False)
    fresh, state, report = begun(config, run.path)
    before = trained(run.path)
    assert_same_arrays(state.params.actor["params"]["Core_0"], before.actor["params"]["Core_0"])
    ours, theirs = (x.actor["params"]["Torso_0"]["Dense_0"] for x in (state.params, before))
    assert_same_arrays(ours["kernel"], fresh.params.actor["params"]["Torso_0"]["Dense_0"]["kernel"])
    assert ours["kernel"].shape != theirs["kernel"].shape
    said = "\n".join(report)
    assert "actor, begins afresh: LayerNorm_0.bias [6] ([7] there), LayerNorm_0.scale [6] ([7] there)" in said
    assert "Torso_0.Dense_0.kernel [6, 8] ([7, 8] there)" in said


def test_another_algorithm_takes_the_actor_and_says_what_of_the_critic_is_not_used(run):
    config = gpae.configure("qmix", env="probe/team", num_envs=8, rollout_length=4, hidden_size=8, actor_identity=True)
    _, state, report = begun(config, run.path)
    assert_same_arrays(state.params.actor, trained(run.path).actor)
    assert_same_arrays(state.target.actor, state.params.actor)  # the target networks begin with them too
    assert any(line.startswith("  critic, not used: ") for line in report)


def test_seeds_begin_with_those_of_the_other_run_in_turn(run):
    found = read_trained(str(run.path), Experiment(CONFIG.replace(seeds=3)))
    bias = trained(run.path).actor["params"]["Dense_0"]["bias"]
    np.testing.assert_array_equal(found.fitted[".actor['params']['Dense_0']['bias']"], [bias] * 3)


@pytest.mark.parametrize("seeds", [1, 2])
def test_running_statistics_keep_mean_and_variance_and_count_for_one_rollout(seeds, tmp_path):
    """Those of a long run would hold them where they are; so the first rollout weighs half or more."""
    on = {"normalise_observations": True, "normalise_state": True, "normalise_values": True}
    experiment = Experiment(CONFIG.replace(**on, seeds=seeds))
    long_run = jax.tree.map(lambda x: np.full(x.shape, 1e6, x.dtype), experiment.shapes.params)
    with (
        RunDirectory.create(tmp_path / "long", as_dict(experiment.config), overwrite=False) as directory,
        Checkpoints(directory.checkpoints) as checkpoints,
    ):
        checkpoints.save(1, {"params": long_run}, {"update": 1, "env_steps": 32})
    fitted = read_trained(str(tmp_path / "long"), experiment).fitted
    steps = CONFIG.algorithm.steps_per_update
    counts = {name for name in fitted if name.endswith("['count']")}
    assert {name.split("'")[-4] for name in counts} == {"observations", "state", "values"}
    for name, x in fitted.items():
        assert (x == (steps if name in counts else 1e6)).all(), name


@pytest.mark.parametrize("maps", [("2s3z", "smacv2_5_units"), ("3s5z", "8m")])
def test_between_these_maps_of_smax_everything_fits(maps):
    """As docs/use.md says."""
    alike = {"name": "", "episode_limit": 1, "agent_types": None}
    one, other = (replace(make(f"smax/{name}").spec, **alike) for name in maps)
    assert one == other


def test_nothing_that_fits_is_one_line_and_makes_no_run(run, tmp_path, capsys):
    command = ["train", *TINY, "--hidden-size", "16", "--name", "x", "--runs", str(tmp_path)]
    assert main([*command, "--from", str(run.path)]) == 2
    said = capsys.readouterr().err
    assert "nothing that its actor has learnt fits: " in said
    assert "Core_0.GRU_0.u is [16, 48] here and [8, 24] there" in said
    assert len(said.splitlines()) == 1
    assert main([*command, "--from", str(tmp_path / "nowhere")]) == 2
    assert "is not a gpae run directory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_is_written_down_printed_and_resumed_without_the_other_run(run, tmp_path, monkeypatch, capsys):
    source = shutil.copytree(run.path, tmp_path / "source")
    config = CONFIG.replace(from_=str(source))
    unbroken = gpae.train(config, gpae.RunOptions(name="unbroken", runs=tmp_path))
    said = capsys.readouterr().out
    assert f"starts from {source}, its update 20" in said.replace("\n", "")
    assert "actor, fits: " in said
    assert json.loads((unbroken.path / "config.json").read_text())["from"] == str(source)
    assert same_but_for_time(unbroken.metrics)[0] != same_but_for_time(run.metrics)[0]
    with monkeypatch.context() as patched:
        stop_after(10, patched)
        with pytest.raises(Interrupted):
            gpae.train(config, options(tmp_path))
    shutil.rmtree(source)
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert_same_arrays(final_state(config, tmp_path / "run")[0], final_state(config, unbroken.path)[0])
    with pytest.raises(UserError, match="source is not a gpae run directory"):
        gpae.train(config, options(tmp_path / "more"))


def test_a_run_of_version_0_1_can_be_started_from(tmp_path):
    from training.test_version_0_1 import OLD

    config = gpae.Run(OLD).config
    _, state, report = begun(config, OLD)
    with Checkpoints(OLD / "checkpoints", read_only=True) as checkpoints:
        before = checkpoints.arrays("best")[".actor['params']['Dense_0']['bias']"]
    np.testing.assert_array_equal(state.params.actor["params"]["Dense_0"]["bias"], before)
    assert len(report) == 3
