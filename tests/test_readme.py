"""The README's Python is run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

import gpae
from gpae.algorithms.registry import ALGORITHMS

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)


def test_there_are_examples():
    assert len(BLOCKS) == 3
    assert "gpae.estimators" in BLOCKS[0]
    assert "register" in BLOCKS[2]


@pytest.mark.parametrize("page", [README, *sorted((README.parent / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.slow
def test_the_estimator_and_an_environment_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in (BLOCKS[0], BLOCKS[2]):
        exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "runs" / "lever" / "curve.png").exists()


@pytest.mark.slow
def test_the_algorithm_of_ones_own(tmp_path, monkeypatch):
    """The worked example of docs/extending.md trains and solves the team game."""
    monkeypatch.chdir(tmp_path)
    page = README.parent / "docs" / "extending.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    assert len(code.splitlines()) < 120
    try:
        exec(compile(code, str(page), "exec"), {"__name__": "wonderful_life"})
        config = gpae.ExperimentConfig(
            env="probe/team",
            algorithm="wonderful-life",
            total_steps=60 * 128,
            num_envs=16,
            rollout_length=8,
            hidden_size=16,
            embedding_size=16,
            learning_rate=1e-2,
            gamma=0.9,
            evaluations=1,
            actor_identity=True,
        )
        run = gpae.train(config, gpae.RunOptions(quiet=True))
        assert np.mean(run.evaluations["seed_0"]["step_0"]["win_rate"]) == 1.0
        assert run.metrics[-1]["value_loss"] < run.metrics[0]["value_loss"]
    finally:
        ALGORITHMS.pop("wonderful-life", None)
