"""Gives commands words at random: whatever they are, the answer is a plan, a help text, or one line and exit code 2.

    PYTHONPATH=tests python -m fuzz.arguments --seconds 60 --seed 1
    PYTHONPATH=tests python -m fuzz.arguments --seed 1 --case 17        # one case again

`gpae train` is asked for what it would train and makes the experiment, but trains nothing; the other commands are
called in an empty folder, where there is no run to find.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from typing import Any

from fuzz.driver import drive, outcome
from gpae.algorithms import ALGORITHMS
from gpae.cli import main as gpae
from gpae.cli.train import request
from gpae.settings import settings_of
from gpae.training.experiment import Experiment
from gpae.training.presets import names

FLAGS = sorted({s.flag for cls in ALGORITHMS.values() for s in settings_of(cls).values()})
OF_RUN = ("--env", "--env-options", "--seed", "--seeds", "--total-steps", "--evaluations", "--evaluation-episodes")
OTHERS = ("--name", "--runs", "--resume", "--overwrite", "--no-recurrent", "--unknown", "--", "-", "-x", "--seed=")
NUMBERS = ("0", "1", "2", "3", "7", "64", "-1", "0.5", "1e9", "1000000007", "9223372036854775807", "999999999999999999")
WORDS = ("nan", "inf", "-inf", "", " ", "None", "true", "x" * 3000, "../../x", "\0", "é", "a=b", "=", "[1]", "smax/3m")
ENVIRONMENTS = ("smax/3m", "probe/team", "probe/stay", "mpe/simple_spread", "smax/custom:3m_vs_", "smax/", "/")
OPTIONS = ("walls_cause_death=no", "num_agents=2", "length=x", "num_agents=1000000000000", "=1", "a", "length=-3")
COMMANDS = (
    "evaluate",
    "play",
    "inspect",
    "report",
    "study",
    "tune",
    "algorithms",
    "credit",
    "trian",
    "--help",
    "--version",
)


def train_words(chance: random.Random) -> list[str]:
    """Words for `gpae train`, most of which make sense."""
    words = ["--algorithm", chance.choice(tuple(ALGORITHMS)), "--env", chance.choice(ENVIRONMENTS)]
    if chance.random() < 0.5:
        words += ["--preset", chance.choice((*names(), "none", "-inf", "x"))]
    for _ in range(chance.randrange(6)):
        flag = chance.choice((*FLAGS, *OF_RUN, *OTHERS))
        value = chance.choice(chance.choice((NUMBERS, NUMBERS, WORDS, OPTIONS)))
        words += chance.choice(([flag, value], [f"{flag}={value}"], [flag], [value]))
    if chance.random() < 0.1:
        chance.shuffle(words)
    return words


def train(words: list[str]) -> None:
    config, options, _ = request(words)
    options.path(config)
    Experiment(config)


def command(words: list[str]) -> None:
    if (code := gpae(words)) not in (0, 2):
        raise AssertionError(f"exit code {code}")


def case(chance: random.Random) -> list[tuple[str, str]]:
    """One list of words."""
    if chance.random() < 0.8:
        words: list[str] = train_words(chance)
        call: Any = train
    else:
        more = [chance.choice((*NUMBERS, *WORDS, *OTHERS, "--json", "--episodes")) for _ in range(chance.randrange(4))]
        words, call = [chance.choice(COMMANDS), *more], command
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        what, why = outcome(lambda: call(words))
    return [(what, f"{[word[:60] for word in words]}: {why}")]


def main(arguments: list[str] | None = None) -> int:
    """Runs cases until the time is over."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return drive("Gives commands words at random.", case, arguments)
        finally:
            os.chdir(before)


if __name__ == "__main__":
    sys.exit(main())
