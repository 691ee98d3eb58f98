"""What runs are compared by, and in which unit."""

from __future__ import annotations

SCORES = ("win_rate", "return", "mean_episode_return", "episode_return", "mean_return", "episode_returns")
"""Metrics that runs are compared by, the first that all of an environment have."""


def is_rate(metric: str) -> bool:
    """Whether a metric is a share of battles won."""
    return metric.endswith("win_rate")
