import pytest

from gpae.cli import main
from reference.trainings import TINY


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of `TINY`, in an environment where games are won, not to be changed."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *TINY, "--total-steps", "64", "--runs", str(runs), "--name", "run", "--quiet"]) == 0
    return runs / "run"
