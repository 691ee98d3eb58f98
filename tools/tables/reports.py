"""Tables that the report of any study gives."""

from __future__ import annotations

import tomllib
from statistics import mean, median

from gpae.report.tables import shown_reached
from tables.cells import in_time, markdown, percent
from tables.results import ROOT, evaluations, evaluations_by_env, load


def sweep(study):
    def shown(rates):
        return ", ".join(f"{rate:.0%}" for rate in rates)

    found, asked = evaluations(study), tomllib.loads((ROOT / "studies" / f"{study}.toml").read_text())
    rows = [
        [f"`{method}`", *(shown(rates) for _, _, rates in during[1::2]), shown(absolute)]
        for method, (during, absolute) in found.items()
    ]
    during, _ = next(iter(found.values()))
    (env,), episodes = asked["environments"], asked["evaluation"]["episodes"]
    first, last = asked["first_seed"], asked["first_seed"] + asked["seeds"] - 1
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}, one after the other"
    return [
        *markdown(["", *(f"{steps:,} steps" for steps, *_ in during[1::2]), "best parameters"], rows),
        "",
        f"Greedy win rate on `{env}`, {seeds}, {episodes} episodes each (best parameters: {10 * episodes}). "
        f"`gpae study studies/{study}.toml`, `gpae report runs/{study} -o results/{study}`.",
    ]


def scores(study, rates=("0.5", "0.8")):
    """Of each environment: final and absolute win rates, and the steps to some, of every method."""
    report, lines = load(f"{study}/report.json"), []
    columns = ["seeds", "final mean", "best parameters, mean", *(f"steps to {float(r):.0%}" for r in rates)]
    for block in report["environments"]:
        rows = []
        for entry in block["methods"]:
            reached = [entry["steps_to"][rate] for rate in rates]
            rows.append(
                [
                    f"`{entry['method']}`",
                    str(entry["n"]),
                    percent(entry["final"]["mean"]),
                    percent(entry["absolute"]["mean"]),
                    *map(shown_reached, reached),
                ]
            )
        lines += [*markdown([block["env"], *columns], rows), ""]
    few = report["environments"][0]["methods"][0]["n"]
    lines.append(
        f"Greedy win rates in %, with the 95 % bootstrap intervals of {few} seeds, which are few: they come out too "
        "narrow."
    )
    return lines


def side_by_side(study):
    """Of each environment and method: greedy and sampled scores at the end, means over seeds; win rates in %."""
    rows = []
    for block in load(f"{study}/report.json")["environments"]:
        rate = block["metric"] == "win_rate"
        for entry in block["methods"]:
            cells = (entry["final"]["mean"], entry["sampled"]["final"]["mean"], entry["sampled"]["absolute"]["mean"])
            shown = [percent(x) if rate else "{:.2f} [{:.2f}, {:.2f}]".format(*x) for x in cells]
            name = f"{block['env']}, {'win rate in %' if rate else 'return'}"
            rows.append([name, f"`{entry['method']}`", str(entry["n"]), *shown])
    columns = ["", "method", "seeds", "greedy, at the end", "sampled, at the end", "sampled, best parameters"]
    return markdown(columns, rows)


def searched(study):
    """Of each method of a tuning: the best and the middle score of its trials, and the settings that won."""
    rows = []
    for one in load(f"{study}/tuning.json")["methods"]:
        trials = sorted(one["trials"], key=lambda t: -t["score"])
        settings = trials[0]["settings"].items()
        won = ", ".join(f"{name} {x if isinstance(x, str) else format(x, '.2g')}" for name, x in settings)
        middle = median(t["score"] for t in trials)
        best = f"{trials[0]['score']:.3f}"
        rows.append([one["env"], f"`{one['method']}`", str(len(trials)), best, f"{middle:.3f}", won])
    columns = ["", "method", "trials", "best sampled return", "the trials' median", "settings of the best"]
    return [*markdown(columns, rows), "", f"`gpae tune studies/{study}.toml`: results/{study}."]


def improvements(study, pairs):
    """Probabilities that one method beats another, environment by environment."""
    report = load(f"{study}/report.json")
    rows = []
    for env in report["environments"]:
        found = {(e["method"], e["over"]): e["probability"] for e in env["improvement"]}
        for better, than in pairs:
            if (better, than) in found:
                shown = "{:.2f} [{:.2f}, {:.2f}]".format(*found[better, than])
            elif (than, better) in found:
                value, low, high = found[than, better]
                shown = f"{1 - value:.2f} [{1 - high:.2f}, {1 - low:.2f}]"
            else:
                continue
            rows.append([env["env"], f"`{better}`", f"`{than}`", shown])
    return markdown(["", "probability that", "beats", "with its interval"], rows)


def differences(study, pairs):
    """Of pairs of methods: the difference of their means of the best parameters, and what a permutation test says."""
    rows = []
    for env in load(f"{study}/report.json")["environments"]:
        found = {(e["method"], e["over"]): (1, e) for e in env["improvement"]}
        found |= {(e["over"], e["method"]): (-1, e) for e in env["improvement"]}
        for better, than in pairs:
            sign, e = found[better, than]
            rows.append(
                [
                    f"`{better}`",
                    f"`{than}`",
                    f"{100 * sign * e['difference']:+.1f}",
                    f"{e['p']:.3f}",
                    f"{e['p_holm']:.2f}",
                ]
            )
    columns = ["", "over", "points of win rate, best parameters", "p, exact", f"Holm, of {len(found) // 2} pairs"]
    return markdown(columns, rows)


def made_again(study, others):
    """Mean win rates of the same study made several times; `others`: its folder -> what it is called."""
    here, there = evaluations_by_env(study), {name: evaluations_by_env(other) for other, name in others.items()}
    rows = []
    for key, (during, absolute) in here.items():
        again = [found[key] for found in there.values()]
        of_end = [during[-1][2], *(during[-1][2] for during, _ in again)]
        cells = (f"{mean(rates):.0%}" for rates in [*of_end, absolute, *(absolute for _, absolute in again)])
        rows.append([key[0], f"`{key[1]}`", *cells])
    return markdown(["", "method", "at the end", *others.values(), "best parameters", *others.values()], rows)


def costs(study):
    """Time and memory of each method, and what it had reached after a half and the whole of the fastest one's time."""
    rows, timing = [], load(f"{study}/report.json")["timing"]
    for env in dict.fromkeys(e["env"] for e in timing):
        here = [e for e in timing if e["env"] == env]
        shortest = min(e["seconds"] for e in here)
        found = evaluations(study, env)
        for e in here:
            during, _ = found[e["method"]]
            rows.append(
                [
                    env,
                    f"`{e['method']}`",
                    f"{e['seconds']:,.0f} s",
                    f"{e['steps_per_second']:,.0f}",
                    f"{e['peak_memory_mb']:,.0f} MB",
                    *(f"{in_time(during, limit)} ({limit:.0f} s)" for limit in (shortest / 2, shortest)),
                ]
            )
    columns = [
        "",
        "method",
        "time of all seeds",
        "steps/s",
        "peak memory",
        "in half the time of the fastest",
        "in its time",
    ]
    return markdown(columns, rows)
