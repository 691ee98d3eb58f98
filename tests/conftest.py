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


@pytest.fixture
def exact_critics():
    """The algorithm of studies/exact_critics.py, which is registered for the length of a test."""
    from gpae.algorithms import ALGORITHMS
    from gpae.studies.worker import import_user_code

    import_user_code([str(Path(__file__).parents[1] / "studies" / "exact_critics.py")])
    ALGORITHMS["exact"] = sys.modules["gpae_user_exact_critics"].Exact  # a file is imported once
    yield ALGORITHMS["exact"]
    del ALGORITHMS["exact"]
