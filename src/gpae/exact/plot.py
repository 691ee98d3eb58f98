"""A picture of bias and spread against off-policyness and team size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpae.exact.tables import MIXES, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(tables: Sequence[Table]) -> bytes:
    """Bias and spread against off-policyness and team size, as PNG; the same on all machines."""
    import matplotlib  # the statements need none
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcParams.update({k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"})
        figure = Figure(figsize=(11, 7), layout="constrained")
        _draw(figure, tables)
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120, format="png", metadata={"Software": None})
        return picture.getvalue()


def _draw(figure: Figure, found: Sequence[Table]) -> None:
    tables = {table.key: table for table in found}
    distances, spreads, team = tables["distance"], tables["spread"], tables["team"]
    (bias, spread), (team_bias, team_spread) = figure.subplots(2, 2)

    chosen = {
        ("none", "sampled", "truncated"): "none",
        ("st", "sampled", "truncated"): "ST",
        ("it", "sampled", "truncated"): "IT",
        ("dt", "sampled", "truncated"): "DT (the paper's)",
        ("dt", "corrected", "exact"): "DT, corrected bootstrap and own weight",
        ("others", "corrected", "exact"): "others-truncated, corrected",
    }
    for row in distances.rows:
        if tuple(row[:3]) in chosen:
            bias.plot(MIXES, row[3:], marker="o", label=chosen[tuple(row[:3])])
    bias.set(title="bias by off-policyness", xlabel="weight of a random policy in the behaviour")
    bias.set_ylabel("distance from EQ, over largest |EQ|")
    spread_chosen = {
        ("dt", "sampled"): "DT (the paper's)",
        ("others", "weighted"): "others-truncated, weighted",
        ("others", "resampled"): "others-truncated, resampled",
        ("others", "expected"): "others-truncated, expected",
    }
    for row in spreads.rows:
        if tuple(row[:2]) in spread_chosen:
            spread.plot(MIXES, row[2:], marker="o", label=spread_chosen[tuple(row[:2])])
    spread.set(title="spread by off-policyness", xlabel="weight of a random policy in the behaviour")
    spread.set_ylabel("deviation of one advantage, over rms A")

    sizes = [int(row[0]) for row in team.rows]
    for k, column in enumerate(team.columns[1:], start=1):
        name, _, kind = column.partition(": ")
        axes = team_bias if kind == "distance" else team_spread
        axes.plot(sizes, [row[k] for row in team.rows], marker="o", label=name)
    team_bias.set(title="bias by team size", xlabel="agents", ylabel="distance from EQ, over largest |EQ|")
    team_spread.set(title="spread by team size", xlabel="agents", ylabel="deviation of one advantage, over rms A")
    for axes in (bias, spread, team_bias, team_spread):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
