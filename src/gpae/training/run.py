"""A run directory, seen from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpae.runs.directory import read_config
from gpae.runs.evaluations import of_algorithm, read_evaluations
from gpae.runs.metrics import read_metrics
from gpae.training.config import ExperimentConfig, from_dict
from gpae.training.policy import Policy, load_policy


@dataclass(frozen=True)
class Run:
    """A run directory, to be looked into."""

    path: Path

    @property
    def config(self) -> ExperimentConfig:
        """The settings."""
        return from_dict(read_config(self.path))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One entry per update and seed (docs/metrics.md)."""
        return read_metrics(self.path)

    @property
    def evaluations(self) -> dict[str, Any]:
        """Of each seed, "seed_k", its evaluations in order, and "absolute_metrics"."""
        config = self.config
        return of_algorithm(read_evaluations(self.path), config.env, config.algorithm.name)

    def policy(self, **which: Any) -> Policy:
        """What was learnt; see `gpae.load_policy`."""
        return load_policy(self.path, **which)
