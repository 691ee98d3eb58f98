"""The paper's map, 5m_vs_6m: what decides there."""

from __future__ import annotations

import gzip
import itertools
import json
from statistics import geometric_mean, mean, median

import numpy as np

from gpae.report.permutation import holm
from tables.cells import equal, exchanged, markdown, tested
from tables.reports import differences
from tables.results import ROOT, areas, evaluations, load, made_with

METHODS = ("gpae", "mappo")

SWAPPED = [
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("mappo (swapped)", "mappo (on-policy)"),
    ("gpae (on-policy)", "mappo (swapped)"),
    ("gpae (on-policy)", "gpae (swapped)"),
    ("gpae (swapped)", "mappo (on-policy)"),
    ("gpae (window)", "mappo (window)"),
    ("gpae (window)", "gpae (swapped)"),
    ("mappo (window)", "mappo (on-policy)"),
]

WEIGHTS = ("0.00066", "0.0155", "0.03", "0.06")
"""Of the entropy bonus, in `studies/entropy.toml`."""

EQUAL = [
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("ippo (on-policy)", "mappo (on-policy)"),
    ("ippo (on-policy)", "gpae (on-policy)"),
]


def kept_evaluations(folder):
    """The evaluations of a run that is kept below results: one list for each seed."""
    with gzip.open(ROOT / "results" / folder / "evaluations.json.gz", "rt") as file:
        ((_, methods),) = next(iter(json.load(file).values())).items()
    ((_, seeds),) = methods.items()
    return [[e for name, e in found.items() if name.startswith("step_")] for found in seeds.values()]


def last_metrics(folder):
    """The metrics of the last update of a run that is kept below results, of each seed."""
    with gzip.open(ROOT / "results" / folder / "metrics.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["update"] == rows[-1]["update"]]


def unfinished(folder):
    """How far the trainings of a folder came: their last evaluations, and the metrics of their last update."""
    lines = []
    for path in sorted((ROOT / "results" / folder).iterdir()):
        config = json.loads((path / "config.json").read_text())
        last = [seed[-1] for seed in kept_evaluations(path.relative_to(ROOT / "results"))]
        cells = [
            f"`{path.name}`",
            str(len(last)),
            f"{max(e['step_count'] for e in last):,} of {config['total_steps']:,}",
        ]
        for key in ("win_rate", "sampled_win_rate"):
            rates = [mean(e[key]) for e in last]
            cells.append(f"{mean(rates):.1%} ({min(rates):.1%} to {max(rates):.1%})")
        rows = last_metrics(path.relative_to(ROOT / "results"))
        cells += [f"{mean(row['entropy'] for row in rows):.3f}", f"{mean(row['approx_kl'] for row in rows):.0e}"]
        lines.append(cells)
    columns = ("method", "seeds", "steps", "greedy win rate, least and most of the seeds", "sampled", "entropy", "KL")
    return markdown(list(columns), lines)


def method_or_settings():
    """Two methods, each with its own settings and with the other's: what of the difference is the method's?"""
    found, drawn = evaluations("5m_vs_6m", "smax/5m_vs_6m"), areas("5m_vs_6m", "smax/5m_vs_6m", "win_rate")
    lines = []
    for measure in ("best parameters on new episodes", "greedy win rate while learning, mean of the evaluations"):
        rates = {}
        for method, of in itertools.product(METHODS, METHODS):
            setting = "on-policy" if method == of else "swapped"
            best, during = found[f"{method} ({setting})"][1], drawn[method, setting][0]
            rates[method, of] = 100 * np.array(best if measure.startswith("best") else during)
        rows = []
        for of in METHODS:
            cells = [f"{rates[m, of].mean():.1f} %" for m in METHODS]
            rows.append([f"with the settings that won the trials of {of.upper()}", *cells])
        lines += ["", *markdown([f"{measure}, mean of five seeds", "GPAE", "MAPPO"], rows)]
        for what, one, other in (
            ("GPAE instead of MAPPO", [("gpae", of) for of in METHODS], [("mappo", of) for of in METHODS]),
            ("GPAE's settings instead of MAPPO's", [(m, "gpae") for m in METHODS], [(m, "mappo") for m in METHODS]),
        ):
            tested = exchanged(rates, one, other)
            assert tested.exact
            lines += ["", f"{what}: {tested.difference:+.1f} points, p {equal(tested.p)}."]
    return lines[1:]


def noise_of_kept():
    """From how many steps there is signal with the policies that 5m_vs_6m's trainings ended with."""
    rows = []
    for name in ("gpae", "mappo"):
        found = load(f"gradient-5m_vs_6m-{name}.json")
        (kinds,) = found["kinds"].values()
        for kind, x in kinds.items():
            low, high = (None if end is None else f"{end:,.0f}" for end in x["interval"])
            steps = "no signal found" if x["steps"] is None else f"{x['steps']:,.0f}"
            rows.append([f"`5m_vs_6m-{name}`", kind, steps, f"more than {low}" if high is None else f"{low} to {high}"])
    made = made_with(found["versions"], "one CPU core, others beside")
    command = (
        f"gpae inspect gradient results/policies/5m_vs_6m-gpae --updates {found['updates']} --draws {found['draws']}"
    )
    columns = ["policy", "advantages", "steps for as much signal as noise", "95 %"]
    return [
        *markdown(columns, rows),
        "",
        f"`{command} --json results/gradient-5m_vs_6m-gpae.json`, and `mappo`; {made}.",
    ]


def of_entropy():
    """By the weight of the entropy bonus: how both methods end; and what of it is the weight's, and the method's."""
    found = evaluations("entropy")
    rows, best = [], {}
    for weight in WEIGHTS:
        cells, entropies = [weight], []
        for method in METHODS:
            last = [seed[-1] for seed in kept_evaluations(f"entropy/runs/{method}-{weight}")]
            best[method, weight] = 100 * np.array(found[f"{method} ({weight})"][1])
            rates = [100 * mean(mean(e[key]) for e in last) for key in ("win_rate", "sampled_win_rate")]
            cells.append(f"{rates[0]:.1f}, {rates[1]:.1f}")
            cells.append(f"{best[method, weight].mean():.1f}")
            entropies += [row["entropy"] for row in last_metrics(f"entropy/runs/{method}-{weight}")]
        rows.append([*cells, f"{mean(entropies):.2f}"])
    columns = ["weight"]
    for method in METHODS:
        columns += [f"{method.upper()}: greedy and sampled at the end", "best parameters"]

    tests = {
        (weight, "0.03"): exchanged(best, [(m, "0.03") for m in METHODS], [(m, weight) for m in METHODS])
        for weight in WEIGHTS
        if weight != "0.03"
    }
    corrected = holm({key: test.p for key, test in tests.items()})
    says = [
        f".03 instead of {key[0].removeprefix('0')}: {test.difference:+.1f} points, exact p {equal(test.p)}, "
        f"Holm's {equal(corrected[key])}"
        for key, test in tests.items()
    ]
    whole = exchanged(best, *([(m, weight) for weight in WEIGHTS] for m in METHODS))
    return [
        *markdown([*columns, "entropy at the end"], rows),
        "",
        f"Win rates in %, means of five seeds. Best parameters, both methods together: {'; '.join(says)}. "
        f"GPAE instead of MAPPO, all four weights: {whole.difference:+.1f} points, p {equal(whole.p)}.",
    ]


def of_equal():
    """With equal settings: the pairs at the end, and while learning."""
    drawn = areas("5m_vs_6m-methods", metric="win_rate")
    tests = {}
    for one, other in EQUAL:
        of = (drawn[method.removesuffix(" (on-policy)"), "on-policy"][0] for method in (one, other))
        tests[one, other] = tested(*(100 * np.array(rates) for rates in of))
    corrected = holm({pair: test.p for pair, test in tests.items()})
    says = [
        f"`{one}` over `{other}` {test.difference:+.1f} points (p {equal(test.p)}, Holm's "
        f"{equal(corrected[one, other])})"
        for (one, other), test in tests.items()
    ]
    return [
        *differences("5m_vs_6m-methods", EQUAL),
        "",
        f"While learning, the greedy win rate's mean over the evaluations: {'; '.join(says)}.",
    ]


def of_windows():
    """A window of two beside on-policy, at the best weight of entropy: after equal steps, and as far as they came."""
    rows, halves, whole = [], {}, {}
    for method, setting in itertools.product(METHODS, ("on-policy", "window")):
        folder = "entropy/runs/{}-0.03" if setting == "on-policy" else "5m_vs_6m-methods/runs/{}-window"
        seeds = kept_evaluations(folder.format(method))
        until = [[e for e in seed if e["step_count"] < 5.2e6] for seed in seeds]
        assert {len(seed) for seed in until} == {10}
        halves[method, setting] = np.array([100 * mean(mean(e["win_rate"]) for e in seed) for seed in until])
        whole[method, setting] = np.array([100 * mean(mean(e["win_rate"]) for e in seed[:15]) for seed in seeds])
        row = [f"`{method}`, {setting}"]
        for key in ("win_rate", "sampled_win_rate"):
            row.append(f"{100 * mean(mean(seed[-1][key]) for seed in until):.1f}")
        row.append(f"{halves[method, setting].mean():.1f}")
        last = [seed[14 if setting == "window" else -1] for seed in seeds]
        steps = f" ({last[0]['step_count'] / 1e6:.1f} M)"
        greedy, sampled = (100 * mean(mean(e[key]) for e in last) for key in ("win_rate", "sampled_win_rate"))
        row.append(f"{greedy:.1f}, {sampled:.1f}{steps}" if setting == "window" else "")
        rows.append(row)

    window = exchanged(halves, *([(m, setting) for m in METHODS] for setting in ("window", "on-policy")))
    method = exchanged(whole, *([(m, "window")] for m in METHODS))
    columns = ["", "greedy after 5 M", "sampled", "greedy, mean of ten evaluations", "later: greedy, sampled"]
    return [
        *markdown(columns, rows),
        "",
        f"Win rates in %, means of five seeds. A window instead of on-policy, both methods, mean of ten evaluations: "
        f"{window.difference:+.1f} points, exact p {equal(window.p)}. On the window GPAE instead of MAPPO, mean of "
        f"fifteen evaluations: {method.difference:+.1f} points, p {equal(method.p)}.",
    ]


def noise_by_entropy():
    """By weight of entropy: from how many steps there is as much signal as noise after 5 M steps, and EQ beside it."""
    rows = []
    for weight in WEIGHTS:
        row = [weight]
        for method in ("mappo", "gpae"):
            found = load(f"gradient-entropy/{method}-{weight}.json")
            first, *others = zip(*(kinds.values() for kinds in found["kinds"].values()), strict=True)
            steps = sorted(float("inf") if x["steps"] is None else x["steps"] for x in first)
            sure = sum(x["interval"][1] is not None for x in first)
            shown = ("none found" if x == float("inf") else f"{x:,.0f}" for x in (median(steps), steps[0], steps[-1]))
            row += ["{} ({} to {})".format(*shown), f"{sure} of {len(first)}"]
            for kind in others:
                times = [x["times"] for x in kind if x["times"] is not None]
                row.append(f"{geometric_mean(times):.2f} ({min(times):.2f} to {max(times):.2f})" if times else "")
        rows.append(row)
    columns = ["weight"]
    for kind in ("MAPPO", "GPAE's critic, V(s)"):
        columns += [f"{kind}: steps, median (least to most)", "seeds with a signal beyond chance"]
    made = made_with(found["versions"], "one CPU core, others beside")
    asked = f"--updates {found['updates']} --draws {found['draws']} --seeds 5"
    command = f"gpae inspect gradient runs/entropy/smax-5m_vs_6m-gpae-0.03 {asked}"
    return [
        *markdown([*columns, "published EQ: times", "expected: times"], rows),
        "",
        f"`{command} --json results/gradient-entropy/gpae-0.03.json`, and the others; {made}.",
    ]
