"""Numbers, tests and tables as the documents show them."""

from __future__ import annotations

from statistics import mean, median

import numpy as np

from gpae.report.permutation import permutation_test
from gpae.report.tables import shown_reached

ROUNDING = 5e-7
"""Scores are kept with six digits after the point."""


def markdown(columns, rows):
    columns = [column.replace("|", "\\|") for column in columns]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def figure(x, digits=3):
    if isinstance(x, str):
        return {"inf": "∞"}.get(x, x)
    if 0 < abs(x) < 0.5 * 10**-digits:
        return f"{x:.0e}".replace("-", "−", 1) if x < 0 else f"{x:.0e}"
    return f"{x:.{digits}f}".replace("-", "−")


def soon(when):
    """The median of the steps of the seeds, of which some may never have got there, as it is shown."""
    late, reached = median(when), sum(x < float("inf") for x in when)
    found = {"median": late if late < float("inf") else None, "reached": reached, "n": len(when)}
    return shown_reached(found)


def tested(drawn, beside):
    """The exact permutation test of two lists, of a number for each seed."""
    return permutation_test(*(np.array(x)[:, None] for x in (drawn, beside)), rounding=ROUNDING)


def exchanged(scores, one, other, unit=100):
    """The permutation test of some kinds of runs against as many others, pair by pair.

    Args:
      scores: kind -> of its seeds.
      one: kinds.
      other: as many.
      unit: what scores were multiplied with; default: they are percent.
    """
    sides = (np.stack([scores[kind] for kind in kinds], axis=1) for kinds in (one, other))
    return permutation_test(*sides, rounding=unit * ROUNDING)


def chance(p):
    """A p-value, as it is shown."""
    return f"{p:.3f}" if p >= 0.001 else "< .001"


def percent(interval):
    value, low, high = (f"{100 * x:.0f}" for x in interval)
    return f"{value} [{low}, {high}]"


def equal(p):
    """A p-value after the letter."""
    return f"= {chance(p)}" if p >= 0.001 else chance(p)


def in_time(during, limit):
    """The mean win rate of the last evaluation within so many seconds."""
    rates = [found for _, seconds, found in during if seconds <= limit]
    return f"{mean(rates[-1]):.0%}" if rates else "none yet"
