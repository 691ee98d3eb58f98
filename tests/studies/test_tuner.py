"""Carrying out a tuning: draws, budgets, pruning, resumption, with a stand-in for training; and for real."""

import importlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from gpae.cli import main
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.evaluations import read_evaluations
from gpae.runs.metrics import read_metrics
from gpae.studies import tuner
from gpae.studies.database import database
from gpae.studies.tuner import best, importances, tried, tune
from gpae.studies.tuning import read_tuning
from gpae.training.config import RunOptions
from gpae.training.recorder import EvaluationResult
from gpae.training.stopped import Diverged, Interrupted
from gpae.training.together import differing
from gpae.training.trainer import train
from reference.runs import write_run
from reference.terminal import unread
from reference.trainings import same_but_for_time

pytestmark = pytest.mark.slow

TEXT = """\
name = "toy"
environments = ["probe/team"]
algorithms = ["gpae", "mappo"]
first_seed = 100
seeds = 2
steps = 1_000
evaluation = { times = 4, episodes = 100 }
trials = 10
trials_at_once = 4
score = { metric = "win_rate", last = 2 }
prune = { after = 2, from = 2, keep = 0.5 }

[all]
num_envs = 16
rollout_length = 4
chunk_length = "None"
learning_rate = { low = 1e-4, high = 1e-2, log = true }
epochs = { choices = [1, 2, 4] }
"""
ONE = TEXT.replace(', "mappo"', "")


def quality(config):
    """Best at a learning rate of 1e-3 with 2 epochs."""
    rate = float(config.algorithm.optimisation.learning_rate)
    return max(0.0, 0.9 - abs(math.log10(rate) + 3) / 2 - 0.1 * abs(config.algorithm.optimisation.epochs - 2))


class StandIn:
    """Trains nothing, but leaves behind what training does and tells of it."""

    def __init__(self):
        self.calls = []
        self.before = lambda configs: None
        """Called with what is to be trained; may raise."""
        self.after = lambda: None
        """Called when all are trained; may raise."""

    def __call__(self, configs, options, *, callbacks):
        pairs = list(zip(configs, options, strict=True))
        self.calls.append([(config, option.path(config), option.resume) for config, option in pairs])
        self.before(configs)
        bad = []
        for config, option in pairs:
            path, times = option.path(config), config.evaluation.evaluations
            if quality(config) < 0.3:
                write_run(path, config, np.zeros((config.seeds, 0)))
                bad.append(path)
                continue
            curve = [quality(config) * (k + 1) / times for k in range(times)]
            for k in range(times):
                shutil.rmtree(path, ignore_errors=True)
                write_run(path, config, [curve[: k + 1]] * config.seeds)
                told = EvaluationResult(path, k, k, 0.0, {100: {"win_rate": curve[k]}}, "win_rate")
                (callback,) = callbacks
                if callback.evaluated(told) and k < times - 1:
                    break
            else:
                shutil.rmtree(path)
                write_run(path, config, [curve] * config.seeds, [curve[-1]] * config.seeds)
        self.after()
        if bad:
            raise Diverged(f"update 3, seed 100: value_loss not finite; in {bad[0].name}")


@pytest.fixture
def stand_in(monkeypatch):
    made = StandIn()
    monkeypatch.setattr(tuner, "train_together", made)
    monkeypatch.setattr("jax.clear_caches", lambda: None)  # other tests' programs stay
    return made


def read(folder, text=TEXT):
    folder.mkdir(exist_ok=True)
    (folder / "toy.toml").write_text(text)
    return read_tuning(folder / "toy.toml", folder / "runs")


def carry_out(tuning):
    text = io.StringIO()
    code = tune(tuning, console=Console(file=text, width=1000, highlight=False))
    return code, text.getvalue()


def test_every_method_has_as_many_trials_and_a_program_trains_some(tmp_path, stand_in):
    tuning = read(tmp_path)
    code, said = carry_out(tuning)
    assert code == 0
    # In turn; the last batch is what is left.
    assert [(call[0][0].algorithm.name, len(call)) for call in stand_in.calls] == [
        (name, size) for size in (4, 4, 2) for name in ("gpae", "mappo")
    ]
    for call in stand_in.calls:
        assert all(differing(call[0][0], config) is None for config, _, _ in call)
        assert len({float(config.algorithm.optimisation.learning_rate) for config, _, _ in call}) == len(call)
    found = tried(tuning)
    for method, trials in found:
        assert [trial.number for trial in trials] == list(range(10))
        name = method.config.algorithm.name
        trained = [c for call in stand_in.calls for c, _, _ in call if c.algorithm.name == name]
        assert [method.trial(trial.values) for trial in trials] == trained
        for trial, config in zip(trials, trained, strict=True):
            path = tuning.path / method.name / f"trial-{trial.number}"
            assert json.loads((path / "config.json").read_text())["learning_rate"] == trial.values["learning_rate"]
            if trial.state == "complete":
                curve = [round(100 * quality(config) * k / 4) / 100 for k in (3, 4)]
                assert trial.score == pytest.approx(np.mean(curve))
        winner = best(trials)
        assert winner.score == max(t.score for t in trials if t.state == "complete")
        assert f"{method.name}: trial {winner.number}: win_rate {winner.score:.4g} (learning_rate " in said
    assert importances(tuning) == [{}, {}]  # ten trials are too few
    assert carry_out(tuning) == (0, "")  # nothing is left
    assert carry_out(read(tmp_path, TEXT.replace("trials = 10", "trials = 11")))[0] == 0  # but it can be given more
    assert [len(call) for call in stand_in.calls[6:]] == [1, 1]


def test_the_worse_ones_end_early_and_those_that_diverge_count_as_trials(tmp_path, stand_in, monkeypatch):
    tuning = read(tmp_path, ONE.replace("trials = 10", "trials = 20"))
    _, said = carry_out(tuning)
    ((_, trials),) = tried(tuning)
    assert len(trials) == 20
    states = {state: [t for t in trials if t.state == state] for state in ("complete", "pruned", "failed")}
    assert all(states.values())
    assert {t.score is None for t in states["failed"]} == {True}
    for trial in states["pruned"]:
        run = tuning.path / "probe-team-gpae" / f"trial-{trial.number}"
        steps = read_evaluations(run)["probe"]["team"]["gpae"]["seed_100"]
        assert 2 <= len(steps) < 4
        assert trial.score < best(trials).score
        assert f"trial {trial.number}: win_rate {trial.score:.4g}, pruned at evaluation {len(steps)} (" in said
    assert "never evaluated, update 3, seed 100: value_loss not finite; in trial-" in said
    (shares,) = importances(tuning)
    assert set(shares) == {"learning_rate", "epochs"}
    assert sum(shares.values()) == pytest.approx(1.0)
    # Of how much a setting matters they are the worst, whatever they told before they ended.
    judged = []
    module = importlib.import_module("optuna.importance")  # the attribute is another, lazy object
    monkeypatch.setattr(module, "get_param_importances", lambda of, **_: judged.extend(of.trials) or {})
    importances(tuning)
    values = {trial.value for trial in judged}
    assert values == {t.score for t in states["complete"]} | {min(t.score for t in states["complete"]) - 1.0}
    assert len(judged) == 20
    kept = read(tmp_path / "kept", TEXT.replace("prune = {", "# prune = {") + "\n")
    assert kept.pruning is not None  # as by default
    whole = read(tmp_path / "whole", "prune = false\n" + ONE.replace("prune = {", "# {"))
    carry_out(whole)
    assert {t.state for _, found in tried(whole) for t in found} <= {"complete", "failed"}


def test_what_was_pruned_before_a_signal_has_ended(tmp_path, stand_in):
    tuning = read(tmp_path, "sampler = 'random'\n" + ONE)

    def interrupt():
        if len(stand_in.calls) == 2:
            raise Interrupted(signal.SIGINT, tuning.path)

    stand_in.after = interrupt
    assert carry_out(tuning)[0] == 130
    ((_, trials),) = tried(tuning)
    ended = [t.number for t in trials]
    assert ended[:4] == [0, 1, 2, 3]
    assert 4 < len(ended) < 8  # some of the second batch
    assert {t.state for t in trials[4:]} == {"pruned"}
    stand_in.after, stand_in.calls = (lambda: None), []
    shutil.rmtree(tuning.path / "probe-team-gpae")
    assert carry_out(tuning)[0] == 0
    assert [int(path.name[6:]) for _, path, _ in stand_in.calls[0]] == sorted(set(range(8)) - set(ended))


def test_what_does_not_fit_the_device_is_said_and_fewer_are_trained_at_once(tmp_path, stand_in):
    def too_large(configs):
        if len(configs) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore words")

    stand_in.before = too_large
    with pytest.raises(UserError, match=r"gpae, trials 0, 1, 2, 3: RESOURCE_EXHAUSTED: .* fewer trials_at_once"):
        carry_out(read(tmp_path, ONE))
    fewer = ONE.replace("trials_at_once = 4", "trials_at_once = 2")
    assert carry_out(read(tmp_path, fewer))[0] == 0
    assert [len(call) for call in stand_in.calls] == [4, 2, 2, 2, 2, 2]
    # Once others have run to their end, it is these settings that do not.
    code, said = carry_out(read(tmp_path, ONE.replace("trials = 10", "trials = 13")))
    assert code == 0
    assert said.count("RESOURCE_EXHAUSTED") == 3
    ((_, trials),) = tried(read(tmp_path, ONE))
    assert [t.state for t in trials[10:]] == ["failed"] * 3


def drawn(tuning):
    return [[(t.number, dict(t.values), t.score, t.state) for t in trials] for _, trials in tried(tuning)]


def test_a_signal_leaves_the_batch_to_be_resumed_and_the_trials_are_those_of_an_unbroken_tuning(tmp_path, stand_in):
    unbroken = read(tmp_path / "unbroken", ONE)
    carry_out(unbroken)
    tuning, stand_in.calls = read(tmp_path / "broken", ONE), []

    def interrupt(configs):
        if len(stand_in.calls) == 2:
            write_run(tuning.path / "probe-team-gpae" / "trial-4", configs[0], np.zeros((2, 0)))  # has begun
            raise Interrupted(signal.SIGTERM, tuning.path)

    stand_in.before = interrupt
    code, said = carry_out(tuning)
    assert code == 143
    assert said.endswith("SIGTERM: saved; the same command continues\n")
    assert [len(trials) for _, trials in tried(tuning)] == [4]
    stopped = stand_in.calls[-1]
    stand_in.before, stand_in.calls = (lambda configs: shutil.rmtree(stopped[0][1], ignore_errors=True)), []
    assert carry_out(tuning)[0] == 0
    assert [(config, path) for config, path, _ in stand_in.calls[0]] == [(config, path) for config, path, _ in stopped]
    assert [resume for _, _, resume in stand_in.calls[0]] == [True, False, False, False]
    assert drawn(tuning) == drawn(unbroken)


def test_what_a_kill_left_half_drawn_is_no_trial(tmp_path, stand_in):
    tuning = read(tmp_path, ONE.replace("trials = 10", "trials = 4"))
    tuning.path.mkdir(parents=True)
    with database(tuning) as studies:
        (study,) = studies.values()
        study.ask()  # nothing is drawn yet
        study.enqueue_trial({"epochs": 2})
    carry_out(tuning)
    ((_, trials),) = tried(tuning)
    assert [trial.number for trial in trials] == list(range(1, 5))


UNFIT = ONE.replace("epochs = { choices = [1, 2, 4] }", "minibatches = { low = 1, high = 4 }")
"""Of 16 sequences 3 minibatches cannot be made."""


def unchecked(folder, monkeypatch, text=UNFIT):
    """A tuning whose file was checked, as very large ones are, with other values than those that will be drawn."""
    monkeypatch.setattr("gpae.studies.tuning.combinations", lambda space: [{n: d.low for n, d in space.items()}])
    return read(folder, "sampler = 'random'\n" + text)


@pytest.mark.parametrize("wrong", ["settings", "environment"])
def test_a_trial_that_does_not_fit_together_is_told_and_another_takes_its_place(tmp_path, stand_in, monkeypatch, wrong):
    unfit, words = 3, "is not divisible by minibatches = 3"
    if wrong == "environment":  # which a file is checked with once

        def make(config):
            if config.algorithm.optimisation.minibatches == 2:
                raise UserError("it cannot be made")

        unfit, words = 2, "it cannot be made"
        monkeypatch.setattr(tuner, "Experiment", make)
    tuning = unchecked(tmp_path, monkeypatch, UNFIT.replace("trials_at_once = 4", "trials_at_once = 1"))
    code, said = carry_out(tuning)
    assert code == 0
    ((_, trials),) = tried(tuning)
    assert len(trials) == 10
    assert unfit not in {trial.values["minibatches"] for trial in trials}
    with database(tuning) as studies:
        (study,) = studies.values()
        failed = [t.number for t in study.trials if t.state.name == "FAIL" and t.params["minibatches"] == unfit]
    assert failed
    told = [line.partition(": ")[2] for line in said.splitlines() if words in line]
    assert [line.partition(",")[0] for line in told] == [f"trial {number} does not fit together" for number in failed]


def test_where_no_trial_fits_together_it_ends_in_one_line(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(tuner, "_MOST_IN_VAIN", 3)
    tuning = unchecked(tmp_path, monkeypatch)
    monkeypatch.setattr(tuner.Method, "trial", lambda *_: (_ for _ in ()).throw(UserError("they do not fit")))
    with pytest.raises(UserError, match=r"^probe-team-gpae: 3 trials were drawn in vain; the last: they do not fit$"):
        carry_out(tuning)
    assert stand_in.calls == []


def test_a_tuning_that_an_earlier_version_began_goes_on_though_not_all_fit_together(tmp_path, stand_in, monkeypatch):
    text = UNFIT.replace("trials = 10", "trials = 4")
    with pytest.raises(UserError, match=r"line 18: .* is not divisible by minibatches = 3"):
        read(tmp_path, text)
    with monkeypatch.context() as patch:
        tuning = unchecked(tmp_path, patch, text)
    tuning.path.mkdir(parents=True)
    with database(tuning) as studies:  # two trials that were running
        (study,) = studies.values()
        for number in (3, 2):
            study.enqueue_trial({"minibatches": number, "learning_rate": 1e-3})
            study.ask({name: domain.distribution() for name, domain in tuning.methods[0].space.items()})
    code, said = carry_out(read(tmp_path, text))
    assert code == 0
    assert "trial 0 does not fit together" in said
    ((_, trials),) = tried(tuning)
    assert len(trials) == 4
    assert trials[0].number == 1
    with pytest.raises(UserError, match=r"is not divisible by minibatches = 6"):
        read(tmp_path, text.replace("low = 1, high = 4", "low = 5, high = 6"))


def test_trials_of_another_file_are_refused_in_one_line(tmp_path, stand_in):
    text = ONE.replace("trials = 10", "trials = 1")
    carry_out(read(tmp_path, text))
    for old, new, words in (
        ("high = 1e-2", "high = 2e-2", r"space \(learning_rate\) of probe-team-gpae differ"),
        ("num_envs = 16", "num_envs = 32", r"settings \(num_envs\) of probe-team-gpae differ"),
        ("last = 2", "last = 3", r"score of probe-team-gpae differ"),
    ):
        with pytest.raises(UserError, match=f"toy was begun with another file: {words}; give the tuning another name"):
            carry_out(read(tmp_path, text.replace(old, new)))


def test_a_tuning_goes_on_though_there_are_new_settings_by_now(tmp_path, stand_in):
    text = ONE.replace("trials = 10", "trials = 1")
    carry_out(read(tmp_path, text))
    tuning = read(tmp_path, text.replace("trials = 1", "trials = 2"))
    with database(tuning) as studies:
        (study,) = studies.values()
        made = study.user_attrs["method"]
        older = {key: value for key, value in made["settings"].items() if key not in ("entropy_end", "huber", "groups")}
        assert len(older) == len(made["settings"]) - 3
        study.set_user_attr("method", made | {"settings": older})
    assert carry_out(tuning)[0] == 0
    assert [len(trials) for _, trials in tried(tuning)] == [2]


def test_a_damaged_database_and_a_missing_package_are_one_line(tmp_path, stand_in, monkeypatch, capsys):
    tuning = read(tmp_path)
    tuning.path.mkdir(parents=True)
    (tuning.path / "tuning.db").write_bytes(b"not a database" * 100)
    words = [str(tmp_path / "toy.toml"), "--runs", str(tmp_path / "runs")]
    assert main(["tune", *words]) == 2
    said = capsys.readouterr().err
    assert "tuning.db cannot be used" in said
    assert len(said.splitlines()) == 1
    (tuning.path / "tuning.db").unlink()
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", *words]) == 2
    assert "optuna is not installed; it comes with `pip install -e '.[tune]'`" in capsys.readouterr().err


def test_the_command_prints_what_won_and_draws_why(tmp_path, stand_in, capsys, monkeypatch):
    monkeypatch.setattr("gpae.studies.tuner._FEW", 6)
    tuning = read(tmp_path, TEXT.replace("trials = 10", "trials = 6"))
    assert main(["tune", str(tmp_path / "toy.toml"), "--runs", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "runs" / "toy"
    found = json.loads((folder / "tuning.json").read_text())
    for entry, (method, trials) in zip(found["methods"], tried(tuning), strict=True):
        winner = best(trials)
        assert entry["best"] == winner.number
        assert [t["score"] for t in entry["trials"]] == [t.score for t in trials]
        assert [t["settings"]["epochs"] for t in entry["trials"]] == [t.values["epochs"] for t in trials]
        assert entry["toml"][1:] == method.lines(winner.values)
        assert "\n".join(entry["toml"]) in printed
        assert not [line for line in entry["toml"] if line.startswith("groups")]  # nobody asked for them
        rates = entry["sensitivity"]["learning_rate"]
        assert rates == [[t.values["learning_rate"], t.score, t.state] for t in trials]
        assert (folder / f"{method.name}-sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    assert "# gpae in probe/team: win_rate 0." in printed
    assert "1,024 steps, seeds 100 to 101\n[for.gpae]\n" in printed
    assert (folder / "importance.png").read_bytes()[:4] == b"\x89PNG"
    assert "\n".join(found["methods"][1]["toml"]) in (folder / "best.md").read_text()
    again = {p.name: p.read_bytes() for p in folder.glob("*.*") if p.name != "tuning.db"}
    assert main(["tune", str(tmp_path / "toy.toml"), "--runs", str(tmp_path / "runs")]) == 0
    assert again == {p.name: p.read_bytes() for p in folder.glob("*.*") if p.name != "tuning.db"}


def test_a_tuning_goes_on_when_its_reader_has_gone(tmp_path, stand_in):
    read(tmp_path, ONE.replace("trials = 10", "trials = 2"))
    with unread():
        assert main(["tune", str(tmp_path / "toy.toml"), "--runs", str(tmp_path / "runs")]) == 0
    assert [len(call) for call in stand_in.calls] == [2]


REAL = """\
name = "real"
environments = ["probe/team"]
algorithms = ["mappo"]
steps = 200
evaluation = { times = 3, episodes = 8 }
trials = 2
trials_at_once = 2
score = { metric = "sampled_return", last = 2 }
prune = false

[all]
actor_identity = true
num_envs = 8
rollout_length = 4
hidden_size = 8
updates_per_call = 2
chunk_length = "None"
minibatches = 2
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""
KILLED = """
import os, signal, sys
from gpae.studies import tuner
report = tuner._Search.report
def kill(self, number, run, config):
    if number == 1 and len(tuner.scores(run, config, self.method.score)) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return report(self, number, run, config)
tuner._Search.report = kill
from gpae.cli import main
main(["tune", *sys.argv[1:]])
"""


def test_a_tuning_that_is_killed_goes_on_where_it_was_saved(tmp_path):
    """Trained for real, two in one program: the process is killed at the second evaluation of the second."""
    unbroken = read(tmp_path / "unbroken", REAL)
    assert carry_out(unbroken)[0] == 0
    tuning = read(tmp_path / "killed", REAL)
    words = [str(tmp_path / "killed" / "toy.toml"), "--runs", str(tmp_path / "killed" / "runs")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], env=os.environ, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    ((_, trials),) = tried(tuning)
    assert trials == []
    saved = []
    for number in range(2):
        with Checkpoints(tuning.path / "probe-team-mappo" / f"trial-{number}" / "checkpoints", read_only=True) as found:
            saved.append(found.latest)
    assert saved == [6, 2]  # of 8 updates: one was saved once more than the other, which catches up
    assert carry_out(tuning)[0] == 0
    assert drawn(tuning) == drawn(unbroken)
    for number in range(2):
        ours, theirs = (t.path / "probe-team-mappo" / f"trial-{number}" for t in (tuning, unbroken))
        assert same_but_for_time(read_metrics(ours)) == same_but_for_time(read_metrics(theirs))
    # A trial trained alone is the one of the batch, up to the last bits.
    ((method, trials),) = tried(unbroken)
    train(method.trial(trials[1].values), RunOptions(name="alone", runs=tmp_path, quiet=True))
    batch = read_metrics(unbroken.path / "probe-team-mappo" / "trial-1")
    for one, other in zip(batch[:4], read_metrics(tmp_path / "alone"), strict=False):
        for name in one.keys() - {"seconds"}:
            np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=2e-4, err_msg=name)
    assert Path(unbroken.path / "tuning.db").exists()
