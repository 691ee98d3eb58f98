"""Named settings: what every flag starts from. They differ from `ExperimentConfig`'s defaults only as said here."""

from __future__ import annotations

from typing import Any

from gpae.algorithms.registry import algorithm
from gpae.config import ExperimentConfig
from gpae.errors import unknown_name

_PAPER: dict[str, Any] = {
    # The settings released for SMAX (docs/presets.md names what is not published).
    "total_steps": 10_000_000,
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 5,
    "minibatches": 1,
    "learning_rate": 5e-4,
    "max_grad_norm": 1.0,
    "eta": 1.02,
    "hidden_size": 128,
    "actor_layers": 2,
    "timeout_is_termination": True,
    "mask_dead": False,
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "quickstart": (
        "learns to win smax/2s3z in a few minutes on two CPU cores",
        {"chunk_length": 16, "minibatches": 4, "learning_rate": 3e-3},
    ),
    "paper": ("the settings released by the authors of GPAE for SMAX, 10 M steps", _PAPER),
    "mava": (
        "Mava's recurrent MAPPO, 10 M steps",
        {
            "total_steps": 10_000_000,
            "rollout_length": 128,
            "learning_rate": 2.5e-4,
            "anneal": False,
            "entropy": 0.01,
            "hidden_size": 128,
            "embedding_size": 128,
            "layer_norm": False,
            "actor_identity": True,
            "timeout_is_termination": True,
            "mask_dead": False,
        },
    ),
}
"""Name -> one line, and the fields that it sets."""

_WINDOW_OF_PAPER = 4
"""B of GPAE's off-policy results. It is not published ("a short buffer"); this is our choice."""


def preset(name: str, algorithm_name: str = "gpae") -> ExperimentConfig:
    """The settings called `name` for an algorithm.

    Raises:
      UserError: an unknown preset or algorithm.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    spec = algorithm(algorithm_name)
    values = dict(PRESETS[name][1])
    if name == "paper" and spec.critic == "joint_action":
        values["window"] = _WINDOW_OF_PAPER
    return ExperimentConfig(preset=name, algorithm=spec.name, **values)
