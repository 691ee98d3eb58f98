"""The advantage gap over training: whom the advantages blame for what a stopped agent did not do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpae.diagnostics.style import COLOURS, LINES, against_steps, drawing, save_png
from gpae.errors import UserError
from gpae.runs.directory import read_config
from gpae.runs.metrics import read_metrics

_SMOOTHED = 20
"""Updates that a point of the curve is the mean over, weighted by their stops."""
_NEEDED = ("env", "algorithm", "stop_agent", "stop_probability")


def advantage_gaps(run_directories: Sequence[str | Path], picture: str | Path) -> Path:
    """Draws the advantage gap over training: how much worse the advantage of the stopped agent is than its teammates'.

    Each run is a line, mean over its seeds, by its own estimator; thin beside it, where it differs, the one-step
    advantage of the same critic. Points are means over the last updates, weighted by the stops.

    Args:
      run_directories: runs that were trained with `stop_agent`.
      picture: the PNG to write.

    Returns:
      `picture`.

    Raises:
      UserError: no run, a run without the metric, or runs with different interventions.
    """
    paths = [Path(run) for run in run_directories]
    if not paths:
        raise UserError("gpae inspect gap takes run directories, trained with --stop-agent")
    configs = [read_config(path) for path in paths]
    for path, config in zip(paths, configs, strict=True):
        if any(name not in config for name in _NEEDED) or config["stop_agent"] in (None, -1):
            raise UserError(f"{path} has no advantage gap: train it with --stop-agent")
    interventions = {(c["env"], c["stop_agent"], c["stop_probability"]) for c in configs}
    if len(interventions) > 1:
        raise UserError("the runs differ in env, stop_agent or stop_probability: their gaps cannot be compared")
    names = [config["algorithm"] for config in configs]
    ((env, agent, probability),) = interventions
    picture = Path(picture)
    with drawing():
        title = f"{env}, agent {agent} stopped in {probability:.0%} of its steps"
        figure, axes = against_steps(title, "mean A of living teammates - A of the stopped agent")
        styles = itertools.cycle(zip(COLOURS, itertools.cycle(LINES), strict=False))
        for (colour, style), path, name in zip(styles, paths, names, strict=False):
            metrics = read_metrics(path)
            label = name if names.count(name) == 1 else f"{name} ({path.name})"
            curves = [("advantage_gap", label, 2.2)]
            if any(m.get("advantage_gap") != m.get("advantage_gap_one_step") for m in metrics):
                curves.append(("advantage_gap_one_step", f"{label}, one step", 1.0))
            for metric, text, width in curves:
                steps, gaps = _gap_curve(metrics, metric)
                if not steps.size:
                    raise UserError(
                        f"{path} has no advantage gap: train it with --stop-agent, for some updates at least"
                    )
                axes.plot(steps, gaps, color=colour, linestyle=style, linewidth=width, label=text)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.legend(frameon=False, loc="best")
        save_png(figure, picture)
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
