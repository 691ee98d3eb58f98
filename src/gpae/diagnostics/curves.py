"""The learning curve of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from gpae.diagnostics.style import COLOURS, against_steps, drawing, save_png
from gpae.errors import UserError
from gpae.runs.evaluations import EVALUATIONS, entries, read_evaluations
from gpae.runs.shared import CURVE

_Seeds = Mapping[str, Sequence[Mapping[str, Any]]]
"""Seed -> its evaluations, in order."""
# Colours that the colour-blind tell apart; in grey print the line styles do it.
_GREEDY = {"color": COLOURS[0], "linestyle": "-"}
_SAMPLED = {"color": COLOURS[1], "linestyle": "--"}


def learning_curve(run_directory: str | Path) -> Path:
    """Draws curve.png: greedy and sampled win rate, or return where there are no wins, against environment steps.

    Each seed is a thin line, the mean over seeds a thick one, its last value is written beside it. A mean is drawn
    where every seed was evaluated.

    Args:
      run_directory: a run with evaluations.

    Returns:
      The picture's path, `run_directory`/curve.png.

    Raises:
      UserError: the run has no evaluations yet, or they are damaged.
    """
    path = Path(run_directory)
    found = entries(read_evaluations(path), path / EVALUATIONS)
    seeds = {entry.seed: entry.evaluations for entry in found}
    if not any(seeds.values()):
        raise UserError(f"{path} has no evaluations yet; there is no curve to draw")
    env, algorithm = found[0].env, found[0].algorithm
    wins = any("win_rate" in step or "sampled_win_rate" in step for steps in seeds.values() for step in steps)
    metric = "win_rate" if wins else "return"

    with drawing():
        count = sum(map(bool, seeds.values()))
        title = f"{env}, {algorithm} ({count} seed{'s' * (count != 1)})"
        figure, axes = against_steps(title, "win rate" if wins else "return per episode")
        _fill(axes, seeds, metric, wins=wins)
        picture = path / CURVE
        save_png(figure, picture)
    return picture


def _fill(axes: Axes, seeds: _Seeds, metric: str, *, wins: bool) -> None:
    finals = [
        (final, style)
        for name, label, style in ((metric, "greedy", _GREEDY), (f"sampled_{metric}", "sampled", _SAMPLED))
        if (final := _draw(axes, seeds, name, label, style)) is not None
    ]
    _annotate(axes, finals, percent=wins)
    axes.set_xlim(left=0)
    if wins:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, loc="best")


def _draw(
    axes: Axes, seeds: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, label: str, style: dict[str, Any]
) -> Any:
    """The curves of one metric; returns the mean's last point."""
    curves = [
        {step["step_count"]: float(np.mean(step[metric])) for step in steps if metric in step}
        for steps in seeds.values()
    ]
    curves = [dict(sorted(curve.items())) for curve in curves if curve]
    if not curves:
        return None
    shared = [x for x in curves[0] if all(x in curve for curve in curves)]
    means = [float(np.mean([curve[x] for curve in curves])) for x in shared]
    if len(curves) > 1:
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), linewidth=0.8, alpha=0.45, **style)
    if not shared:
        return None
    # A single evaluation is a point, which a line alone does not show.
    axes.plot(shared, means, linewidth=2.4, label=label, marker="o", markersize=3.5, **style)
    return shared[-1], means[-1]


def _annotate(axes: Axes, finals: list[tuple[tuple[float, float], dict[str, Any]]], *, percent: bool) -> None:
    """Writes last values to the right of their curves, the higher one above."""
    for rank, ((x, y), style) in enumerate(sorted(finals, key=lambda final: -final[0][1])):
        above = 4 if rank == 0 else -4
        axes.annotate(
            f"{y:.1%}" if percent else f"{y:.4g}",
            (x, y),
            xytext=(6, above if len(finals) > 1 else 0),
            textcoords="offset points",
            va="center" if len(finals) == 1 else "bottom" if rank == 0 else "top",
            color=style["color"],
            fontweight="bold",
            annotation_clip=False,
        )
