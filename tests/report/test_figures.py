"""What stands in a figure is legible: no words over others."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gpae.report.figures import FOOT, _curves


@pytest.mark.parametrize("methods", [2, 7, 8, 9, 11])
def test_words_of_curves_stand_beside_each_other(methods):
    curve = {"x": [1e6, 5e6], "value": [0.0, 0.1], "low": [0.0, 0.0], "high": [0.1, 0.2]}
    entries = [{"method": f"gpae ({number})", "n": 5, "curve": curve} for number in range(methods)]
    block = {"env": "smax/5m_vs_6m", "title": "smax/5m_vs_6m", "metric": "win_rate", "methods": entries}
    figure = _curves(block, {entry["method"]: number for number, entry in enumerate(entries)})
    foot = figure.text(*FOOT, "how it was made, " * 10, fontsize=5, va="bottom")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    labels = [axes.xaxis.label for axes in shown if axes.get_xlabel()] + [figure._supxlabel] * (methods > 6)
    ticks = [tick for axes in shown for tick in axes.get_xticklabels() if tick.get_visible() and tick.get_text()]
    # Every column says where its plots end: the lowest one shown has steps below it.
    ends = {axes.get_subplotspec().colspan.start: axes for axes in shown}
    assert all(any(tick.get_visible() and tick.get_text() for tick in a.get_xticklabels()) for a in ends.values())
    boxes = {text: text.get_window_extent() for text in (foot, *labels, *ticks)}
    for one, other in itertools.product((foot, *labels), boxes):
        assert one is other or not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())
