"""Settings as version 0.1 wrote them: all names for every algorithm, and numbers that stood for "none"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpae.algorithms import Algorithm
from gpae.settings import settings_of

_NONE = {"own_cap": 0, "chunk_length": 0, "stop_agent": -1, "checkpoint_updates": 0}
_GONE = ("preset", "algorithm")
_OF_RUN = (
    *("env", "env_options", "timeout_is_termination", "seed", "seeds", "total_steps"),
    *("evaluations", "evaluation_episodes", "checkpoint_updates", "updates_per_call"),
)


def made(values: Mapping[str, Any]) -> bool:
    """Whether version 0.1 wrote these settings."""
    return "preset" in values or "lambda_" in values


def translated(values: Mapping[str, Any], cls: type[Algorithm]) -> dict[str, Any]:
    """The settings that mean the same today, without those that did nothing for the algorithm."""
    own = settings_of(cls)
    found = {}
    for name, value in values.items():
        if name in _GONE or name not in (*own, *_OF_RUN) or (name, value) == ("trace", "default"):
            continue
        found[name.rstrip("_")] = None if name in _NONE and value == _NONE[name] else value
    if "trace" in own and "trace" not in found:
        found["trace"] = own["trace"].default
    if "minibatches" not in own and "epochs" in found:
        found["epochs"] *= values.get("minibatches", 1)
    return found
