"""Interquartile means and the like, with 95 % intervals from a stratified bootstrap (rliable; Agarwal et al. 2021,
arXiv 2108.13264).

Scores are [n, tasks]: n runs (seeds) of each task. Resampling is among the runs of each task, never between tasks.
Every interval starts from the same seed, so that none depends on which others were computed before it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpae.errors import UserError

FEW = 10
"""Runs below which an interval of the bootstrap is too narrow to be believed."""
SIZE = 0.95
"""Coverage of the intervals."""


class Interval(NamedTuple):
    """A statistic and its interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """The bootstrap, with how often and from which seed it draws."""

    def __init__(self, resamples: int = 2000, seed: int = 0):
        """Loads rliable.

        Raises:
          UserError: it is not installed, or does not work with the pandas that is.
        """
        try:
            from rliable import library
        except Exception as error:  # with pandas 3, one of its own dependencies fails in other ways than ImportError
            raise UserError(
                f"reports need rliable and pandas < 3; they come with `pip install -e '.[report]'` ({error})"
            ) from error
        self._library: Any = library
        self.resamples, self.seed = resamples, seed

    def aggregates(self, scores: np.ndarray) -> dict[str, Interval]:
        """IQM, mean and median of scores [n, tasks].

        The median is the runs' if there is one task, and else that of the tasks' means, as rliable defines it.
        """

        def all_three(x: np.ndarray) -> np.ndarray:
            return np.array([interquartile_mean(x), np.mean(x), median(x)])

        return dict(zip(("iqm", "mean", "median"), self._intervals(scores, all_three), strict=True))

    def gap(self, scores: np.ndarray) -> Interval:
        """Optimality gap of scores [n, tasks] on a scale of 0 to 1."""
        (found,) = self._intervals(scores, lambda x: np.array([optimality_gap(x)]))
        return found

    def curve(self, scores: np.ndarray) -> list[Interval]:
        """IQM at each evaluation of scores [n, tasks, evaluations]; the intervals hold for each point by itself."""

        def at_each(x: np.ndarray) -> np.ndarray:
            return trimmed_mean(x.reshape(-1, x.shape[-1]))

        return self._intervals(scores, at_each)

    def profile(self, scores: np.ndarray, thresholds: Sequence[float]) -> list[Interval]:
        """Fraction of the runs of scores [n, tasks] that reach each threshold; a perfect run thus reaches 1."""
        taus = np.asarray(thresholds) - 1e-9  # what rounding takes from a score is no miss
        return self._intervals(scores, lambda x: np.mean(x.reshape(-1, 1) >= taus, axis=0))

    def improvement(self, scores: np.ndarray, other: np.ndarray) -> Interval:
        """Probability that a run of `scores` [n, tasks] beats one of `other` [m, tasks], mean over tasks."""

        def probability(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.array([probability_of_improvement(x, y)])

        (found,) = self._intervals([scores, other], probability)
        return found

    def _intervals(self, scores: Any, function: Callable[..., np.ndarray]) -> list[Interval]:
        with _seeded(self.seed):
            points, bounds = self._library.get_interval_estimates(
                {"": scores}, function, reps=self.resamples, confidence_interval_size=SIZE
            )
        return [Interval(*map(float, row)) for row in zip(points[""], *bounds[""], strict=True)]


def trimmed_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of [n, ...] over the first axis without its lowest and highest floor(n / 4)."""
    cut = len(scores) // 4
    return np.sort(scores, axis=0)[cut : len(scores) - cut].mean(axis=0)


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of all scores but the lowest and highest quarter, rounded down: with less than four, the mean."""
    return float(trimmed_mean(scores.reshape(-1)))


def median(scores: np.ndarray) -> float:
    """See `Bootstrap.aggregates`."""
    return float(np.median(scores if scores.shape[1] == 1 else scores.mean(axis=0)))


def optimality_gap(scores: np.ndarray) -> float:
    """How far scores [n, tasks] in [0, 1] stay below 1, in the mean; above 1 counts as 1 (rliable, gamma = 1)."""
    return float(1.0 - np.minimum(scores, 1.0).mean())


def probability_of_improvement(scores: np.ndarray, other: np.ndarray) -> float:
    """P(x > y) + P(x = y) / 2 over pairs of runs of [n, tasks] and [m, tasks], mean over tasks."""
    differences = scores[:, None, :] - other[None, :, :]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def first_reached(when: Sequence[float], scores: Sequence[float], threshold: float) -> float | None:
    """When a score first was at least `threshold`; None if it never was."""
    return next((float(t) for t, score in zip(when, scores, strict=True) if score >= threshold), None)


def median_reached(times: Sequence[float | None]) -> float | None:
    """Median over runs, those that never got there counting as infinitely late; None if the median is one of them."""
    found = float(np.median([math.inf if t is None else t for t in times])) if times else math.inf
    return found if math.isfinite(found) else None


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Rliable 1.2 draws from NumPy's global generator, whatever generator it is given."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
