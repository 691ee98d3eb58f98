"""The plots of a report, as PNG and SVG for papers and print: told apart by colour, line and marker alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from gpae.report.tables import blocks, made_with

# Okabe and Ito's colours without yellow, which print loses.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX<>*hd"


def styles(report: Mapping[str, Any]) -> dict[str, int]:
    """Method -> number of its style, the same in every figure of a report."""
    names = [entry["method"] for block in report["environments"] for entry in block["methods"]]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def draw_figures(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws curves, intervals, profiles and probabilities of improvement of each environment, and of all together.

    Args:
      report: as `gpae.report.build.build` makes it.
      folder: where the PNG and SVG files go.

    Returns:
      The files.
    """
    numbers, found = styles(report), []
    foot = f"{report['command']}; {made_with(report)}"
    for block in blocks(report):
        for name, draw in (
            ("curve", _curves),
            ("intervals", _intervals),
            ("profile", _profiles),
            ("improvement", _improvements),
        ):
            figure = draw(block, numbers)
            if figure is None:
                continue
            figure.text(0.005, 0.004, foot, fontsize=5, color="0.4", va="bottom")
            found += _write(figure, folder / f"{block['key']}-{name}")
    return found


def _write(figure: Figure, stem: Path) -> list[Path]:
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    # Neither dates nor random names, so that the same figures are the same files.
    with matplotlib.rc_context({"svg.hashsalt": "gpae", "svg.fonttype": "none"}):
        FigureCanvasAgg(figure).print_png(str(png))
        FigureCanvasSVG(figure).print_svg(str(svg), metadata={"Date": None})
    return [png, svg]


def _figure(height: float, title: str, left: float = 0.11) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, height), dpi=150)
    figure.subplots_adjust(left=left, right=0.98, top=1 - 0.35 / height, bottom=0.7 / height)
    axes = figure.add_subplot()
    # Over long labels there is room to the left alone.
    axes.set_title(title, loc="left" if left < 0.3 else "right", fontsize=11)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axes: Axes, x: Sequence[float], columns: Mapping[str, Sequence[float]], number: int, label: str) -> None:
    colour = COLOURS[number % len(COLOURS)]
    axes.plot(
        x,
        columns["value"],
        color=colour,
        linestyle=_LINES[number % len(_LINES)],
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4,
        markevery=max(1, len(x) // 10),
        linewidth=1.8,
        label=label,
    )
    axes.fill_between(x, columns["low"], columns["high"], color=colour, alpha=0.15, linewidth=0)


def _scale(axes: Axes, metric: str, *, vertical: bool) -> None:
    if "win_rate" in metric:
        (axes.yaxis if vertical else axes.xaxis).set_major_formatter(PercentFormatter(xmax=1))
        (axes.set_ylim if vertical else axes.set_xlim)(-0.03, 1.03)


def _legend(figure: Figure, axes: Axes, methods: int) -> None:
    beside: dict[str, Any] = {}
    if methods > 6:  # within the axes it would hide what they show
        figure.subplots_adjust(right=0.78)
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(frameon=False, fontsize=8, **beside)


def _called(block: Mapping[str, Any]) -> str:
    return "score" if block["env"] is None else block["metric"].replace("_", " ")


def _curves(block: Mapping[str, Any], numbers: Mapping[str, int]) -> Figure | None:
    entries = [entry for entry in block["methods"] if "curve" in entry]
    if not entries:
        return None
    figure, axes = _figure(4.2, f"{block['title']}: IQM over seeds, 95 % intervals")
    for entry in entries:
        label = f"{entry['method']}, n = {entry['n']}"
        _line(axes, entry["curve"]["x"], entry["curve"], numbers[entry["method"]], label)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_called(block))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlim(left=0)
    _scale(axes, block["metric"], vertical=True)
    _legend(figure, axes, len(entries))
    return figure


def _intervals(block: Mapping[str, Any], numbers: Mapping[str, int]) -> Figure:
    entries = block["methods"][::-1]
    kind = block["compared_by"]
    title = f"{block['title']}: IQM of the {kind} metric, 95 % intervals"
    figure, axes = _figure(1.5 + 0.32 * len(entries), title, left=0.3)
    for place, entry in enumerate(entries):
        value, low, high = entry[kind]["iqm"]
        number = numbers[entry["method"]]
        colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
        axes.plot([low, high], [place, place], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt")
        axes.plot([value], [place], color=colour, marker=marker, markersize=7, linestyle="none")
    axes.set_yticks(range(len(entries)), [f"{e['method']}, n = {e['n']}" for e in entries])
    axes.set_ylim(-0.6, len(entries) - 0.4)
    axes.set_xlabel(_called(block))
    _scale(axes, block["metric"], vertical=False)
    return figure


def _profiles(block: Mapping[str, Any], numbers: Mapping[str, int]) -> Figure:
    figure, axes = _figure(3.6, f"{block['title']}: performance profile, {block['compared_by']} metric")
    n = {entry["method"]: entry["n"] for entry in block["methods"]}
    for method, columns in block["profile"]["methods"].items():
        _line(axes, block["profile"]["x"], columns, numbers[method], f"{method}, n = {n[method]}")
    axes.set_xlabel(f"{_called(block)} above")
    axes.set_ylabel("fraction of runs")
    if "win_rate" in block["metric"]:
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_ylim(-0.03, 1.03)
    _legend(figure, axes, len(block["methods"]))
    return figure


def _improvements(block: Mapping[str, Any], numbers: Mapping[str, int]) -> Figure | None:
    pairs = block["improvement"][::-1]
    if not pairs:
        return None
    figure, axes = _figure(1.5 + 0.24 * len(pairs), f"{block['title']}: probability of improvement", left=0.52)
    values = np.array([pair["probability"] for pair in pairs], float)
    for place, (pair, (value, low, high)) in enumerate(zip(pairs, values, strict=True)):
        colour = COLOURS[numbers[pair["method"]] % len(COLOURS)]
        axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot([value], [place], color=colour, marker="o", markersize=5)
    axes.axvline(0.5, color="0.5", linewidth=0.8, linestyle=":")
    n = {entry["method"]: entry["n"] for entry in block["methods"]}
    labels = [f"{p['method']} over {p['over']}, n = {n[p['method']]} and {n[p['over']]}" for p in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=7)
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("P(a run of the first beats one of the second)")
    return figure
