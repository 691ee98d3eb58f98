"""Pictures of what was tried: every trial's score against each setting, and how important each setting was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from gpae.diagnostics.style import COLOURS
from gpae.report.scores import is_rate

_STYLES: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": COLOURS[0], "markerfacecolor": "none"},
    "pruned": {"marker": "v", "color": "0.55"},
    "failed": {"marker": "x", "color": COLOURS[1]},
}
_TOLD = {"pruned": "grey triangle: pruned, as far as it came", "failed": "cross: failed"}
_WIDE = 20
"""Numbers that lie so many times apart are shown on a logarithmic axis."""
_FEW_VALUES = 8
"""So many values of a setting stand side by side, each in a place of its own; more along an axis of numbers."""


def draw(
    settings: Mapping[str, Sequence[Sequence[Any]]],
    title: str,
    metric: str,
    ranges: Mapping[str, bool] | None = None,
) -> Figure:
    """A panel for each setting. Call it inside `gpae.diagnostics.style.drawing`.

    Args:
      settings: as `gpae.report.tried.sensitivity` makes them; at least one.
      title: of the figure.
      metric: the score's name.
      ranges: setting that was drawn from a range -> whether its logarithm was drawn evenly. The others' axis is one of
        numbers where they have more than a few values.
    """
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    width, height, foot = 3.1 * columns + 0.4, 2.3 * rows + 0.9, 0.1  # inches; at the foot stands what made it
    layout = ConstrainedLayoutEngine(rect=(0, foot / height, 1, 1 - foot / height))
    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, points) in zip(grid.flat, settings.items(), strict=False):
        _panel(axes, points, (ranges or {}).get(name))
        axes.set_xlabel(name, fontsize=9, parse_math=False)
        axes.tick_params(labelsize=7)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if is_rate(metric):
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for axes in list(grid.flat)[len(settings) :]:
        axes.set_visible(False)
    figure.supylabel(metric.replace("_", " "), fontsize=9)
    states = {state for *_, state in next(iter(settings.values()))}
    words = [word for state, word in _TOLD.items() if state in states]
    figure.supxlabel("; ".join(["star: the best", "line: median", *words]), fontsize=7, color="0.3")
    return figure


def _panel(axes: Axes, points: Sequence[Sequence[Any]], log: bool | None) -> None:
    """A mark for each trial; those at one place stand beside each other."""
    values = [value for value, _, _ in points]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct: list[Any] = list({repr(v): v for v in values}.values())
    distinct.sort(key=(lambda v: v) if numbers else str)
    in_places = not numbers or (log is None and len(distinct) <= _FEW_VALUES)
    known = [score for _, score, _ in points if score is not None]
    floor, high = min(known, default=0.0), max(known, default=1.0)
    height = high - floor or 1.0
    complete = [score for _, score, state in points if state == "complete" and score is not None]
    best = max(complete, default=None)
    before = Counter[tuple[str, float]]()
    for value, score, state in points:
        x, y = value, floor - 0.05 * height if score is None else score
        if in_places:
            key = (repr(value), round((y - floor) / height, 2))
            rank = before[key]
            before[key] += 1
            x = _place(distinct, value) + 0.09 * ((rank + 1) // 2) * (1 if rank % 2 else -1)
        axes.plot([x], [y], **_STYLES[state], markersize=5, linestyle="none")
        if state == "complete" and score == best:
            axes.plot([x], [y], marker="*", color=COLOURS[1], markersize=9, linestyle="none")
            best = None  # of equals the first
    if in_places:
        _medians(axes, points, distinct)
    elif log or (log is None and distinct[0] > 0 and distinct[-1] / distinct[0] >= _WIDE):
        axes.set_xscale("log")
        # As many labels as have room, and at least two; the minor ones that Matplotlib adds within a decade have none.
        times = distinct[-1] / distinct[0]
        within_decades = LogLocator(subs=(1.0,) if times > 100 else (1.0, 2.0, 5.0))
        axes.xaxis.set_major_locator(within_decades if times > 5 else MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _place(distinct: Sequence[Any], value: Any) -> int:
    return [repr(v) for v in distinct].index(repr(value))


def _medians(axes: Axes, points: Sequence[Sequence[Any]], distinct: Sequence[Any]) -> None:
    """A line at the median of each value's trials, and the values below the axis."""
    for x, value in enumerate(distinct):
        here = [s for v, s, state in points if repr(v) == repr(value) and s is not None and state == "complete"]
        if here:
            axes.plot([x - 0.3, x + 0.3], [float(np.median(here))] * 2, color="0.3", linewidth=1.2)
    labels = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in distinct]
    turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, labels)) > 24 else {}
    axes.set_xticks(range(len(distinct)), labels, parse_math=False, **turned)
    axes.set_xlim(-0.6, len(distinct) - 0.4)


def draw_importance(importance: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Bars: how much each setting tells the best trials of a method from the others.

    Args:
      importance: method -> setting -> share; at least one method.
      title: of the figure.
    """
    columns = min(3, len(importance))
    rows = -(-len(importance) // columns)
    most = max(map(len, importance.values()))
    figure = Figure(figsize=(3.4 * columns + 0.2, (0.24 * most + 0.8) * rows + 0.5), dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axes, (method, shares) in zip(grid.flat, importance.items(), strict=False):
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(range(len(names)), [shares[name] for name in names], color=COLOURS[0])
        axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
        axes.set_title(method, fontsize=9, loc="left", parse_math=False)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.tick_params(axis="x", labelsize=7, labelbottom=True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(importance) :]:
        axes.set_visible(False)
    return figure
