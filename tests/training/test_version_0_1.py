"""A run that gpae 0.1 made: its policy still plays; its training says in one line what to do."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.training.trainer import Run

STORED = Path(__file__).parent.parent / "data" / "run-0.1"


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(STORED, tmp_path / "run-0.1"))


def test_its_settings_are_read_as_todays(old):
    config = Run(old).config
    assert (config.env, config.total_steps, config.algorithm.experience.num_envs) == ("probe/death", 64, 4)
    assert config.algorithm.networks.hidden_size == 8
    assert config.algorithm.own_cap is None


def test_its_policy_plays(old, capsys):
    policy = gpae.load_policy(old)
    action, _ = policy(np.zeros(6), policy.initial_carry(), [True, True])
    assert action in (0, 1)
    assert main(["evaluate", str(old), "--episodes", "8"]) == 0
    assert "greedy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "--resume"], "was made by gpae 0.1: its policy can be evaluated, played and loaded"),
        (["inspect", "credit"], "has no 'params'; it holds"),
    ],
)
def test_what_it_lacks_is_refused_in_one_line(old, capsys, words, reason):
    assert main([*words, str(old)]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
