import pytest

from gpae.cli import main

TINY = [
    "--env",
    "probe/team",
    "--preset",
    "none",
    "--actor-identity",
    "--num-envs",
    "8",
    "--rollout-length",
    "4",
    "--hidden-size",
    "8",
    "--embedding-size",
    "8",
    "--evaluations",
    "2",
    "--evaluation-episodes",
    "8",
]
"""A training of a second."""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of `TINY`, in an environment where games are won, not to be changed."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *TINY, "--total-steps", "64", "--runs", str(runs), "--name", "run", "--quiet"]) == 0
    return runs / "run"
