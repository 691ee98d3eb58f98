"""The command line: what it takes, what it prints, and how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from gpae import envs
from gpae.algorithms import ALGORITHMS
from gpae.cli import main
from gpae.cli.commands import COMMANDS
from gpae.exact.statements import Statement
from gpae.exact.verify import Report
from gpae.studies.worker import work, write_job
from gpae.training.presets import names
from reference.trainings import TINY


def test_too_little_memory_is_one_line_that_says_what_needs_less(capsys, monkeypatch, tmp_path):
    """Of a command, and of a child of a study."""

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore words")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gpae.cli.train.train", full)
    monkeypatch.setattr("gpae.diagnostics.pictures.train_together", full)
    write_job(tmp_path / "job.json", [], [])
    for ended in (lambda: main(["train", *TINY, "--name", "large"]), lambda: work(tmp_path / "job.json")):
        assert ended() == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("gpae: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.; fewer --seeds")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("tarin", "did you mean 'train'"),
        ("credit runs/x", "gpae credit is now gpae inspect credit"),
        ("inspect crdit runs/x", "did you mean 'credit'"),
        ("--import", "--import takes a file or a module"),
        ("train --env smax/2s3zz", "smax/2s3z"),
        ("train --algorithm gpea", "did you mean 'gpae'"),
        ("train --preset quikstart", "did you mean 'quickstart'"),
        ("train --preset -inf", "presets: quickstart"),
        ("train --learning-rat 1", "did you mean 'learning_rate'"),
        ("train --env probe/team --num-envs 9 --window 2", "num_envs"),
        ("train --env probe/team --minibatches 7", "minibatches could be"),
        ("train --gamma 2", "--gamma is 2.0; it must be between 0 and 1"),
        ("train --env probe/team --algorithm vdn --window 2", "--window belongs to gpae"),
        ("train --env probe/team --algorithm qmix --preset paper", "preset paper has no settings for qmix"),
        ("train --env probe/team --stop-agent 0", "no action called stop"),
        ("train --env probe/team --resume", "--env with --resume"),
        ("train --env probe/team --name ../x", "a run cannot be named"),
        ("algorithms --import nowhere.py", "--import nowhere.py: there is no such file"),
        (
            "algorithms --import nowhere",
            "--import nowhere: there is no module 'nowhere'; run gpae where",
        ),
        ("tune nowhere.toml", "there is no nowhere.toml"),
        ("report", "gpae report takes folders of runs"),
        ("inspect gap", "gpae inspect gap takes run directories"),
        ("inspect gap nowhere -o gap.pdf", "gap.pdf will be a PNG; name it gap.png"),
        ("inspect credit nowhere -o credit.gif", "credit.gif will be a PNG; name it credit.png"),
        ("play nowhere -o film.mp4", "film.mp4 will be a GIF; name it film.gif"),
        ("report nowhere --resamples 0", "--resamples is 0"),
        ("train --env smax/3m --env-options walls_cause_death=maybe", "true or false"),
        ("evaluate nowhere --episodes 0", "--episodes is 0"),
        ("evaluate nowhere --seed -1", "--seed is -1"),
        ("play nowhere --episode -1", "--episode is -1"),
        ("inspect critic nowhere --shuffles 0", "--shuffles is 0"),
        ("inspect gradient nowhere --updates 7", "--updates is 7"),
        ("inspect gradient nowhere", "nowhere is not a gpae run directory"),
        ("evaluate nowhere", "nowhere is not a gpae run directory"),
        ("play nowhere", "nowhere is not a gpae run directory"),
        ("inspect credit nowhere", "nowhere is not a gpae run directory"),
        ("inspect critic nowhere", "nowhere is not a gpae run directory"),
        ("train --resume nowhere", "nowhere is not a gpae run directory"),
    ],
)
def test_wrong_requests_are_one_clear_line_and_write_nothing(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_a_module_in_the_working_directory_is_imported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    Path("levers_of_mine.py").write_text("raise ValueError('it was found')\n")
    assert main(["algorithms", "--import", "levers_of_mine"]) == 2
    said = capsys.readouterr().err
    assert said == "gpae: --import levers_of_mine: importing levers_of_mine failed: ValueError: it was found\n"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--hidden-size", "999999999999"),
        ("--num-envs", "1000000007"),
        ("--seed", "9223372036854775807"),
        ("--seeds", "100000"),
        ("--total-steps", "99999999999999999999"),
        ("--updates-per-call", "999999999999"),
        ("--learning-rate", "inf"),
        ("--learning-rate", "nan"),
        ("--gamma", "nan"),
        ("--stop-agent", "-1"),
        ("--stop-agent", "99999999999"),
        ("--chunk-length", "0"),
    ],
)
def test_numbers_beyond_all_bounds_are_refused_at_once(flag, value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert main(["train", "--env", "probe/team", flag, value]) == 2
    assert time.monotonic() - began < 5
    printed = capsys.readouterr().err
    assert printed.startswith(f"gpae: {flag} ")
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_of_a_command_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "runs/x", "--episods", "1"])
    assert stop.value.code == 2
    assert "--episods" in capsys.readouterr().err


def test_help_names_every_command_and_every_command_explains_itself(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"\n  {name} " in overview for name in COMMANDS)
    for words in (
        *([name] for name in COMMANDS),
        *(["inspect", kind] for kind in ("credit", "critic", "gradient", "gap")),
    ):
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
        assert len(capsys.readouterr().out.splitlines()) > 3


def test_a_training_that_diverges_and_a_statement_that_fails_end_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "--total-steps", "64", "--learning-rate", "1e30", "--quiet"]) == 1
    assert "not finite; there is no checkpoint yet" in capsys.readouterr().err
    for code, worst in ((0, 0.0), (1, 1.0)):
        statement = Statement("1", "a name", checks=1, worst=worst, tolerance=1e-9)
        monkeypatch.setattr("gpae.exact.verify.run", lambda statement=statement, **_: Report([statement], []))
        assert main(["verify"]) == code
        assert "a name" in capsys.readouterr().out


def test_lists_name_every_environment_algorithm_and_preset(capsys):
    assert main(["envs"]) == 0
    text = capsys.readouterr().out
    for name in envs.names():
        assert name in text, name
    assert main(["algorithms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in (*ALGORITHMS, *names()):
        assert sum(line.split()[:1] == [name] for line in lines) == 1


@pytest.mark.slow
def test_a_run_from_the_shell_stopped_resumed_and_evaluated(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    command = [sys.executable, "-m", "gpae.cli"]
    long = ["train", *TINY, "--total-steps", "100001", "--name", "run"]
    with subprocess.Popen(
        [*command, *long], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "100,001 steps asked for, 100,032 run: whole updates" in printed
    assert "compiling ..." in printed
    assert "continue with gpae train --resume runs/run" in errors
    assert "Traceback" not in errors

    def gpae(*arguments):
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    # The rest would take too long: that the run goes on is seen from its being refused without --resume.
    refused = gpae(*long)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    found = gpae("evaluate", "runs/run", "--episodes", "16")
    assert found.returncode == 0, found.stderr
    assert all(word in found.stdout for word in ("greedy", "sampled", "win rate", "16 episodes"))
    credited = gpae("inspect", "credit", "runs/run", "-o", "credit.png")
    assert credited.returncode == 0, credited.stderr
    assert (tmp_path / "credit.png").stat().st_size > 1000
    used = gpae("inspect", "critic", "runs/run", "--envs", "8", "--json", "critic.json")
    assert used.returncode == 0, used.stderr
    assert "multiplies the error by" in used.stdout
    assert json.loads((tmp_path / "critic.json").read_text())["ratio"] > 0
    noisy = gpae("inspect", "gradient", "runs/run", "--updates", "8", "--json", "gradient.json")
    assert noisy.returncode == 0, noisy.stderr
    assert "more signal than noise" in noisy.stdout
    (kinds,) = json.loads((tmp_path / "gradient.json").read_text())["kinds"].values()
    assert len(kinds) == 3
    ungapped = gpae("inspect", "gap", "runs/run")
    assert ungapped.returncode == 2
    assert "--stop-agent" in ungapped.stderr
    undrawable = gpae("play", "runs/run")
    assert undrawable.returncode == 2
    assert "cannot be drawn" in undrawable.stderr
