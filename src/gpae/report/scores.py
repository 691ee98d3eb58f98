"""What runs are compared by, in which unit, and on which scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gpae.errors import UserError

SCORES = ("win_rate", "return", "mean_episode_return", "episode_return", "mean_return", "episode_returns")
"""Metrics that runs are compared by, the first that all of an environment have."""
SAMPLED = "sampled_"
"""What the name of a metric begins with where actions were sampled; without it they were greedy."""
_KNOWN = {("smax", "return"): (0.0, 2.0), ("teamwork", "return"): (0.0, 1.0)}
"""Family of environments, metric -> nothing achieved, the best that there is."""


class Scale(NamedTuple):
    """What counts as 0 and as 1 where environments are put together."""

    low: float
    high: float
    fixed: bool
    """Whether it is the environment's own; else it is that of the runs at hand, and another report has another one."""

    def unit(self, scores: np.ndarray) -> np.ndarray:
        """Scores on this scale."""
        return (scores - self.low) / (self.high - self.low) if self.high > self.low else np.zeros_like(scores)


def is_rate(metric: str) -> bool:
    """Whether a metric is a share of battles won."""
    return metric.endswith("win_rate")


def played(metric: str) -> str:
    """How actions were chosen where a metric was measured: "greedy" or "sampled"."""
    return "sampled" if metric.startswith(SAMPLED) else "greedy"


def scale_of(
    env: str, metric: str, scores: Sequence[np.ndarray], given: Mapping[str, tuple[float, float]] | None = None
) -> Scale:
    """Of win rates 0 and 1; of returns what is given or known; else the lowest and highest score of the environment."""
    if is_rate(metric):
        return Scale(0.0, 1.0, True)
    fixed = (given or {}).get(env) or _KNOWN.get((env.partition("/")[0], metric))
    if fixed:
        return Scale(*fixed, True)
    return Scale(min(float(s.min()) for s in scores), max(float(s.max()) for s in scores), False)


def parse_scales(words: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Environment -> low, high, from words such as `mpe/simple_spread=-60:-10`.

    Raises:
      UserError: a word is not of that form, or low is not below high.
    """
    found = {}
    for word in words:
        env, _, numbers = word.rpartition("=")
        try:
            low, high = map(float, numbers.split(":"))
        except ValueError:
            low = high = math.nan
        if not env or not low < high or math.isinf(low) or math.isinf(high):
            raise UserError(
                f"--scale {word!r} is not ENVIRONMENT=LOW:HIGH with LOW below HIGH, such as mpe/simple_spread=-60:-10"
            )
        found[env] = (low, high)
    return found
