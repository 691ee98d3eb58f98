"""A run that goes on: it equals the unbroken one, keeps its settings, and may be given more steps."""

import json
import shutil
import signal
import sys

import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.errors import UserError
from gpae.training.stopped import Interrupted
from gpae.training.trainer import _Training
from reference.trainings import CONFIG, assert_same_arrays, final_state, options, same_but_for_time, stop_after

pytestmark = pytest.mark.slow


def test_an_existing_run_is_refused_unless_resumed_or_replaced(run):
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        gpae.train(CONFIG, options(run.path.parent))
    other = CONFIG.replace(learning_rate=0.5, clip=0.1)
    with pytest.raises(UserError) as error:
        gpae.train(other, options(run.path.parent, resume=True))
    assert "learning_rate (was 0.001, now 0.5)" in str(error.value)
    assert "clip (was 0.2, now 0.1)" in str(error.value)
    with pytest.raises(UserError, match="choose one"):
        gpae.train(CONFIG, options(run.path.parent, resume=True, overwrite=True))
    with pytest.raises(UserError, match="nothing to resume"):
        gpae.train(CONFIG, options(run.path.parent / "elsewhere", resume=True))


@pytest.mark.parametrize("how", ["signal", pytest.param("signal at the last update", marks=pytest.mark.slow), "crash"])
def test_a_resumed_run_equals_the_unbroken_one(run, how, tmp_path, monkeypatch):
    """Bit for bit, with no line lost or doubled; also where it died between a metrics line and the checkpoint."""
    if how != "crash":
        stop_after(10 if how == "signal" else 20, monkeypatch)
        with pytest.raises(Interrupted) as stop:
            gpae.train(CONFIG, options(tmp_path))
        assert stop.value.exit_code == 128 + signal.SIGTERM
        assert str(stop.value).endswith(f"gpae train --resume {tmp_path / 'run'}")
    else:
        save = _Training._save

        def die(self, *args):
            if self.done == 14:
                raise RuntimeError("died")
            save(self, *args)

        monkeypatch.setattr(_Training, "_save", die)
        with pytest.raises(RuntimeError, match="died"):
            gpae.train(CONFIG, options(tmp_path))
    monkeypatch.undo()
    # The run directory alone says all that is needed.
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    resumed = gpae.Run(tmp_path / "run")

    assert same_but_for_time(resumed.metrics) == same_but_for_time(run.metrics)
    ours, theirs = resumed.evaluations["seed_0"], run.evaluations["seed_0"]
    assert list(ours) == list(theirs)
    for step in ours:
        drop = {"elapsed_time"}
        assert {k: v for k, v in ours[step].items() if k not in drop} == {
            k: v for k, v in theirs[step].items() if k not in drop
        }
    assert_same_arrays(final_state(CONFIG, resumed.path)[0], final_state(CONFIG, run.path)[0])
    # Resumed once more, there is nothing left to train.
    gpae.train(CONFIG, options(tmp_path, resume=True))
    assert len(resumed.metrics) == 20


@pytest.mark.parametrize("algorithm", ["qmix", "dop", "dae"])
def test_methods_with_a_replay_or_a_second_model_are_resumed_too(algorithm, tmp_path, monkeypatch, capsys):
    settings = {"env": "probe/team", "actor_identity": True, "num_envs": 8, "rollout_length": 4, "hidden_size": 8} | {
        "embedding_size": 8,
        "total_steps": 8 * 4 * 6,
        "evaluations": 2,
        "evaluation_episodes": 4,
    }
    replay = {"replay_sequences": 8, "replay_segments": 4} if algorithm != "dae" else {}
    config = gpae.configure(algorithm, **settings, **replay)
    unbroken = gpae.train(config, options(tmp_path / "unbroken"))
    with monkeypatch.context() as patched:
        stop_after(4, patched)
        with pytest.raises(Interrupted):
            gpae.train(config, options(tmp_path))
    resumed = gpae.train(config, options(tmp_path, resume=True))
    assert same_but_for_time(resumed.metrics) == same_but_for_time(unbroken.metrics)
    assert len(resumed.metrics) == 6

    policy = resumed.policy(agent=0)
    observation, mask = np.array([1.0, 0.0, 1.0, 0.0]), np.array([False, True])
    assert policy(observation, policy.initial_carry(), mask)[0] == 1
    assert main(["evaluate", str(resumed.path), "--episodes", "4"]) == 0
    credit = main(["inspect", "credit", str(resumed.path), "-o", str(tmp_path / "credit.png")])
    if algorithm == "qmix":
        assert credit == 2
        assert "gpae: qmix learns values of actions" in capsys.readouterr().err
    else:
        assert credit == 0
        assert (tmp_path / "credit.png").exists()
    assert main(["inspect", "critic", str(resumed.path)]) == 2
    assert algorithm in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training of 64 steps whose gradient steps do not depend on how many there are."""
    config = CONFIG.replace(total_steps=64, anneal=False, evaluations=1)
    return gpae.train(config, options(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of it, to be changed."""
    return gpae.Run(shutil.copytree(trained.path, tmp_path / "run"))


def test_more_steps_on_resume_give_the_run_that_was_longer_from_the_beginning(finished, tmp_path):
    assert main(["train", "--resume", str(finished.path), "--total-steps", "160", "--quiet"]) == 0
    assert finished.config.total_steps == 160  # remembered, also for another resume
    longer = gpae.train(finished.config, options(tmp_path / "longer"))
    assert same_but_for_time(finished.metrics) == same_but_for_time(longer.metrics)
    assert len(finished.metrics) == 10
    ours, theirs = (final_state(finished.config, path)[0]["state"] for path in (finished.path, longer.path))
    assert_same_arrays(ours, theirs)
    assert len(finished.evaluations["seed_0"]["absolute_metrics"]["return"]) == 80


def test_settings_that_came_later_do_not_keep_a_run_from_being_resumed(finished):
    file = finished.path / "config.json"
    values = json.loads(file.read_text())
    before = {name: value for name, value in values.items() if name not in ("matmul_precision", "share_parameters")}
    assert len(before) == len(values) - 2
    file.write_text(json.dumps(before))
    assert main(["train", "--resume", str(finished.path), "--total-steps", "96", "--quiet"]) == 0
    assert json.loads(file.read_text()) == values | {"total_steps": 96}


def test_a_resume_that_is_refused_leaves_a_finished_run_finished(finished, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    names = ("config.json", "evaluations.json", "metrics.jsonl")
    before = [(finished.path / name).read_bytes() for name in names]
    assert main(["train", "--resume", str(finished.path), "--tensorboard"]) == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err
    assert [(finished.path / name).read_bytes() for name in names] == before


def test_fewer_steps_on_resume_are_refused_and_change_nothing(finished, capsys):
    before = (finished.path / "config.json").read_bytes()
    assert main(["train", "--resume", str(finished.path), "--total-steps", "32"]) == 2
    said = capsys.readouterr().err
    assert "was to run 64 steps; it can be given more" in said
    assert len(said.splitlines()) == 1
    assert (finished.path / "config.json").read_bytes() == before


def test_more_steps_are_remembered_only_once_the_checkpoint_has_been_read(finished):
    checkpoint = next((finished.path / "checkpoints").iterdir())
    shutil.rmtree(checkpoint / "state")
    before = (finished.path / "config.json").read_bytes()
    with pytest.raises(UserError, match="damaged"):
        gpae.train(finished.config.replace(total_steps=160), options(finished.path.parent, resume=True))
    assert (finished.path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "words", ["--gamma 0.9", "--env probe/team", "--name x", "--overwrite", "--seed=1", "--preset none", "--eta 1.1"]
)
def test_other_flags_beside_resume_are_refused(words, tmp_path, capsys):
    """Before the run is even looked at."""
    assert main(["train", *words.split(), "--resume", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert words.split()[0].partition("=")[0] in said
    assert "only --total-steps may grow" in said
    assert len(said.splitlines()) == 1


def test_resume_without_a_run_is_one_line(tmp_path, capsys):
    for words in (["--resume"], ["--resume", "--quiet"], ["--resume", str(tmp_path)]):
        assert main(["train", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_is_resumed_from_inside_its_folder_too(finished, monkeypatch):
    monkeypatch.chdir(finished.path)
    assert main(["train", "--resume", ".", "--quiet"]) == 0
    assert json.loads((finished.path / "config.json").read_text())["total_steps"] == 64
