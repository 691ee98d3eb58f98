"""Two hard maps: trials of several methods that were drawn alike, and what decides on the second of them."""

from __future__ import annotations

from itertools import chain
from statistics import mean

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, equal, exchanged, markdown
from tables.results import areas, evaluations, load

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


VIEWS = {
    "the state": ("mappo", "gpae"),
    "the state, normalised": ("mappo (normalised)", "gpae (normalised)"),
    "what the agent sees": ("ippo", "gpae-seen"),
}
"""What a critic is shown -> the method with V and the one with EQ."""


def of_critics():
    """3s_vs_5z: V or EQ, of the state, of the state normalised, or of what the agent sees. What decides?"""
    kinds = [kind for pair in VIEWS.values() for kind in pair]
    found, drawn = evaluations("3s_vs_5z"), areas("3s_vs_5z", metric="win_rate")
    drawn = {f"{name} ({setting})" if setting else name: rates for (name, setting), (rates, _) in drawn.items()}
    learning = {kind: 100 * np.array(drawn[kind]) for kind in kinds}
    best = {kind: 100 * np.array(found[kind][1]) for kind in kinds}
    rows = [
        [view, *(f"{scores[kind].mean():.1f}" for scores in (learning, best) for kind in pair)]
        for view, pair in VIEWS.items()
    ]
    state, normalised, seen = VIEWS.values()
    tests = {
        "what the agent sees instead of the state": exchanged(learning, seen, state),
        "the state normalised instead of as it is": exchanged(learning, normalised, state),
        "what the agent sees instead of the normalised state": exchanged(learning, seen, normalised),
        "EQ instead of V, whatever is shown": exchanged(
            learning, [pair[1] for pair in VIEWS.values()], [pair[0] for pair in VIEWS.values()]
        ),
    }
    corrected = holm({what: test.p for what, test in tests.items()})
    says = [
        f"{what} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[what])})"
        for what, test in tests.items()
    ]
    columns = [f"{name}, {time}" for time in ("while learning", "best parameters") for name in ("V", "EQ")]
    return [
        *markdown(["greedy win rate in %", *columns], rows),
        "",
        "Means of five seeds; while learning: of the twenty evaluations. While learning, by permutation tests in which "
        f"runs are exchanged within the other factor: {'; '.join(says)}.",
    ]


def of_scale():
    """5m_vs_6m: MAPPO with the state as it is, and normalised."""
    kinds = ("as-it-is", "normalised")
    found = evaluations("5m_vs_6m-scale")
    measures = {
        "sampled return, while learning": {k: np.array(areas("5m_vs_6m-scale")["mappo", k][0]) for k in kinds},
        "greedy win rate in %, best parameters": {k: 100 * np.array(found[f"mappo ({k})"][1]) for k in kinds},
    }
    rows = []
    for measure, scores in measures.items():
        test = exchanged(scores, ["normalised"], ["as-it-is"])
        rows.append([measure, *(f"{scores[k].mean():.3g}" for k in kinds), f"{test.difference:+.2g}", chance(test.p)])
    return markdown(["MAPPO on smax/5m_vs_6m, five seeds", "as it is", "normalised", "difference", "p, exact"], rows)
