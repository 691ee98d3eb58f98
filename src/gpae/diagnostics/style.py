"""How every picture is drawn: the same on all machines, whatever the user's matplotlibrc says."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from gpae.runs.files import atomic_write

# Okabe and Ito's colours without yellow, which print loses: told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX<>*hd"
_NO_DATE = {"Software": None, "Date": None, "Creation Time": None}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside, matplotlib has its own defaults and ours, and afterwards the user's again; the same figure is the same
    bytes.
    """
    with matplotlib.rc_context():
        # The backend is none of ours: figures are drawn on canvases of their own.
        matplotlib.rcParams.update({k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"})
        matplotlib.rcParams.update({"svg.hashsalt": "gpae", "svg.fonttype": "none", "text.usetex": False})
        yield


def against_steps(title: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure of one curve or several against environment steps. Call it inside `drawing`."""
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure in one piece. Call it inside `drawing`.

    Raises:
      UserError: the file cannot be written.
    """
    picture = io.BytesIO()
    metadata: Any = _NO_DATE
    FigureCanvasAgg(figure).print_png(picture, metadata=metadata)
    atomic_write(path, picture.getvalue())
