"""The picture of a run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from gpae.errors import UserError
from gpae.runs.directory import read_config, read_metrics
from gpae.runs.evaluations import EVALUATIONS, entries, read_evaluations
from gpae.runs.files import clear_disk_errors

# Two of Okabe and Ito's colours, which the colour-blind tell apart; in grey print the line styles do it.
_GREEDY = {"color": "#0072B2", "linestyle": "-"}
_SAMPLED = {"color": "#D55E00", "linestyle": "--"}


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
    seeds = {entry.seed: entry.steps for entry in found}
    if not _steps(seeds):
        raise UserError(f"{path} has no evaluations yet; there is no curve to draw")
    env, algorithm = found[0].env, found[0].algorithm
    wins = any("win_rate" in step or "sampled_win_rate" in step for step in _steps(seeds))
    metric = "win_rate" if wins else "return"

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    finals = [
        (final, style)
        for name, label, style in ((metric, "greedy", _GREEDY), (f"sampled_{metric}", "sampled", _SAMPLED))
        if (final := _draw(axes, seeds, name, label, style)) is not None
    ]
    _annotate(axes, finals, percent=wins)
    count = sum(bool(_steps({0: steps})) for steps in seeds.values())
    axes.set_title(f"{env}, {algorithm} ({count} seed{'s' * (count != 1)})", loc="left")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("win rate" if wins else "return per episode")
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlim(left=0)
    if wins:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.set_ylim(-0.03, 1.03)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    picture = path / "curve.png"
    with clear_disk_errors(picture):
        FigureCanvasAgg(figure).print_png(picture)
    return picture


_STYLES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", "-"),
    ("#56B4E9", "--"),
)
_SMOOTHED = 20
"""Updates that a point of the gap's curve is the mean over, weighted by their stops."""


def advantage_gaps(run_directories: Sequence[str | Path], picture: str | Path) -> Path:
    """Draws the advantage gap over training: how much worse the advantage of the stopped agent is than its teammates'.

    Each run is a line, mean over its seeds, by its own estimator; thin beside it, where the critic is shown the joint
    action, the one-step advantage of the same critic. Points are means over the last updates, weighted by the stops.

    Args:
      run_directories: runs that were trained with `stop_agent`.
      picture: the PNG to write.

    Returns:
      `picture`.

    Raises:
      UserError: a run without the metric, or runs with different interventions.
    """
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    paths = [Path(run) for run in run_directories]
    configs = [read_config(path) for path in paths]
    interventions = {(c["env"], c["stop_agent"], c["stop_probability"]) for c in configs}
    if len(interventions) > 1:
        raise UserError("the runs differ in env, stop_agent or stop_probability: their gaps cannot be compared")
    names = [config["algorithm"] for config in configs]
    for (colour, style), path, algorithm_name in zip(itertools.cycle(_STYLES), paths, names, strict=False):
        metrics = read_metrics(path)
        label = algorithm_name if names.count(algorithm_name) == 1 else f"{algorithm_name} ({path.name})"
        curves = [("advantage_gap", label, 2.2)]
        one_step_already = all(m.get("advantage_gap") == m.get("advantage_gap_one_step") for m in metrics)
        if not one_step_already:
            curves.append(("advantage_gap_one_step", f"{label}, one step", 1.0))
        for name, text, width in curves:
            steps, gaps = _gap_curve(metrics, name)
            if not steps.size:
                raise UserError(f"{path} has no advantage gap: train it with --stop-agent")
            axes.plot(steps, gaps, color=colour, linestyle=style, linewidth=width, label=text)
    ((env, agent, probability),) = interventions
    axes.set_title(f"{env}, agent {agent} stopped in {probability:.0%} of its steps", loc="left")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean A of living teammates - A of the stopped agent")
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    picture = Path(picture)
    with clear_disk_errors(picture):
        FigureCanvasAgg(figure).print_png(picture)
    return picture


def _gap_curve(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the running mean of a gap over updates and seeds, weighted by the stops."""
    found = [(m["env_steps"], m[name], m["stops"]) for m in metrics if name in m]
    steps = np.array(sorted({x[0] for x in found}))
    sums = {step: np.zeros(2) for step in steps.tolist()}
    for step, gap, stops in found:
        sums[step] += (gap * stops, stops)
    totals = np.cumsum([np.zeros(2), *(sums[step] for step in steps.tolist())], axis=0)
    last = np.arange(1, len(totals))
    within = totals[last] - totals[np.maximum(last - _SMOOTHED, 0)]
    return steps, within[:, 0] / within[:, 1]


def _steps(seeds: Mapping[Any, Any]) -> list[dict[str, Any]]:
    return [step for steps in seeds.values() for name, step in steps.items() if name.startswith("step_")]


def _draw(axes: Axes, seeds: Mapping[str, Any], metric: str, label: str, style: dict[str, Any]) -> Any:
    """The curves of one metric; returns the mean's last point."""
    curves = [
        {step["step_count"]: float(np.mean(step[metric])) for step in _steps({0: steps}) if metric in step}
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
