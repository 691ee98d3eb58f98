"""Teams of agents with a task each: methods, windows, traces."""

from __future__ import annotations

import itertools
from statistics import mean

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, markdown, soon, tested
from tables.results import ROOT, areas, evaluated, load, made_with

LAMBDAS = {"near": ".5", "far": ".95"}

STEPS = [
    *((f"passes{b}", "on-policy") for b in (2, 4, 8)),
    *((f"small{b}", "on-policy") for b in (2, 4, 8)),
    *((f"window{b}-equal", "on-policy") for b in (2, 4)),
    *((f"window{b}", f"small{b}") for b in (2, 4, 8)),
    *((f"window{b}", f"passes{b}") for b in (2, 4, 8)),
]


def ladder():
    """What the methods had drawn while learning with the most agents, beside MAPPO."""
    lines = (ROOT / "results" / "credit-ladder" / "ladder.md").read_text().splitlines()
    first = max(i for i, line in enumerate(lines) if line.startswith("| N = "))
    run = load("credit-ladder/ladder.json")["runs"][0]
    return [
        *lines[first:],
        "",
        "`gpae study studies/credit-ladder.toml`, `python tools/credit_ladder.py runs/credit-ladder`; "
        + made_with(run["versions"], "2 CPU cores")
        + ".",
    ]


def steps_of_ladder():
    """Steps to the goal of every method, by the size of the team."""
    lines = (ROOT / "results" / "credit-ladder" / "ladder.md").read_text().splitlines()
    return lines[: lines.index("")]


def ladder_steps():
    """Gradient steps without old experience, old experience without more gradient steps, and both."""
    found = areas("ladder-steps")
    rows = []
    for b in (1, 2, 4, 8):
        more = {f"passes{b}": (1, b), f"small{b}": (b, b), f"window{b}": (b, b), f"window{b}-equal": (b, 1)}
        for setting, (updates, steps) in ({"on-policy": (1, 1)} if b == 1 else more).items():
            if ("mappo", setting) not in found:
                continue
            cells = []
            for algorithm in ("gpae", "mappo"):
                drawn, when = found[algorithm, setting]
                cells += [f"{mean(drawn):.3f}", soon(when)]
            old = b if setting.startswith("window") else 1
            rows.append([f"`{setting}`", str(old), str(updates), str(steps), *cells])
    columns = ["", "window", "updates, times", "gradient steps, times"]
    columns += ["GPAE: return", "steps to 90 %", "MAPPO: return", "steps to 90 %"]
    return markdown(columns, rows)


def ladder_steps_pairs():
    """What exact permutation tests say of old experience where the gradient steps are as many, and the reverse."""
    found = areas("ladder-steps")
    pairs = [((name, better), (name, than)) for better, than in STEPS for name in ("gpae", "mappo")]
    pairs += [(("gpae", setting), ("mappo", setting)) for setting in ("on-policy", "window2", "window4", "window8")]
    tests = {pair: tested(*(found[side][0] for side in pair)) for pair in pairs}
    corrected = holm({pair: test.p for pair, test in tests.items()})
    rows = [
        [
            *("`{} ({})`".format(*side) for side in pair),
            f"{mean(found[pair[0]][0]) - mean(found[pair[1]][0]):+.3f}",
            *map(chance, (tests[pair].p, corrected[pair])),
        ]
        for pair in pairs
    ]
    return markdown(["", "over", "return by", "p, exact", f"Holm, of {len(pairs)} pairs"], rows)


def ladder_traces():
    """What old experience brings with as few gradient steps as without it, and with its own, by method and lambda."""
    found = areas("ladder-traces")
    tests, rows = {}, []
    for algorithm in ("gpae", "gpae-state", "mappo"):
        for how, value in (("near", ".5"), ("far", ".95")):
            fresh, equal, old = (found[algorithm, how + kind][0] for kind in ("", "-window4-equal", "-window4"))
            tests[algorithm, value] = tested(equal, fresh).p
            numbers = [f"{mean(fresh):.3f}", f"{mean(equal):.3f}", f"{mean(equal) - mean(fresh):+.3f}"]
            rows.append([f"`{algorithm}`", value, *numbers, f"{mean(old):.3f}"])
    for row, (pair, p) in zip(rows, holm(tests).items(), strict=True):
        row[-1:-1] = map(chance, (tests[pair], p))
    columns = ["", "lambda", "without", "window of 4, as many gradient steps", "more by", "p, exact"]
    return markdown([*columns, f"Holm, of {len(rows)}", "window of 4, four times as many"], rows)


def ladder_traces_pairs():
    """GPAE, its control and MAPPO on windows, each with the lambda that does better there."""
    found = areas("ladder-traces")
    best = {
        name: max((f"{how}-window4" for how in ("near", "far")), key=lambda setting: mean(found[name, setting][0]))
        for name in ("gpae", "gpae-state", "mappo")
    }
    drawn = {name: np.array(found[name, setting][0]) for name, setting in best.items()}
    pairs = [("gpae", "mappo"), ("gpae-state", "mappo"), ("gpae", "gpae-state")]
    tests = {pair: tested(*(drawn[name] for name in pair)).p for pair in pairs}
    rows = [
        [
            *(f"`{name} ({best[name]})`" for name in pair),
            f"{(drawn[pair[0]].mean() - drawn[pair[1]].mean()):+.3f}",
            *map(chance, (tests[pair], p)),
        ]
        for pair, p in holm(tests).items()
    ]
    return markdown(["", "over", "return by", "p, exact", f"Holm, of {len(pairs)}"], rows)


def ladder_windows():
    """By team size and window: GPAE and its control beside MAPPO, each with the lambda that does better there."""
    tests, found = {}, {}
    for agents, window in itertools.product((2, 8, 32), (2, 4, 8)):
        here = areas("ladder-windows", f"teamwork/{agents}")
        methods = ("gpae", "gpae-state", "mappo")
        tried = [how for how in LAMBDAS if all((name, f"{how}-window{window}") in here for name in methods)]
        if not tried:
            continue
        for name in methods:
            drawn = {how: here[name, f"{how}-window{window}"][0] for how in tried}
            how = max(drawn, key=lambda how, drawn=drawn: mean(drawn[how]))
            only = "" if len(tried) > 1 else " alone"
            found[agents, window, name] = (LAMBDAS[how] + only, np.array(drawn[how]))
        for name in methods[:2]:
            tests[agents, window, name] = tested(*(found[agents, window, x][1] for x in (name, "mappo")))
    corrected = holm({key: test.p for key, test in tests.items()})
    rows = []
    for key, test in tests.items():
        agents, window, name = key
        (value, drawn), (theirs, reference) = found[key], found[agents, window, "mappo"]
        returns = [f"{drawn.mean():.3f} ({value})", f"{reference.mean():.3f} ({theirs})", f"{test.difference:+.3f}"]
        rows.append([str(agents), str(window), f"`{name}`", *returns, chance(test.p), chance(corrected[key])])
    columns = ["agents", "window", "", "return (lambda)", "MAPPO's", "more by", "p, exact", f"Holm, of {len(tests)}"]
    return markdown(columns, rows)


def ladder_eta():
    """Each trace, from the ladder's runs, and each eta: returns on windows, and tests against dt with eta 1.05."""
    traces, tests, shown = {}, {}, {}
    for run in load("credit-ladder/ladder.json")["runs"]:
        if run["config"]["env"] == "teamwork/32" and run["config"]["algorithm"] == "gpae":
            traces[run["setting"]] = run["areas"]
    etas = {setting: drawn for (name, setting), (drawn, _) in areas("ladder-eta").items() if name == "gpae"}
    names = {"-st": "`st`", "-it": "`it`", "-none": "`none`", "-corrected": "`others`, resampled bootstrap"}
    values = {"1.00": "1_00", "1.02": "1_02", "1.10": "1_10", "1.15": "1_15", "1.50": "1_50"}
    rows = {"": (traces, "", "`dt`, eta 1.05")} | {x: (traces, "", name) for x, name in names.items()}
    rows |= {"-eta1_05": (etas, "-eta1_05", "`dt`, eta 1.05, again")}
    rows |= {f"-eta{x}": (etas, "-eta1_05", f"eta {value}") for value, x in values.items()}
    rows |= {"-infinity": (etas, "-eta1_05", "no cap (`st`)")}
    for key, window in itertools.product(rows, (4, 8)):
        runs, reference, _ = rows[key]
        drawn, beside = (runs.get(f"window{window}{x}") for x in (key, reference))
        if drawn is None or beside is None:
            continue
        shown[key, window] = f"{mean(drawn):.3f}"
        if key != reference:
            tests[key, window] = tested(drawn, beside)
    corrected = holm({key: test.p for key, test in tests.items()})
    lines = []
    for key, (_, _, name) in rows.items():
        cells = []
        for window in (4, 8):
            test = tests.get((key, window))
            by = [f"{test.difference:+.3f}", chance(test.p), chance(corrected[key, window])] if test else [""] * 3
            cells += [shown.get((key, window), "not run"), *by]
        lines.append([name, *cells])
    columns = [x for w in (4, 8) for x in (f"window of {w}: return", "by", "p, exact", f"Holm, of {len(tests)}")]
    return markdown(["", *columns], lines)


def trials():
    """Of each method its trials, by the return that was drawn, mean over evaluations and seeds: high where soon."""
    found = {}
    for row in evaluated("credit-ladder-tune"):
        if row["kind"] == "evaluation":
            name, setting = row["algorithm"], row["method"].removeprefix(row["algorithm"]).strip(" ()")
            if setting.startswith("expected-"):
                name, setting = f"{name}, expected bootstrap", setting.removeprefix("expected-")
            found.setdefault(name, {}).setdefault(setting, []).append(float(row["sampled_return"]))
    names = [f"lambda{x}-{speed}" for speed in ("slow", "fast") for x in ("0_0", "0_5", "0_95")]
    rows = []
    for algorithm, of_method in sorted(found.items()):
        cells = [mean(of_method[name]) for name in names]
        best = max(cells)
        rows.append([f"`{algorithm}`", *(f"**{x:.3f}**" if x == best else f"{x:.3f}" for x in cells)])
    columns = ["", *(f"{rate}, lambda {x}" for rate in ("1e-3", "3e-3") for x in ("0", ".5", ".95"))]
    return [
        *markdown(columns, rows),
        "",
        "Drawn returns on `teamwork/32` (the optimum is 1), mean over 15 evaluations and 3 seeds: the sooner it is"
        " learnt, the higher. `gpae study studies/credit-ladder-tune.toml`, `gpae report runs/credit-ladder-tune -o "
        "results/credit-ladder-tune`. Trials on windows have not all run to their end.",
    ]
