"""A caller's function that hears of evaluations, and can stop the run."""

import numpy as np
import pytest

import gpae
from gpae.diagnostics.pictures import train_together
from gpae.runs.evaluations import lacking, read_evaluations
from gpae.runs.metrics import read_metrics
from gpae.training.config import RunOptions
from gpae.training.together import Together
from reference.trainings import CONFIG, options, same_but_for_time


def test_a_callback_hears_what_is_written_down(run, tmp_path):
    heard: list[gpae.EvaluationResult] = []
    told = gpae.train(CONFIG, options(tmp_path), callback=heard.append)
    assert same_but_for_time(told.metrics) == same_but_for_time(run.metrics)
    assert [(e.update, e.env_steps) for e in heard] == [(6, 96), (14, 224), (20, 320)]
    written = told.evaluations["seed_0"]
    for i, evaluation in enumerate(heard):
        assert evaluation.run == told.path
        step = written[f"step_{i}"]
        assert set(evaluation.metrics[0]) == set(step) - {"step_count", "elapsed_time"}
        for name, value in evaluation.metrics[0].items():
            assert value == np.mean(step[name])
        assert evaluation.score_name == "win_rate"
        assert evaluation.score == evaluation.mean("win_rate") == evaluation.metrics[0]["win_rate"]
        assert evaluation.seconds == pytest.approx(step["elapsed_time"], abs=0.01)
    assert "absolute_metrics" in written


@pytest.mark.slow
def test_a_run_that_its_callback_stops_is_saved_and_can_be_resumed(run, tmp_path, capsys):
    config = CONFIG.replace(checkpoint_updates=20)  # nothing would be saved at the first evaluation
    stopped = gpae.train(config, RunOptions(name="run", runs=tmp_path), callback=lambda evaluation: True)
    assert "stopped by its callback and saved after update 6" in capsys.readouterr().out
    assert stopped.metrics[-1]["update"] == 6
    assert lacking(read_evaluations(stopped.path), config.env, "gpae", [0]) == ["seed_0"]  # so it is not finished
    assert (stopped.path / "curve.png").exists()
    assert stopped.policy(agent=0).num_actions == 2
    last = []
    resumed = gpae.train(config, options(tmp_path, resume=True), callback=lambda e: last.append(e) or e.update == 20)
    assert [e.update for e in last] == [14, 20]
    # After the last step there is nothing to stop.
    assert same_but_for_time(resumed.metrics) == same_but_for_time(run.metrics)
    assert resumed.evaluations["seed_0"]["absolute_metrics"] == run.evaluations["seed_0"]["absolute_metrics"]


def test_the_score_is_a_mean_over_seeds():
    metrics = {3: {"return": 1.0, "sampled_return": 0.0}, 4: {"return": 2.0, "sampled_return": 4.0}}
    result = gpae.EvaluationResult(run=None, update=1, env_steps=8, seconds=0.1, metrics=metrics, score_name="return")
    assert (result.score, result.mean("sampled_return")) == (1.5, 2.0)


@pytest.mark.slow
def test_of_several_in_one_program_some_stop_and_the_others_go_on_as_they_would(run, tmp_path, monkeypatch):
    """Of four one ends at the first evaluation, its place is filled; one at the second, and half of them are left."""
    sizes = []
    lower = Together._lower
    monkeypatch.setattr(Together, "_lower", lambda self, size: sizes.append(size) or lower(self, size))
    configs = [CONFIG.replace(learning_rate=rate) for rate in (1e-4, 2e-3, 1e-3, 4e-3)]
    configs[2] = CONFIG
    places = [RunOptions(name=str(i), runs=tmp_path, quiet=True) for i in range(4)]
    ends = {"0": 6, "3": 14}
    runs = train_together(configs, places, callback=lambda e: ends.get(e.run.name) == e.update)
    assert [r.metrics[-1]["update"] for r in runs] == [6, 20, 20, 14]
    assert sizes == [4, 2]
    for ours, theirs in zip(runs[2].metrics, run.metrics, strict=True):
        np.testing.assert_allclose(ours["value_loss"], theirs["value_loss"], rtol=2e-2, atol=1e-4)
    assert [r.path.name for r in runs if "absolute_metrics" in r.evaluations["seed_0"]] == ["1", "2"]
    assert read_metrics(tmp_path / "1")[-1]["value_loss"] != runs[2].metrics[-1]["value_loss"]
