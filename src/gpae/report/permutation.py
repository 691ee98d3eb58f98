"""Could the difference of two methods be chance? Permutation tests, with Holm's correction for many comparisons.

If two methods are the same, any share-out of their runs among them was as likely as the one that was seen. The p-value
is the share of those in which the means are as far apart (Fisher 1935; Holm 1979).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MOST_EXACT = 184_756
"""Share-outs up to which all are counted: those of 10 runs against 10."""
DRAWS = 99_999
"""Share-outs that are drawn where there are more."""


class Tested(NamedTuple):
    """A two-sided p-value: twice the smaller of the two one-sided ones, at most 1."""

    difference: float
    """Of the means, the first less the second, mean over tasks."""
    p: float
    smallest: float
    """The smallest p that so many runs can give."""
    exact: bool
    """Whether all share-outs were counted; else `DRAWS` were drawn, and the one that was seen counts as one more."""


def permutation_test(scores: np.ndarray, other: np.ndarray, seed: int = 0, *, rounding: float = 0.0) -> Tested:
    """Tests whether the runs of two methods are of one make; runs change sides within each task.

    Args:
      scores: [n, tasks].
      other: [m, tasks].
      seed: of the draws, where there are too many share-outs to count all.
      rounding: by how much each score may be off. Share-outs that differ by no more than this from what was seen count
        as it does: else those that are alike would be told apart by what rounding left of them, and p were too small.
    """
    n, m = len(scores), len(other)
    both, tasks = np.concatenate([scores, other]), scores.shape[1]
    of_task = math.comb(n + m, n)
    exact = of_task**tasks <= MOST_EXACT
    found = np.zeros(1)
    for task in range(tasks):
        here = _all_shares(n, m) if exact else _drawn_shares(n, m, (seed, task))
        sums = both[here, task].sum(axis=1)
        differences = sums / n - (both[:, task].sum() - sums) / m
        found = (found[:, None] + differences).reshape(-1) if exact else found + differences
    found = found / tasks
    seen = float(np.mean(scores.mean(axis=0) - other.mean(axis=0)))
    # A difference of two means is off by up to twice that, and so is the one it is held against.
    slack = 4 * rounding + 1e-9 * max(1.0, float(np.abs(both).max()))
    more = 0 if exact else 1
    sides = (np.sum(found >= seen - slack) + more, np.sum(found <= seen + slack) + more)
    total = len(found) + more
    return Tested(seen, min(1.0, 2 * int(min(sides)) / total), min(1.0, 2 / total), exact)


def holm(p: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Corrects p-values for their number, so that all claims together are wrong in at most 5 % of the cases at p < .05.

    The smallest is multiplied by the number of them, the next by one less, and none comes below the one before.
    """
    corrected, before = {}, 0.0
    for rank, pair in enumerate(sorted(p, key=lambda pair: p[pair])):
        before = max(before, min(1.0, (len(p) - rank) * p[pair]))
        corrected[pair] = before
    return {pair: corrected[pair] for pair in p}


def smallest_corrected(tests: Sequence[Tested]) -> float:
    """The smallest p that can come out after Holm's correction, whatever the scores."""
    return min(1.0, len(tests) * min(test.smallest for test in tests))


@functools.lru_cache(maxsize=4)
def _all_shares(n: int, m: int) -> np.ndarray:
    """[share-outs, n]: which runs go to the first method."""
    count = math.comb(n + m, n)
    flat = itertools.chain.from_iterable(itertools.combinations(range(n + m), n))
    return np.fromiter(flat, np.uint16, count * n).reshape(count, n)


@functools.lru_cache(maxsize=32)
def _drawn_shares(n: int, m: int, seed: tuple[int, int]) -> np.ndarray:
    """[DRAWS, n]."""
    draws = np.random.default_rng(seed)
    runs = np.broadcast_to(np.arange(n + m, dtype=np.uint16), (DRAWS, n + m))
    return np.ascontiguousarray(draws.permuted(runs, axis=1)[:, :n])
