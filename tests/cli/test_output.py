"""What commands write and show: results before text, text that any terminal can take, nothing cut in pipes."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from gpae.cli import main
from gpae.cli.show import printable
from gpae.exact.statements import Statement
from gpae.exact.verify import Report
from gpae.runs.directory import read_config
from reference.terminal import on_terminal, unread
from reference.trainings import TINY

ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def gpae(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gpae.cli", *words], env=os.environ | environment, capture_output=True, timeout=300
    )


def test_an_evaluation_on_an_ascii_terminal_is_written_and_printed(run, tmp_path):
    done = gpae("evaluate", str(run), "--episodes", "8", "--json", str(tmp_path / "x.json"), **ASCII)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "means and 95 % intervals" in text
    (row,) = (line for line in text.splitlines() if "win rate" in line)
    assert re.search(r"\d+\.\d% \[\d+\.\d%, \d+\.\d%\]", row)
    assert len(json.loads((tmp_path / "x.json").read_text())["episodes"]["seed_0"]["win_rate"]) == 8


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["algorithms"],
        pytest.param(["envs"], marks=pytest.mark.slow),
        ["train", "--help"],
        ["train", "--algorithm", "qmix", "--help"],
        ["evaluate", "--help"],
        ["inspect", "--help"],
        ["inspect", "critic", "--help"],
    ],
)
def test_help_and_lists_can_be_read_on_an_ascii_terminal(words):
    done = gpae(*words, **ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"Error" not in done.stderr


@pytest.mark.slow
def test_a_training_on_an_ascii_terminal_ends_with_done(tmp_path):
    words = "train --env probe/team --preset none --num-envs 8 --rollout-length 4 --hidden-size 8 --embedding-size 8"
    words = f"{words} --evaluations 1 --evaluation-episodes 8 --total-steps 64 --runs".split()
    name = "größe"  # a file's name has what the terminal has not
    done = gpae(*words, str(tmp_path), "--name", name, **ASCII | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    lines = done.stdout.decode("ascii").splitlines()
    assert lines[-1].startswith("done in ")
    assert "100%" in lines[-2]
    assert (tmp_path / name / "curve.png").exists()


@pytest.mark.parametrize("encoding", [pytest.param("utf-8", marks=pytest.mark.slow), "ascii"])
def test_on_a_terminal_the_live_line_ends_above_the_line_that_says_done(encoding, tmp_path):
    words = ["train", *TINY, "--total-steps", "64", "--runs", str(tmp_path)]
    code, said = on_terminal(*words, PYTHONIOENCODING=encoding, COLUMNS="120", TERM="xterm")
    assert code == 0
    assert said.isascii() == (encoding == "ascii")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r", "\n")
    lines = [line for line in plain.splitlines() if line.strip()]
    assert lines[-1].startswith("done in ")
    assert "100%  64 / 64 steps" in lines[-2]


def test_an_evaluation_on_an_ascii_terminal_shows_that_it_waits_and_leaves_the_table(run):
    code, said = on_terminal("evaluate", str(run), "--episodes", "2", PYTHONIOENCODING="ascii", TERM="xterm")
    assert code == 0
    assert said.isascii()
    assert "\\u" not in said  # nothing was escaped
    assert "compiling and playing" in said
    assert said.rindex("win rate") > said.rindex("compiling and playing")


def test_what_an_encoding_has_not_is_written_plainly(monkeypatch, capsys):
    class Stream:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Stream())
    assert printable("1 ± 2 × 3 … ü") == "1 +- 2 x 3 ... ?"
    Stream.encoding = "latin-1"
    assert printable("1 ± 2 × 3 … ü") == "1 ± 2 × 3 ... ü"
    Stream.encoding = "utf-8"
    assert printable("1 ± 2 × 3 … ü") == "1 ± 2 × 3 … ü"


def test_nothing_is_cut_in_a_pipe():
    """Whatever the width of the terminal that stands behind it."""
    done = gpae("algorithms", COLUMNS="30", PYTHONIOENCODING="utf-8")
    text = done.stdout.decode()
    assert "…" not in text
    assert "Kim et al. 2026, arXiv 2603.02654" in text
    assert all(len(line.split()) > 1 for line in text.splitlines() if line.strip())


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_of_a_pipe_is_no_error():
    command = f"{sys.executable} -m gpae.cli envs | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_a_reader_who_has_gone_changes_no_exit_code(monkeypatch):
    statement = Statement("1", "a name", checks=1, worst=1.0, tolerance=1e-9)
    monkeypatch.setattr("gpae.exact.verify.run", lambda **_: Report([statement], []))
    for words, code in (("--version", 0), ("verify", 1), ("tarin", 2)):
        with unread("stdout", "stderr"):
            assert main([words]) == code


def test_what_is_printed_last_may_be_read_by_nobody():
    command = f"PYTHONUNBUFFERED= {sys.executable} -m gpae.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_win_rates_are_per_cent_and_one_episode_is_one(run, capsys):
    assert main(["evaluate", str(run), "--episodes", "8"]) == 0
    text = capsys.readouterr().out
    assert "8 episodes each" in text
    rate = next(line for line in text.splitlines() if "win rate" in line)
    assert rate.count("%") == 6  # greedy and sampled, each with the ends of its interval
    assert "%" not in next(line for line in text.splitlines() if "return" in line)
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0
    text = capsys.readouterr().out
    assert "1 episode," in text
    assert "1 episodes" not in text


def test_an_evaluation_is_written_with_what_was_evaluated(run, tmp_path, capsys):
    """Into a folder that is made, before anything is printed, with the mean that is printed."""
    file = tmp_path / "a" / "b" / "found.json"
    assert main(["evaluate", str(run), "--episodes", "16", "--best", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert (found["parameters"], found["steps"]) == ("best", 64)
    assert {"gpae", "jax", "command"} <= set(found["training"])
    assert {"gpae", "jax", "command"} <= set(found["evaluation"])
    episodes = found["episodes"]["seed_0"]
    assert {len(values) for values in episodes.values()} == {16}
    rate = next(line for line in capsys.readouterr().out.splitlines() if "win rate" in line)
    assert f"{np.mean(episodes['win_rate']):.1%}" in rate
    assert f"{np.mean(episodes['sampled_win_rate']):.1%}" in rate


def test_an_evaluation_is_repeated_by_its_seed(run, tmp_path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        file = tmp_path / f"{number}.json"
        assert main(["evaluate", str(run), "--episodes", "32", "--seed", str(seed), "--json", str(file)]) == 0
        found.append(json.loads(file.read_text())["episodes"])
    assert found[0] == found[1] != found[2]


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_played(run, tmp_path, capsys, monkeypatch):
    from gpae.training.experiment import Experiment

    monkeypatch.setattr(Experiment, "evaluate", lambda *_, **__: pytest.fail("it was played"))
    (tmp_path / "file").write_text("")
    assert main(["evaluate", str(run), "--json", str(tmp_path / "file" / "x.json")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said
    assert len(said.splitlines()) == 1


def test_a_run_is_read_and_not_changed_by_commands_that_look_into_it(run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert main(["inspect", "credit", str(run), "-o", str(tmp_path / "credit.png")]) == 0
    assert read_config(run)["total_steps"] == 64
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
