"""The paper's map over the paper's 10 M steps, with normalised inputs: nine trainings, and what comes after them."""

from __future__ import annotations

from statistics import mean

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, equal, exchanged, markdown
from tables.paper_map import METHODS, kept_evaluations, last_metrics
from tables.results import evaluated, load, made_with

LONG = {
    "mappo": "mappo-on-policy",
    "gpae": "gpae-on-policy",
    "ippo": "ippo-on-policy",
    "mappo, window": "mappo-window",
    "gpae, window": "gpae-window",
    "gpae-state, window": "gpae-state-window",
    "gpae, window, corrected": "gpae-window-corrected",
    "mappo, SMAX 0.2": "mappo-todays-rules",
    "gpae, SMAX 0.2": "gpae-todays-rules",
}
"""Trainings of `studies/5m_vs_6m-long.toml` -> where they are kept."""

LONG_PAIRS = [
    ("gpae", "mappo"),
    ("ippo", "mappo"),
    ("gpae, window", "mappo, window"),
    ("gpae-state, window", "mappo, window"),
    ("gpae, window, corrected", "mappo, window"),
    ("gpae, SMAX 0.2", "mappo, SMAX 0.2"),
    ("mappo, window", "mappo"),
    ("gpae, window", "gpae"),
    ("mappo, SMAX 0.2", "mappo"),
    ("gpae, SMAX 0.2", "gpae"),
]

LONG_PLACES = [["mappo", "mappo, window", "mappo, SMAX 0.2"], ["gpae", "gpae, window", "gpae, SMAX 0.2"]]
"""Where the study has MAPPO beside GPAE."""

TEN = 10
"""Evaluations, 2 M of 10 M steps."""


def _greedy(seeds, part=slice(None), key="win_rate"):
    """The mean win rate of some evaluations, in percent, of each seed."""
    return np.array([100 * mean(mean(e[key]) for e in seed[part]) for seed in seeds])


def _long():
    return {name: kept_evaluations(f"5m_vs_6m-long/runs/{folder}") for name, folder in LONG.items()}


def long_rates():
    """Greedy win rates with normalised inputs over 10 M steps, of each seed: MAPPO's, GPAE's."""
    kept = _long()
    return [_greedy(kept[name]) / 100 for name in ("mappo", "gpae")]


def of_long():
    """10 M steps with normalised inputs: greedy win rates after so many, while learning, and at the end."""
    rows, after = [], (2, 4, 6, 8, 10)
    for name, seeds in _long().items():
        first, *rest = name.split(", ")
        near = (
            mean(mean(min(seed, key=lambda e: abs(e["step_count"] - n * 1e6))["win_rate"]) for seed in seeds)
            for n in after
        )
        late = _greedy(seeds, slice(-TEN, None))
        cells = [_greedy(seeds).mean(), late.mean(), _greedy(seeds, slice(-TEN, None), "sampled_win_rate").mean()]
        whole, greedy, sampled = (f"{x:.1f}" for x in cells)
        spread = f"{greedy} ({late.min():.1f} to {late.max():.1f})"
        rows.append([", ".join([f"`{first}`", *rest]), *(f"{100 * x:.1f}" for x in near), whole, spread, sampled])
    columns = ["greedy win rate in %", *(f"{n} M" for n in after), "while learning"]
    last = ["last 2 M steps (least and most of the seeds)", "sampled, last 2 M steps"]
    return markdown([*columns, *last], rows)


def long_made():
    """How those trainings were made: two on CPUs, the others on a GPU."""
    made = []
    for folder, hardware in (("mappo-on-policy", "in several sittings"), ("mappo-window", "three or four at once")):
        versions = load(f"5m_vs_6m-long/runs/{folder}/versions.json")
        machine = "one CPU core each, others beside" if versions["platform"] == "cpu" else "one H200, 16 CPU cores"
        made.append(made_with(versions, f"{machine}, {hardware}"))
    command = "`gpae study studies/5m_vs_6m-long.toml`, `gpae report runs/5m_vs_6m-long -o results/5m_vs_6m-long`"
    return ["", f"{command}; `mappo` and `gpae` on-policy by the paper's rules: {made[0]}; the others: {made[1]}."]


def of_long_pairs():
    """Who differs from whom there: exact tests of all evaluations, and of the last ten."""
    kept = _long()
    measures = {"while learning": slice(None), "last 2 M steps": slice(-TEN, None)}
    rows, columns = [[f"`{a}`", f"`{b}`"] for a, b in LONG_PAIRS], ["", "over"]
    for what, part in measures.items():
        rates = {name: _greedy(seeds, part) for name, seeds in kept.items()}
        tests = {pair: exchanged(rates, [pair[0]], [pair[1]]) for pair in LONG_PAIRS}
        corrected = holm({pair: test.p for pair, test in tests.items()})
        columns += [f"points, {what}", "p, exact", f"Holm, of {len(LONG_PAIRS)}"]
        for row, pair in zip(rows, LONG_PAIRS, strict=True):
            row += [f"{tests[pair].difference:+.1f}", chance(tests[pair].p), chance(corrected[pair])]
    mappo, gpae = LONG_PLACES
    parts = {"the first 2 M steps": slice(TEN), "all 10 M": slice(None), "the last 2 M": slice(-TEN, None)}
    tests = {}
    for what, part in parts.items():
        rates = {name: _greedy(seeds, part) for name, seeds in kept.items()}
        tests[f"GPAE instead of MAPPO in {what}"] = exchanged(rates, gpae, mappo)
        if what != "the first 2 M steps":
            tests[f"a window instead of none in {what}"] = exchanged(
                rates, ["mappo, window", "gpae, window"], ["mappo", "gpae"]
            )
            tests[f"today's rules instead of the paper's in {what}"] = exchanged(
                rates, ["mappo, SMAX 0.2", "gpae, SMAX 0.2"], ["mappo", "gpae"]
            )
    corrected = holm({what: test.p for what, test in tests.items()})
    says = (
        f"{what} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[what])})"
        for what, test in tests.items()
    )
    together = "Together, runs exchanged within what is otherwise alike (GPAE beside MAPPO in three places)"
    return [*markdown(columns, rows), "", f"{together}: {'; '.join(says)}."]


def of_inputs_there():
    """By the same weight of entropy, from 3 to 5 M steps: inputs normalised and as they are (wider networks)."""
    kept = _long()
    rates = {
        (method, kind): np.array(
            [100 * mean(mean(e["win_rate"]) for e in seed if 3.1e6 < e["step_count"] < 5.15e6) for seed in seeds]
        )
        for method in METHODS
        for kind, seeds in (("normalised", kept[method]), ("plain", kept_evaluations(f"entropy/runs/{method}-0.03")))
    }
    rows = []
    for method in METHODS:
        test = exchanged(rates, [(method, "normalised")], [(method, "plain")])
        means = (f"{rates[method, kind].mean():.1f}" for kind in ("normalised", "plain"))
        rows.append([f"`{method}`", *means, f"{test.difference:+.1f}", chance(test.p)])
    kinds = ["normalised, networks of 64", "as they are, networks of 128"]
    return markdown(["greedy win rate in %, mean from 3 to 5 M steps", *kinds, "difference", "p, exact"], rows)


def of_falls():
    """A million steps more, in which the weight of entropy falls to nothing: greedy and sampled, and the entropy."""
    kinds, after, rates = {"greedy": "win_rate", "sampled": "sampled_win_rate"}, {}, {}
    for row in evaluated("5m_vs_6m-falls"):
        if row["kind"] == "evaluation":
            after.setdefault(row["algorithm"], {}).setdefault(row["seed"], []).append(row)
    rows = []
    for method, before in _long().items():
        if method not in after:
            continue
        for kind, key in kinds.items():
            rates[kind, method, "before"] = _greedy(before, slice(-TEN, None), key)
            late = [100 * mean(float(row[key]) for row in seed[-3:]) for seed in after[method].values()]
            rates[kind, method, "after"] = np.array(late)
        for when, what, folder in (
            ("before", "the last 2 M of 10 M steps", f"5m_vs_6m-long/runs/{LONG[method]}"),
            ("after", "after a million more", f"5m_vs_6m-falls/runs/{method}-falls"),
        ):
            cells = (f"{rates[kind, method, when].mean():.1f}" for kind in kinds)
            entropy = mean(row["entropy"] for row in last_metrics(folder))
            rows.append([f"`{method}`, {what}", *cells, f"{entropy:.2f}"])
    tests = {
        kind: exchanged(rates, *([(kind, method, when) for method in after] for when in ("after", "before")))
        for kind in kinds
    }
    corrected = holm({kind: test.p for kind, test in tests.items()})
    says = (
        f"{kind} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[kind])})"
        for kind, test in tests.items()
    )
    return [
        *markdown(["win rate in %", *kinds, "entropy at the end"], rows),
        "",
        "Means of five seeds; after the million of the last three evaluations. After it instead of before, both methods"
        f" together: {'; '.join(says)}.",
    ]
