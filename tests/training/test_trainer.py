"""A run from its first update to its files, and what stops it."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import gpae
from gpae.diagnostics import pictures
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.evaluations import lacking, read_evaluations
from gpae.runs.metrics import read_metrics
from gpae.training import trainer
from gpae.training.config import RunOptions
from gpae.training.experiment import Experiment
from gpae.training.recorder import Recorder
from gpae.training.stopped import Diverged
from gpae.training.trainer import _Training
from reference.trainings import CONFIG, final_state, options, same_but_for_time


def test_a_run_leaves_what_it_promises(run):
    assert CONFIG.num_updates == 20  # 300 / 16, rounded up to whole calls of two updates
    files = {p.name for p in run.path.iterdir()}
    assert files >= {"config.json", "versions.json", "metrics.jsonl", "evaluations.json", "checkpoints", "curve.png"}
    assert [line["update"] for line in run.metrics] == list(range(1, 21))
    assert run.metrics[-1]["env_steps"] == CONFIG.num_steps == 320
    assert run.config == CONFIG.replace(groups=1)  # one CPU computes with all cores
    seed = run.evaluations["seed_0"]
    assert [seed[f"step_{i}"]["step_count"] for i in range(3)] == [96, 224, 320]
    assert len(seed["step_0"]["win_rate"]) == 8
    assert len(seed["absolute_metrics"]["sampled_return"]) == 80
    assert "train_win_rate" in run.metrics[-1]
    assert {"ess_own", "ess_others", "trace_mean", "cut_at_eta", "cut_at_one"} <= set(run.metrics[-1])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_good_checkpoint_stays(run, tmp_path, monkeypatch):
    log = _Training._log

    def poison(self, metrics, *args):
        if self.done == 8:  # the call of updates 9 and 10
            metrics = metrics | {"value_loss": metrics["value_loss"] * np.array([1.0, np.nan])}
        log(self, metrics, *args)

    monkeypatch.setattr(_Training, "_log", poison)
    with pytest.raises(Diverged, match=r"update 10, seed 0: value_loss not finite; the checkpoint of update 6 is kept"):
        gpae.train(CONFIG, options(tmp_path))
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in metrics.jsonl"))
    monkeypatch.undo()
    resumed = gpae.train(CONFIG, options(tmp_path, resume=True))
    assert same_but_for_time(resumed.metrics) == same_but_for_time(run.metrics)


@pytest.mark.slow
def test_a_score_that_is_not_finite_stops_the_run_and_is_nobodys_best(tmp_path, monkeypatch):
    score, count = Experiment.score, iter(range(100))
    monkeypatch.setattr(Experiment, "score", lambda self, e: np.nan if next(count) == 1 else score(self, e))
    with pytest.raises(Diverged, match=r"update 14, seed 0: an evaluation's win_rate is not finite; .* 6 is kept"):
        gpae.train(CONFIG, options(tmp_path))
    monkeypatch.undo()
    run = gpae.train(CONFIG, options(tmp_path, resume=True))
    assert [run.evaluations["seed_0"][f"step_{i}"]["step_count"] for i in range(3)] == [96, 224, 320]


def test_a_training_that_comes_to_nothing_leaves_nothing_in_the_way(run, tmp_path, monkeypatch):
    """Refused before the first update, for whatever reason: the same command can be given again."""

    def refuse(*_):
        raise UserError("observe: not as declared")

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    def broken(*_):
        raise ZeroDivisionError("unforeseen")

    there = shutil.copytree(run.path, tmp_path / "there" / "run")
    before = sorted(p.name for p in there.iterdir())
    for place, wrong, said, hows in (
        (trainer, ("check_declared", refuse), "not as declared", ({}, {"overwrite": True}, {"resume": True})),
        (trainer, ("check_declared", broken), "unforeseen", ({}, {"overwrite": True})),
        (Checkpoints, ("__enter__", broken), "unforeseen", ({}, {"overwrite": True})),
        (Experiment, ("update", full), "RESOURCE", ({},)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, *wrong)
            for how in hows:
                folder = there.parent if how else tmp_path / "new"
                with pytest.raises((UserError, ZeroDivisionError, jax.errors.JaxRuntimeError), match=said):
                    gpae.train(CONFIG.replace(total_steps=400) if "resume" in how else CONFIG, options(folder, **how))
                assert sorted(p.name for p in there.iterdir()) == before
                assert how or not list(folder.iterdir())
    assert gpae.Run(there).metrics == run.metrics
    shutil.rmtree(there / "checkpoints")  # a run that is resumed is somebody's, however far it came
    monkeypatch.setattr(trainer, "check_declared", refuse)
    with pytest.raises(UserError, match="not as declared"):
        gpae.train(CONFIG.replace(total_steps=400), options(there.parent, resume=True))
    assert {p.name for p in there.iterdir()} >= set(before) - {"checkpoints"}


def test_infinite_parameters_are_noticed(tmp_path):
    config = CONFIG.replace(learning_rate=1e30)
    with pytest.raises(Diverged, match=r"update 1, seed 0: .*parameter_norm.*not finite; there is no checkpoint yet"):
        gpae.train(config, options(tmp_path))


@pytest.mark.slow
def test_seeds_in_one_run_are_those_trained_alone(run, tmp_path):
    config = CONFIG.replace(seeds=2)
    both = gpae.train(config, options(tmp_path))
    assert [(line["update"], line["seed"]) for line in both.metrics[:3]] == [(1, 0), (1, 1), (2, 0)]
    assert set(both.evaluations) == {"seed_0", "seed_1"}
    other = gpae.train(CONFIG.replace(seed=1), options(tmp_path / "alone"))
    for seed, alone in ((0, run.metrics), (1, other.metrics)):
        for ours, theirs in zip(both.metrics[seed::2][:4], alone[:4], strict=True):
            for name in ours.keys() - {"seconds"}:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-4, err_msg=name)
    assert abs(both.metrics[1]["parameter_norm"] - both.metrics[0]["parameter_norm"]) > 1e-3
    items, _ = final_state(config, both.path)
    for seed in (0, 1):
        policy = both.policy(agent=0, seed=seed)
        for x, y in zip(jax.tree.leaves(policy._params), jax.tree.leaves(items["state"].params.actor), strict=True):
            np.testing.assert_array_equal(x, y[seed])


@pytest.mark.slow
def test_several_seeds_begin_on_two_cores():
    """Where XLA has two threads, decompositions in a batch and the program that waits for them took both for ever."""
    program = (
        "import os; os.environ.pop('XLA_FLAGS', None)\n"
        "if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:2])\n"
        "import jax; from gpae.training.config import configure; from gpae.training.experiment import Experiment\n"
        "for name in ('gpae', 'dae'):\n"
        "    config = configure(name, env='probe/team', seeds=3, num_envs=8, rollout_length=4)\n"
        "    jax.block_until_ready(Experiment(config).init())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.slow
def test_the_best_parameters_are_kept_for_each_seed(tmp_path, monkeypatch):
    scores = iter([[0.2, 0.5], [0.7, 0.4], [0.6, 0.5]])  # after updates 6, 14 and 20; the last equals an earlier one
    seen, absolute = [], []

    def scripted(self, actor, purpose, number=0, episodes=None):
        if purpose == 2:
            absolute.append(jax.device_get(actor))
            return [{"win_rate": [1.0]}] * 2
        seen.append(jax.device_get(actor))
        return [{"win_rate": [score]} for score in next(scores)]

    monkeypatch.setattr(Experiment, "evaluate", scripted)
    config = CONFIG.replace(seeds=2)
    both = gpae.train(config, options(tmp_path))
    items, info = final_state(config, both.path)
    assert info["best_scores"] == [0.7, 0.5]
    best = jax.tree.leaves(items["best"].actor)
    for x, second, third, used in zip(*map(jax.tree.leaves, (best, seen[1], seen[2], absolute[0])), strict=True):
        np.testing.assert_array_equal(x[0], second[0])
        np.testing.assert_array_equal(x[1], third[1])  # of equals, the one trained longer
        np.testing.assert_array_equal(x, used)
    # Trap 12: what is evaluated are the parameters after the update.
    for x, y in zip(jax.tree.leaves(items["state"].params.actor), jax.tree.leaves(seen[2]), strict=True):
        np.testing.assert_array_equal(x, y)


def test_evaluations_have_keys_of_their_own():
    seeds = Experiment(CONFIG).seeds
    keys = [(0, 0), *((1, number) for number in range(20)), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]
    assert len({tuple(np.asarray(jax.random.key_data(seeds.keys(*key)))) for key in keys}) == len(keys)


def test_a_mean_over_no_finished_episode_is_absent(tmp_path):
    """Trap 10."""
    experiment = Experiment(CONFIG)
    with _Training(experiment, options(tmp_path), [], experiment.compile_update, list) as training:
        metrics = {"episodes": np.array([0.0, 4.0]), "wins": np.array([0.0, 1.0])}
        training._log(metrics, Recorder(experiment, training.directory, options(tmp_path), [], start_steps=0))
    first, second = read_metrics(tmp_path / "run")
    assert "train_win_rate" not in first
    assert second["train_win_rate"] == 0.25


def test_greedy_and_sampled_episodes_are_labelled_as_such(run):
    absolute = run.evaluations["seed_0"]["absolute_metrics"]
    # Hardly trained: play by chance earns every return, the greedy policy one or two.
    assert len(set(absolute["return"])) <= 2
    assert len(set(absolute["sampled_return"])) == 3


def test_callbacks_are_told_after_everything_is_saved(tmp_path):
    told = []

    class Listener:
        def evaluated(self, evaluation):
            steps = [line["step_count"] for line in gpae.Run(evaluation.run).evaluations["seed_0"].values()]
            told.append((evaluation.env_steps, steps[-1], len(evaluation.metrics)))

        def trained(self, path, experiment, params):
            told.append(("trained", "absolute_metrics" in gpae.Run(path).evaluations["seed_0"]))
            return ["a.txt"]

        def finished(self, path):
            told.append(("finished", len(gpae.Run(path).evaluations["seed_0"]["absolute_metrics"]["return"])))

    trainer.train(CONFIG.replace(total_steps=64, evaluations=2), options(tmp_path), callbacks=[Listener()])
    assert told == [(32, 32, 1), (64, 64, 1), ("trained", False), ("finished", 80)]


def test_a_run_killed_while_it_draws_is_not_finished_and_resuming_draws(tmp_path, monkeypatch):
    config = CONFIG.replace(total_steps=64, evaluations=1)

    def killed(path):
        raise SystemExit(9)

    with monkeypatch.context() as patched:
        patched.setattr(pictures, "learning_curve", killed)
        with pytest.raises(SystemExit):
            pictures.train(config, options(tmp_path))
    (path,) = tmp_path.iterdir()
    assert lacking(read_evaluations(path), config.env, "gpae", [0])
    assert not (path / "curve.png").exists()
    pictures.train(config, options(tmp_path, resume=True))
    assert not lacking(read_evaluations(path), config.env, "gpae", [0])
    assert (path / "curve.png").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a/b", "/x"])
def test_a_name_that_is_not_that_of_a_folder_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="a run cannot be named"):
        gpae.train(CONFIG, RunOptions(name=name, runs=tmp_path / "runs", quiet=True))
    assert not list(tmp_path.iterdir())
