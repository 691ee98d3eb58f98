"""A run with continuous actions, from training to its policy and its pictures."""

import json

import jax
import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.errors import UserError
from reference.trainings import CONFIG, options

SEEN = np.array([1.0, 0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = CONFIG.replace(env="probe/aim", env_options=("low=-2", "high=4"), action_scale="state", total_steps=64)
    return gpae.train(config, options(tmp_path_factory.mktemp("continuous")))


def test_its_policy_acts_in_real_numbers(run):
    policy = run.policy(agent=1)
    assert policy.bounds == (-2.0, 4.0)
    assert (policy.num_actions, policy.action_names) == (1, None)
    action, carry = policy(SEEN, policy.initial_carry())
    assert action.shape == (1,)
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, [1.0], atol=0.5)  # near the middle of the box when training begins
    drawn = [policy(SEEN, carry, None, jax.random.key(i))[0] for i in range(20)]
    assert 1 < np.std(drawn) < 6
    assert policy(SEEN, carry, [True])[0] == policy(SEEN, carry)[0]
    assert policy(SEEN, carry, [False])[0] == 0  # out of play
    rows, nobody = np.tile(SEEN, (2, 3, 1)), np.zeros((2, 3, 1))
    assert not np.any(policy.batch(rows, policy.initial_carry(2), nobody)[0])
    team, _ = policy.batch(rows, policy.initial_carry(2))
    np.testing.assert_allclose(team[1, 1], action, rtol=1e-5)
    with pytest.raises(UserError, match=r"shape \[2\]; this policy has \[1\]"):
        policy(SEEN, carry, [True, True])


def test_credit_and_use_of_the_critic_are_shown(run, tmp_path, capsys):
    assert main(["inspect", "credit", str(run.path), "-o", str(tmp_path / "credit.png")]) == 0
    assert (tmp_path / "credit.png").stat().st_size > 10_000
    words = ["--envs", "4", "--shuffles", "2", "--json", str(tmp_path / "critic.json")]
    assert main(["inspect", "critic", str(run.path), *words]) == 0
    assert json.loads((tmp_path / "critic.json").read_text())["shuffled_error"] > 0
    capsys.readouterr()


def test_what_takes_no_continuous_actions_says_so_in_one_line(capsys, tmp_path):
    words = ["train", "--env", "probe/aim", "--runs", str(tmp_path), "--algorithm"]
    assert main([*words, "qmix"]) == 2
    assert "qmix needs discrete actions, and those of probe/aim are continuous" in capsys.readouterr().err
    assert main([*words, "dop", "--squash"]) == 2
    assert "belongs to gpae" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
