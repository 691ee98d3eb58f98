"""Two hard maps: trials of several methods that were drawn alike."""

from __future__ import annotations

from itertools import chain
from statistics import mean

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, equal, markdown
from tables.results import load

MAPS = ("5m_vs_6m", "3s_vs_5z")
"""Of `studies/tune-MAP.toml`."""

TWINS = [
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("ippo (on-policy)", "mappo (on-policy)"),
    ("gpae (window)", "mappo (window)"),
    ("gpae (window)", "gpae (on-policy)"),
    ("mappo (window)", "mappo (on-policy)"),
    ("qmix (replay)", "vdn (replay)"),
]


def trials_of(name):
    """Method -> its trials, by their number."""
    return {m["method"]: m["trials"] for m in load(f"{name}/tuning.json")["methods"]}


def ahead(trials, one, other):
    """By how much each trial of a method scores more than the other's of the same draw."""
    pairs = list(zip(trials[one], trials[other], strict=True))
    for x, y in pairs:
        assert all(x["settings"].get(name, value) == value for name, value in y["settings"].items())
    return [x["score"] - y["score"] for x, y in pairs]


def flipped(differences):
    """The two-sided p-value of their sum, exact: every way to exchange the two of a pair is as likely."""
    sums = np.zeros(1)
    for x in differences:
        sums = np.concatenate([sums - abs(x), sums + abs(x)])
    return float(np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-9))


def twins():
    """Of the GPU's trials on 5m_vs_6m: GPAE and MAPPO side by side."""
    trials, rows = trials_of("tune-5m_vs_6m-gpu"), []
    for setting in ("on-policy", "window"):
        names = f"gpae ({setting})", f"mappo ({setting})"
        more = ahead(trials, *names)
        rows.append(
            [
                setting,
                str(len(more)),
                *(f"{max(trial['score'] for trial in trials[name]):.3f}" for name in names),
                f"{mean(more):+.4f}",
                f"{sum(x > 0 for x in more)} of {len(more)}",
                f"{flipped(more):.2f}",
            ]
        )
    columns = ["", "trials of each", "best of GPAE", "best of MAPPO", "GPAE over MAPPO, mean", "GPAE ahead in", "p"]
    return markdown(columns, rows)


def equal_pairs():
    """Pairs of methods, draw by draw, on each map and on both."""
    of = {place: trials_of(f"tune-{place}") for place in MAPS}
    more = {pair: [ahead(of[place], *pair) for place in MAPS] for pair in TWINS}
    p = {pair: flipped(list(chain(*found))) for pair, found in more.items()}
    corrected, rows = holm(p), []
    for (one, other), found in more.items():
        both = list(chain(*found))
        cells = [f"{mean(x):+.3f}, p {equal(flipped(x))}" for x in found]
        cells += [f"{mean(both):+.3f}", f"{sum(x > 0 for x in both)} of {len(both)}", chance(p[one, other])]
        rows.append([f"`{one}`", f"`{other}`", *cells, chance(corrected[one, other])])
    return markdown(["", "over", *MAPS, "both, mean", "ahead in", "p", f"Holm, of {len(TWINS)}"], rows)
