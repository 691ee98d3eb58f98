import pytest

import gpae
from reference.trainings import CONFIG, options


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished training of `reference.trainings.CONFIG`, not to be changed."""
    return gpae.train(CONFIG, options(tmp_path_factory.mktemp("runs")))
