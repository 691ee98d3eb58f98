"""The plots of a report, as PNG and SVG for papers and print: told apart by colour, line and marker alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, PercentFormatter

from gpae.diagnostics.style import COLOURS, LINES, MARKERS, drawing
from gpae.report.scores import is_rate
from gpae.report.sensitivity import draw
from gpae.report.spread import seed_dots
from gpae.report.tables import blocks, file_key, made_with

FOOT = (0.005, 0.004)
"""Where a figure says how it was made, in parts of its width and height."""
_MOST_TOGETHER = 6
"""Methods whose curves can be told apart in one plot; more stand in small ones, one each."""


def styles(report: Mapping[str, Any]) -> dict[str, int]:
    """Method -> number of its style, the same in every figure of a report."""
    names = [entry["method"] for block in report["environments"] for entry in block["methods"]]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def draw_figures(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Draws curves, intervals, profiles and probabilities of improvement of each environment, and of all together.

    Args:
      report: as `gpae.report.build.build` makes it.
      folder: where the PNG and SVG files go.

    Returns:
      Remarks on pictures that could not be drawn.
    """
    numbers, remarks = styles(report), []
    foot = f"{report['command']}; {made_with(report)}"
    for block in blocks(report):
        for name, plot in (
            ("curve", _curves),
            ("intervals", _intervals),
            ("profile", _profiles),
            ("improvement", _improvements),
        ):
            try:
                with drawing():
                    figure = plot(block, numbers)
                    if figure is not None:
                        figure.text(*FOOT, foot, fontsize=5, color="0.4", va="bottom", parse_math=False)
                        _write(figure, folder / f"{block['key']}-{name}")
            except OSError:
                raise
            except Exception as error:  # whatever fonts and names do to matplotlib, the figures are in the tables too
                remarks.append(f"the picture {block['key']}-{name} could not be drawn: {type(error).__name__}: {error}")
    return remarks + _draw_tried(report, folder, foot)


def sensitivities(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of a picture -> what was tried of a method in several values of a setting."""
    found = {}
    for entry in report.get("tried", []):
        if entry["settings"]:
            words = (entry["tuning"] or "", entry["env"], entry["method"], "sensitivity")
            found["-".join(file_key(word) for word in words if word)] = entry
    return found


def _draw_tried(report: Mapping[str, Any], folder: Path, foot: str) -> list[str]:
    remarks = []
    for name, entry in sensitivities(report).items():
        title = f"{entry['env']}, {entry['method']}: {entry['trials']} trials"
        title += f" of {entry['tuning']}" if entry["tuning"] else ""
        try:
            with drawing():
                figure = draw(entry["settings"], title, entry["metric"], entry["ranges"])
                figure.text(0.005, 0.002, foot, fontsize=4, color="0.4", va="bottom", parse_math=False)
                _write(figure, folder / name)
        except OSError:
            raise
        except Exception as error:  # as above
            remarks.append(f"the picture {name} could not be drawn: {type(error).__name__}: {error}")
    return remarks


def _write(figure: Figure, stem: Path) -> None:
    # Neither dates nor versions, so that the same figures are the same files.
    metadata: Any = {"Software": None}
    FigureCanvasAgg(figure).print_png(str(stem.with_suffix(".png")), metadata=metadata)
    FigureCanvasSVG(figure).print_svg(str(stem.with_suffix(".svg")), metadata={"Date": None, "Creator": None})


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
        linestyle=LINES[number % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        markevery=max(1, len(x) // 10),
        linewidth=1.8,
        label=label,
    )
    axes.fill_between(x, columns["low"], columns["high"], color=colour, alpha=0.15, linewidth=0)


def _seeds(axes: Axes, entry: Mapping[str, Any], number: int) -> None:
    """A thin line for each seed."""
    for seed in entry.get("seed_curves", {}).values():
        y = np.array(seed, float)
        axes.plot(entry["curve"]["x"], y, color=COLOURS[number % len(COLOURS)], linewidth=0.5, alpha=0.45)


def _scale(axes: Axes, metric: str, *, vertical: bool) -> None:
    if is_rate(metric):
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
    thin = ", each seed thin" if any("seed_curves" in entry for entry in entries) else ""
    title = f"{block['title']}: IQM over seeds, 95 % intervals{thin}"
    if len(entries) > _MOST_TOGETHER:
        return _small_curves(block, entries, numbers, title)
    figure, axes = _figure(4.2, title)
    for entry in entries:
        label = f"{entry['method']}, n = {entry['n']}"
        _seeds(axes, entry, numbers[entry["method"]])
        _line(axes, entry["curve"]["x"], entry["curve"], numbers[entry["method"]], label)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_called(block))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlim(left=0)
    _scale(axes, block["metric"], vertical=True)
    _legend(figure, axes, len(entries))
    return figure


def _small_curves(
    block: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], title: str
) -> Figure:
    """A plot for each method, the others' curves in grey behind it."""
    columns = 3 if len(entries) <= 9 else 4
    rows = -(-len(entries) // columns)
    height = 1.9 * rows + 0.7
    # Below the axes' label there is room for what is written at a figure's foot.
    figure = Figure(
        figsize=(2.6 * columns, height),
        dpi=150,
        layout=ConstrainedLayoutEngine(rect=(0, 0.32 / height, 1, 1 - 0.32 / height)),
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, entry in zip(grid.flat, entries, strict=False):
        for other in entries:
            if other is not entry:
                axes.plot(other["curve"]["x"], other["curve"]["value"], color="0.85", linewidth=0.8)
        _seeds(axes, entry, numbers[entry["method"]])
        _line(axes, entry["curve"]["x"], entry["curve"], numbers[entry["method"]], entry["method"])
        axes.set_title(f"{entry['method']}, n = {entry['n']}", fontsize=9, loc="left", parse_math=False)
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.set_xlim(left=0)
        _scale(axes, block["metric"], vertical=True)
        axes.tick_params(labelsize=7)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for column in range(len(entries) - columns * (rows - 1), columns):
        grid[-1, column].set_visible(False)
        grid[-2, column].tick_params(labelbottom=True)
    figure.supxlabel("environment steps", fontsize=9, y=0.13 / height)
    figure.supylabel(_called(block), fontsize=9)
    return figure


def _intervals(block: Mapping[str, Any], numbers: Mapping[str, int]) -> Figure:
    entries = block["methods"][::-1]
    kind = block["compared_by"]
    dots = ", a dot for each seed" if any(seed_dots(entry, kind) for entry in entries) else ""
    title = f"{block['title']}: IQM of the {kind} metric, 95 % intervals{dots}"
    figure, axes = _figure(1.5 + 0.32 * len(entries), title, left=0.3)
    for place, entry in enumerate(entries):
        value, low, high = entry[kind]["iqm"]
        number = numbers[entry["method"]]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.plot([low, high], [place, place], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt")
        axes.plot([value], [place], color=colour, marker=marker, markersize=7, linestyle="none")
        for _, score, aside in seed_dots(entry, kind):
            shifted = place + 0.06 * aside
            axes.plot([score], [shifted], "o", color="0.2", markersize=3.5, fillstyle="none", markeredgewidth=0.8)
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
    axes.set_xlabel(f"{_called(block)} at least")
    axes.set_ylabel("fraction of runs")
    if is_rate(block["metric"]):
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
