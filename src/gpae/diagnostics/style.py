"""How every picture is drawn: the same on all machines, whatever the user's matplotlibrc says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import matplotlib

# Okabe and Ito's colours without yellow, which print loses: told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX<>*hd"


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
