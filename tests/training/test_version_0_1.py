"""Run directories of gpae 0.1 (tests/data/run-0.1, made by it; the state's arrays are left out)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gpae
import gpae.algorithms
from gpae.cli import main
from gpae.errors import UserError
from gpae.training import version_0_1
from gpae.training.config import RunOptions, as_dict, configure, from_dict

OLD = Path(__file__).parents[1] / "data" / "run-0.1"


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "run-0.1"))


def test_the_settings_of_an_old_run_are_read(old):
    config = gpae.Run(old).config
    assert config == configure(
        "gpae",
        env="probe/death",
        num_envs=4,
        rollout_length=8,
        hidden_size=8,
        embedding_size=8,
        evaluations=1,
        evaluation_episodes=2,
        total_steps=64,
        chunk_length=16,
        minibatches=4,
        groups=1,
        learning_rate=3e-3,
    )
    assert from_dict(as_dict(config)) == config
    assert len(gpae.Run(old).metrics) == 2
    assert len(gpae.Run(old).evaluations["seed_0"]["absolute_metrics"]["return"]) == 20


@pytest.mark.parametrize("best", [False, True])
def test_the_policy_of_an_old_run_acts_as_it_did(old, best):
    policy = gpae.load_policy(old, best=best)
    assert (policy.num_agents, policy.num_actions, policy.observation_size) == (2, 2, 6)
    assert policy.action_names is None
    action, carry = policy(np.zeros(6), policy.initial_carry(), np.ones(2, bool))
    assert action == 1
    # As version 0.1 computed it.
    expected = [-0.03874539, -0.09852054, -0.12510286, 0.28693286, 0.03302949, 0.30752543, 0.36394224, 0.31194827]
    np.testing.assert_allclose(np.ravel(carry), expected, rtol=1e-4)


def test_an_old_run_is_evaluated_and_inspected(old, tmp_path, capsys):
    assert main(["evaluate", str(old), "--episodes", "4", "--json", str(tmp_path / "found.json")]) == 0
    # Greedy, as version 0.1 wrote it of its last parameters.
    assert json.loads((tmp_path / "found.json").read_text())["episodes"]["seed_0"]["return"] == [1.0] * 4
    assert main(["inspect", "credit", str(old), "-o", str(tmp_path / "credit.png")]) == 2
    assert "made by gpae 0.1" in capsys.readouterr().err
    assert main(["inspect", "credit", str(old), "--best", "-o", str(tmp_path / "credit.png")]) == 0
    assert (tmp_path / "credit.png").exists()


def test_resuming_an_old_run_says_in_one_line_what_would_do(old, capsys):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert main(["train", "--resume", str(old)]) == 2
    said = capsys.readouterr().err
    assert "made by gpae 0.1: its policy can be evaluated, played and loaded, but its training cannot" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(UserError, match=r"made by gpae 0\.1"):
        gpae.train(gpae.Run(old).config, RunOptions(name=old.name, runs=old.parent, resume=True))
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("algorithm", ["gpae", "mappo", "ippo", "coma", "coma-q", "dae", "dop", "vdn", "qmix", "iql"])
def test_old_settings_of_every_algorithm_are_translated(algorithm):
    """Every algorithm had every setting then; what did nothing is gone, and numbers that stood for none are None."""
    values = json.loads((OLD / "config.json").read_text()) | {"algorithm": algorithm}
    config = from_dict(values)
    assert config.algorithm.name == algorithm
    assert (config.algorithm.lambda_, config.algorithm.optimisation.learning_rate) == (0.95, 0.003)
    assert config.evaluation.checkpoint_updates is None
    if algorithm in ("vdn", "qmix", "iql"):  # gradient steps were epochs x minibatches
        assert config.algorithm.optimisation.epochs == 16
    else:
        assert config.algorithm.optimisation.chunk_length == 16
        assert config.algorithm.intervention.stop_agent is None
    given = values | {"own_cap": 2.0, "stop_agent": 1, "chunk_length": 0, "trace": "none", "checkpoint_updates": 3}
    config = from_dict(given)
    assert config.evaluation.checkpoint_updates == 3
    if algorithm in ("gpae", "mappo", "ippo", "coma"):
        assert (config.algorithm.own_cap, config.algorithm.trace) == (2.0, "none")
    if algorithm not in ("vdn", "qmix", "iql"):
        assert config.algorithm.optimisation.chunk_length is None
        assert config.algorithm.intervention.stop_agent == 1


def test_settings_of_today_are_not_taken_for_old_ones():
    for algorithm in gpae.algorithms.ALGORITHMS:
        assert not version_0_1.made(as_dict(configure(algorithm)))
