"""Hard maps: trials of several methods that were drawn alike, and what the scale of the inputs decides."""

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
    "the state, scaled": ("mappo (scaled-state)", "gpae (scaled-state)"),
    "the state, all inputs scaled": ("mappo (normalised)", "gpae (normalised)"),
    "what the agent sees": ("ippo", "gpae-seen"),
    "what the agent sees, all inputs scaled": ("ippo (normalised)",),
}
"""What a critic is shown -> the method with V, and the one with EQ."""


def rates(study, env=None):
    """Of every method the greedy win rates of its seeds in %: means of what was seen while learning, and the best's."""
    drawn = {
        f"{name} ({setting})" if setting else name: 100 * np.array(found)
        for (name, setting), (found, _) in areas(study, env, metric="win_rate").items()
    }
    return drawn, {name: 100 * np.array(best) for name, (_, best) in evaluations(study, env).items()}


def said(tests):
    """Tests of win rates in words, corrected for their number."""
    corrected = holm({what: test.p for what, test in tests.items()})
    return "; ".join(
        f"{what} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[what])})"
        for what, test in tests.items()
    )


def of_critics():
    """3s_vs_5z: V or EQ, of the state, of the state scaled, or of what the agent sees. What decides?"""
    learning, best = rates("3s_vs_5z")
    rows = [
        [view, *(f"{scores[kind].mean():.1f}" if kind else "" for scores in (learning, best) for kind in pair)]
        for view, (pair) in ((view, (*pair, None)[:2]) for view, pair in VIEWS.items())
    ]
    state, scaled, normalised, seen, seen_normalised = VIEWS.values()
    both = [pair for pair in VIEWS.values() if len(pair) == 2]
    tests = {
        "what the agent sees instead of the state": exchanged(learning, seen, state),
        "the state scaled instead of as it is": exchanged(learning, scaled, state),
        "what the agents see scaled besides": exchanged(learning, normalised, scaled),
        "the same with IPPO, which sees nothing else": exchanged(learning, seen_normalised, seen[:1]),
        "what the agent sees instead of the scaled state": exchanged(learning, seen, scaled),
        "EQ instead of V, whatever is shown": exchanged(learning, [eq for _, eq in both], [v for v, _ in both]),
        "QMIX with all inputs scaled": exchanged(learning, ["qmix (normalised)"], ["qmix"]),
    }
    columns = [f"{name}, {time}" for time in ("while learning", "best parameters") for name in ("V", "EQ")]
    return [
        *markdown(["greedy win rate in %", *columns], rows),
        "",
        "Means of five seeds; while learning: of the twenty evaluations. While learning, by permutation tests in which "
        f"runs are exchanged within the other factor: {said(tests)}.",
    ]


def of_views():
    """The paper's other maps: MAPPO and GPAE with the state as it is and with all inputs scaled, and IPPO."""
    kinds = ["mappo", "mappo (normalised)", "gpae", "gpae (normalised)", "ippo"]
    rows, everywhere = [], {}
    for env in [block["env"] for block in load("maps-views/report.json")["environments"]]:
        here, best = ({**x, **y} for x, y in zip(rates("maps", env), rates("maps-views", env), strict=True))
        everywhere |= {f"{env} {kind}": scores for kind, scores in here.items()}
        rows.append([f"`{env}`", *(f"{here[kind].mean():.1f} ({best[kind].mean():.1f})" for kind in kinds)])
    envs = [row[0].strip("`") for row in rows]

    def test(one, other, where):
        return exchanged(everywhere, *([f"{env} {kind}" for env in where for kind in these] for these in (one, other)))

    both, scaled = ("mappo", "gpae"), ("mappo (normalised)", "gpae (normalised)")
    tests = {
        **{f"all inputs scaled on {env}": test(scaled, both, [env]) for env in envs},
        "on all maps together": test(scaled, both, envs),
        "IPPO instead of scaled MAPPO, all maps": test(("ippo",), scaled[:1], envs),
        "scaled GPAE instead of scaled MAPPO, all maps": test(scaled[1:], scaled[:1], envs),
    }
    return [
        *markdown(["greedy win rate in % while learning (of the best parameters)", *(f"`{k}`" for k in kinds)], rows),
        "",
        f"Five seeds. While learning, by permutation tests within map and method: {said(tests)}.",
    ]


def of_easy_map():
    """2s3z: the state as it is, scaled, and all inputs scaled."""
    learning, best = rates("2s3z-scale")
    views = {"the state": "{}", "the state, scaled": "{} (scaled-state)", "all inputs scaled": "{} (normalised)"}
    plain, scaled, normalised = ([name.format(x) for x in ("mappo", "gpae")] for name in views.values())
    rows = [
        [view, *(f"{scores[name.format(x)].mean():.1f}" for scores in (learning, best) for x in ("mappo", "gpae"))]
        for view, name in views.items()
    ]
    tests = {
        "the state scaled instead of as it is": exchanged(learning, scaled, plain),
        "all inputs scaled instead of none": exchanged(learning, normalised, plain),
    }
    columns = [f"{name}, {time}" for time in ("while learning", "best parameters") for name in ("`mappo`", "`gpae`")]
    return [
        *markdown(["smax/2s3z, greedy win rate in %", *columns], rows),
        "",
        f"Ten seeds. While learning, by permutation tests within the method: {said(tests)}.",
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
