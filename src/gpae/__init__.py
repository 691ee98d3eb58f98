"""Generalized per-agent advantage estimation for cooperative multi-agent reinforcement learning, in JAX.

gpae.estimators     advantages and importance traces, pure functions on arrays
gpae.configure      an experiment from flat names of settings; `gpae.preset` starts from named ones
gpae.train          trains an experiment; the command `gpae train` does the same
gpae.load_policy    a trained policy, one agent's actions from what it sees alone
gpae.envs           environments, and the protocol to add one
gpae.algorithms     algorithms, and what to derive one from
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpae._version import __version__

if TYPE_CHECKING:
    from gpae.diagnostics.pictures import train
    from gpae.training.config import ExperimentConfig, RunOptions, configure
    from gpae.training.policy import Policy, load_policy
    from gpae.training.presets import preset
    from gpae.training.recorder import EvaluationResult
    from gpae.training.run import Run

__all__ = [
    "EvaluationResult",
    "ExperimentConfig",
    "Policy",
    "Run",
    "RunOptions",
    "__version__",
    "configure",
    "load_policy",
    "preset",
    "train",
]

_HOMES = {
    "EvaluationResult": "gpae.training.recorder",
    "ExperimentConfig": "gpae.training.config",
    "Policy": "gpae.training.policy",
    "Run": "gpae.training.run",
    "RunOptions": "gpae.training.config",
    "configure": "gpae.training.config",
    "load_policy": "gpae.training.policy",
    "preset": "gpae.training.presets",
    "train": "gpae.diagnostics.pictures",
}


def __getattr__(name: str) -> Any:
    # The estimators can be imported without the trainer and all that it needs.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gpae' has no attribute {name!r}")
