"""Old experience in battles: GPAE beside MAPPO where it pays, and what corrects it."""

from __future__ import annotations

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, equal, exchanged, markdown, soon, tested
from tables.results import areas
from tables.scale import rates

STUDY = "3s_vs_5z-window"
AGAIN = "3s_vs_5z-window-again"
MORE = "3s_vs_5z-window-more"
PUBLISHED = "gpae (window)"

TRACES = {
    "gpae (window)": "double truncation, eta 1.05: the paper's",
    "gpae (none)": "none",
    "gpae (individual)": "individual truncation",
    "gpae (single)": "single truncation: eta ∞",
    "gpae (corrected)": "without the bootstrap's bias",
}
"""Methods, and what corrects their traces; the published form is what the others are held against."""

FORMS = {
    "gpae (window)": "GPAE, window",
    "gpae-state (window)": "its control, window",
    "mappo (window)": "MAPPO, window",
    "gpae (on-policy)": "GPAE, on-policy",
    "mappo (on-policy)": "MAPPO, on-policy",
}
ASKED = [
    ("gpae (window)", "mappo (window)"),
    ("gpae-state (window)", "mappo (window)"),
    ("gpae (window)", "gpae-state (window)"),
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("gpae (window)", "gpae (on-policy)"),
    ("mappo (window)", "mappo (on-policy)"),
    ("gpae (window)", "mappo (on-policy)"),
]


def _groups():
    """By seeds: the greedy win rates of every method while learning, and the steps to 90 %."""
    groups = {}
    for seeds, study in {"seeds 0 to 4": STUDY, "5 to 9": AGAIN, "10 to 19": MORE}.items():
        steps = {f"{m} ({s})": found for (m, s), (_, found) in areas(study, metric="win_rate").items()}
        groups[seeds] = rates(study)[0], steps
    return groups


def _all(groups, kind):
    return {
        name: np.concatenate([found[kind][name] for found in groups.values() if name in found[kind]]) for name in FORMS
    }


def window_rates():
    """Greedy win rates while learning on the window, of the ten seeds that were trained for it: MAPPO's, GPAE's."""
    found = rates(MORE)[0]
    return [found[name] / 100 for name in ("mappo (window)", PUBLISHED)]


def of_window():
    """GPAE, its control and MAPPO, on-policy and on a window: five seeds, five others, ten more, and all of them."""
    groups = _groups()
    together, steps = _all(groups, 0), _all(groups, 1)
    rows = []
    for name, what in FORMS.items():
        cells = [f"{found[name].mean():.1f}" if name in found else "" for found, _ in groups.values()]
        rows.append([what, *cells, f"{together[name].mean():.1f} ({len(together[name])} seeds)", soon([*steps[name]])])
    return markdown(["greedy win rate in %, while learning", *groups, "all", "steps to 90 %"], rows)


def of_window_pairs():
    """Who differs there: by the first five seeds, by others that were asked less, and by all."""
    groups = _groups()
    scores = {seeds: found for seeds, (found, _) in groups.items()} | {"all": _all(groups, 0)}
    rows = [[FORMS[a], FORMS[b]] for a, b in ASKED]
    for found in scores.values():
        asked = [(a, b) for a, b in ASKED if a in found and b in found]
        tests = {(a, b): tested(found[a] / 100, found[b] / 100) for a, b in asked}
        corrected = holm({pair: test.p for pair, test in tests.items()})
        for row, pair in zip(rows, ASKED, strict=True):
            if pair not in tests:
                row.append("")
                continue
            holms = f", Holm's {equal(corrected[pair])}" if len(tests) > 1 else ""
            row.append(f"{100 * tests[pair].difference:+.1f} (p {equal(tests[pair].p)}{holms})")
    return markdown(["", "over", *(f"points, {seeds}" for seeds in scores)], rows)


def of_traces():
    """What the correction of the traces is worth there: each beside the published one, tested while learning."""
    learning, best = rates(STUDY)
    tests = {name: exchanged(learning, [name], [PUBLISHED]) for name in TRACES if name != PUBLISHED}
    corrected = holm({name: test.p for name, test in tests.items()})
    rows = []
    for name, what in TRACES.items():
        row = [what, f"{learning[name].mean():.1f}", f"{best[name].mean():.1f}"]
        if name in tests:
            row += [f"{tests[name].difference:+.1f}", chance(tests[name].p), chance(corrected[name])]
        rows.append([*row, *[""] * (6 - len(row))])
    tested = ["points over the paper's, while learning", "p, exact", f"Holm, of {len(tests)}"]
    return markdown(["GPAE's traces: greedy win rate in %", "while learning", "best parameters", *tested], rows)
