"""Settings shared by all tests: CPU, four faked devices, compiled programs kept between runs."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and run little: without optimisation the suite is several times as fast.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
        # The older code generator compiles in half the time. Later versions do not have it, and refuse the flag.
        *(["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []),
    ]
).strip()

import jax
import pytest

from gpae.training.compilation import enable_compilation_cache

enable_compilation_cache()


@pytest.fixture
def strict():
    """No silent promotion of dtypes or ranks inside the test."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _of_study(file, *names):
    """The algorithms of a file in studies/, by name, which are registered for the length of a test."""
    from gpae.algorithms import ALGORITHMS
    from gpae.studies.worker import import_user_code

    import_user_code([str(Path(__file__).parents[1] / "studies" / f"{file}.py")])
    module = sys.modules[f"gpae_user_{file}"]  # a file is imported once
    found = {name: getattr(module, cls) for name, cls in names}
    ALGORITHMS.update(found)
    yield found
    for name in found:
        del ALGORITHMS[name]


@pytest.fixture
def exact_critics():
    """The algorithm of studies/exact_critics.py."""
    for found in _of_study("exact_critics", ("exact", "Exact")):
        yield found["exact"]


@pytest.fixture
def seen_critic():
    """The algorithm of studies/seen_critic.py."""
    for found in _of_study("seen_critic", ("gpae-seen", "SeenGPAE")):
        yield found["gpae-seen"]


@pytest.fixture
def pooled_critics():
    """The algorithms of studies/pooled_critic.py, by name."""
    yield from _of_study("pooled_critic", ("gpae-pooled", "PooledGPAE"), ("mappo-pooled", "PooledMAPPO"))
