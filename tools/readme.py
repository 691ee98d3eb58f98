"""Fills the tables of README and docs/ from results/, between their markers: no figure in them is typed in. Makes the
cards of results/policies again, too.

python tools/readme.py
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import tomllib
from pathlib import Path
from statistics import mean, median

import numpy as np

from gpae.algorithms import ALGORITHMS
from gpae.exact.teamwork import Law, Team, predicted_steps
from gpae.report.card import card, interval
from gpae.report.permutation import holm, permutation_test
from gpae.report.tables import shown_reached
from gpae.runs.shared import read_evaluation, read_shared

ROOT = Path(__file__).parents[1]
MAPS = ("smax/3m", "smax/5m_vs_6m", "smax/27m_vs_30m")


def load(name):
    return json.loads((ROOT / "results" / name).read_text())


def made_with(versions, hardware):
    names = {"gpae": "gpae", "JAX": "jax", "JaxMARL": "jaxmarl", "Python": "python"}
    return ", ".join([*(f"{name} {versions[key]}" for name, key in names.items()), hardware])


def quickstart():
    lines = [
        "| seed | environment steps | training time, all in | greedy win rate, 256 new episodes | sampled |",
        "|---|---|---|---|---|",
    ]
    for file in sorted((ROOT / "results" / "quickstart").glob("seed_*.json")):
        found = json.loads(file.read_text())
        for seed, episodes in found["episodes"].items():
            lines.append(
                f"| {seed.removeprefix('seed_')} | {found['steps']:,} | {found['training_seconds']} s "
                f"| {mean(episodes['win_rate']):.1%} | {mean(episodes['sampled_win_rate']):.1%} |"
            )
    versions = found["training"]
    return [
        *lines,
        "",
        '`make train ARGS="--seed K"`, then `gpae evaluate runs/smax-2s3z-gpae-seedK --episodes 256 --json '
        "results/quickstart/seed_K.json`; seed 0 began with an empty cache of compiled programs, the others with its; "
        + made_with(versions, "2 CPU cores")
        + ".",
    ]


def printed():
    lines = (ROOT / "results" / "quickstart" / "seed_0.log").read_text().splitlines()
    return ["```", *lines[3:6], "...", *lines[-4:], "```"]


def benchmarks():
    smax, overhead = load("smax_step.json"), load("estimator_overhead.json")
    speeds = load("training_speed.json"), load("training_speed_27m.json")
    hardware = f"{overhead['hardware']['cpus']} CPU cores ({overhead['hardware']['machine']})"
    lines = [
        "| a row of 128 SMAX environments, on one core | JaxMARL's functions | ours | times as fast (quartiles) |",
        "|---|---|---|---|",
    ]
    for name, kinds in smax["results"].items():
        for what, found in kinds.items() if name != "compile" else ():
            times = found["milliseconds_per_row"]
            low, _, high = found["quartiles"]
            lines.append(
                f"| {name}, {what} | {times['jaxmarl']} ms | {times['gpae']} ms | {found['ratio']} ({low} to {high}) |"
            )
    compiling = smax["results"]["compile"]["cpu_seconds"]
    lines += [
        "",
        f"Compiling quickstart's update takes {compiling['gpae']} CPU seconds, {compiling['jaxmarl']} with JaxMARL's "
        f"functions, and {compiling['nothing']} with SMAX's shapes and no battle behind them: less no SMAX could take. "
        "`python benchmarks/smax_step.py --cores 0`",
        "",
    ]
    update = load("update.json")
    lines += [
        "| whole update, 5m_vs_6m or 27m_vs_30m, on one core | commit 344cedd | now | times as fast (quartiles) |",
        "|---|---|---|---|",
    ]
    for name, found in update["results"].items():
        seconds, (low, high) = found["seconds"], found["quartiles"]
        cells = f"{seconds['old']:.3f} s | {seconds['new']:.3f} s | {found['old / new']} ({low} to {high})"
        lines.append(f"| {name.replace('_', ' ')} | {cells} |")
    lines += ["", "`python benchmarks/update.py --old ../old --rounds 8`", ""]
    lines += [
        "| one update without its rollout, GPAE / MAPPO | critic once per agent | critic once per state |",
        "|---|---|---|",
    ]
    maps = {k: v for k, v in overhead["results"].items() if k.startswith("smax")}
    for name, found in maps.items():
        lines.append(f"| {name} | {found['gpae/mappo']} | {found['gpae/mappo_per_state']} |")
    memory = overhead["results"]["critic_gradient_megabytes"]["by_agents"]
    lines += [
        "",
        "Memory of the joint-action critic's gradient: "
        + ", ".join(f"{m} MB for {n} agents" for n, m in memory.items())
        + ". `python benchmarks/estimator_overhead.py`",
        "",
        "| whole training, hidden 128, 128 environments x 128 steps, 4 epochs x 4 minibatches, JaxMARL's layers "
        "| steps/s | over JaxMARL's | rollout / values and targets / optimisation "
        "| peak memory, of that an update's arrays |",
        "|---|---|---|---|---|",
    ]
    measured = {name: algorithms for speed in reversed(speeds) for name, algorithms in speed["results"].items()}
    for name, algorithms in sorted(measured.items(), key=lambda pair: MAPS.index(pair[0])):
        for algorithm, found in algorithms.items():
            seconds = found["seconds"]
            parts = " / ".join(f"{seconds[p]:.2f} s" for p in ("collect", "prepare", "optimise") if p in seconds)
            peak = f"{found['peak_megabytes'] / 1000:.1f} GB, {found['temporary_megabytes']:,.0f} MB"
            who = "the same work as JaxMARL does it" if algorithm == "jaxmarl" else algorithm
            lines.append(
                f"| {name}, {who} | {found['steps_per_second']:,} | {found['speed / jaxmarl']:.2f} | {parts} | {peak} |"
            )
    commands = (
        f"`python benchmarks/training_speed.py --maps {' '.join(speed['results'])} "
        f"--rounds {speed['settings']['rounds']} --updates {speed['settings']['updates']}`"
        for speed in speeds
    )
    memory = load("update_memory.json")["results"]
    lines += [
        "",
        ", ".join(commands),
        "",
        "| arrays of such an update | JaxMARL's work | mappo | gpae | of that the observations |",
        "|---|---|---|---|---|",
    ]
    for name, found in memory.items():
        size, part = found["megabytes"], found["of jaxmarl's"]
        ours = (f"{size[a]:,.0f} MB ({part[a]:.0%})" for a in ("mappo", "gpae"))
        lines.append(f"| {name} | {size['jaxmarl']:,.0f} MB | {' | '.join(ours)} | {found['observations']:,.0f} MB |")
    first_update = load("first_update.json")
    first, rounds = first_update["results"], first_update["settings"]["rounds"]
    lines += [
        "",
        "`python benchmarks/update_memory.py`: the compiler's account, which needs no run",
        "",
        "| from `gpae train --preset quickstart` to | the first update | the first evaluation |",
        "|---|---|---|",
    ]
    for kind, words in (("cold", "nothing compiled before"), ("warm", "compiled before")):
        seconds = first[kind]["seconds"]
        cells = [f"{median(seconds[name]):.0f} s" for name in ("first update", "first evaluation")]
        lines.append("| " + " | ".join([words, *cells]) + " |")
    lines += [
        "",
        f"`python benchmarks/first_update.py --rounds {rounds}`, medians",
        "",
        "All: " + made_with(smax["versions"], hardware) + ".",
    ]
    return lines


def gpu():
    found = load("gpu.json")
    settings, hardware = found["settings"], found["hardware"]
    work = f"{settings['environments']} environments x {settings['rows']} rows, {settings['epochs']} epochs x "
    work += f"{settings['minibatches']} minibatches, hidden {settings['hidden_size']}"
    lines = [
        f"| an update of all seeds: {work} | seeds | seconds | environment steps/s | over JaxMARL's | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, algorithms in found["results"]["speed"].items():
        base = algorithms["jaxmarl"]
        for algorithm in ("jaxmarl", "mappo", "gpae"):
            for seeds, f in algorithms.get(algorithm, {}).items():
                who = "the same work as JaxMARL does it" if algorithm == "jaxmarl" else algorithm
                if "error" in f:
                    lines.append(f"| {name}, {who} | {seeds} | {f['error'].split(':')[0]} | | | |")
                    continue
                speed = base.get(seeds, {}).get("steps_per_second")
                over = f"{f['steps_per_second'] / speed:.2f}" if speed else ""
                cells = [f"{name}, {who}", seeds, f"{f['seconds']:.3f}", f"{f['steps_per_second']:,}", over]
                lines.append("| " + " | ".join([*cells, f"{f['peak_gigabytes']} GB"]) + " |")
    loops = found["results"]["gpae, 1 seed, with the loops of a CPU"]["smax/5m_vs_6m"]
    profile = next(f["profile"] for f in found["results"]["speed"]["smax/5m_vs_6m"]["gpae"].values() if "profile" in f)
    return [
        *lines,
        "",
        f"With the loops that a CPU wants, GPAE with one seed makes {loops['steps_per_second']:,} steps/s. An update of"
        f" ten seeds launches {profile['kernels']:,} kernels, and one runs in {profile['busy']:.0%} of the time: what"
        " limits a GPU here is the number of kernels, and more seeds cost little. "
        + made_with(found["versions"], f"one {hardware['device']}")
        + f", `XLA_FLAGS='{settings['XLA_FLAGS']}'`.",
    ]


def unfinished(folder):
    """How far the trainings of a folder came: their last evaluations, and the metrics of their last update."""
    lines = []
    for path in sorted((ROOT / "results" / folder).iterdir()):
        config = json.loads((path / "config.json").read_text())
        with gzip.open(path / "evaluations.json.gz", "rt") as file:
            ((_, methods),) = next(iter(json.load(file).values())).items()
        ((_, seeds),) = methods.items()
        last = [[e for name, e in kept.items() if name.startswith("step_")][-1] for kept in seeds.values()]
        cells = [
            f"`{path.name}`",
            str(len(last)),
            f"{max(e['step_count'] for e in last):,} of {config['total_steps']:,}",
        ]
        for key in ("win_rate", "sampled_win_rate"):
            rates = [mean(e[key]) for e in last]
            cells.append(f"{mean(rates):.1%} ({min(rates):.1%} to {max(rates):.1%})")
        with gzip.open(path / "metrics.jsonl.gz", "rt") as file:
            rows = [json.loads(line) for line in file]
        rows = [row for row in rows if row["update"] == rows[-1]["update"]]
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
            sides = (np.stack([rates[key] for key in keys], axis=1) for keys in (one, other))
            tested = permutation_test(*sides)
            assert tested.exact
            p = ("= " if tested.p >= 0.001 else "") + chance(tested.p)
            lines += ["", f"{what}: {tested.difference:+.1f} points, p {p}."]
    return lines[1:]


METHODS = ("gpae", "mappo")


def twins():
    """Trials of GPAE and MAPPO that were drawn alike, side by side: the same settings, the same seed."""
    rows = []
    of = {m["method"]: m for m in load("tune-5m_vs_6m-gpu/tuning.json")["methods"]}
    for setting in ("on-policy", "window"):
        gpae, mappo = of[f"gpae ({setting})"]["trials"], of[f"mappo ({setting})"]["trials"]
        for one, other in zip(gpae, mappo, strict=True):
            assert other["settings"].items() <= one["settings"].items()
        ahead = [one["score"] - other["score"] for one, other in zip(gpae, mappo, strict=True)]
        # Exact: every way to exchange the two of a pair.
        sums = [0.0]
        for x in ahead:
            sums = [y + sign * abs(x) for y in sums for sign in (-1, 1)]
        p = sum(abs(y) >= abs(sum(ahead)) - 1e-12 for y in sums) / len(sums)
        best = [max(trial["score"] for trial in trials) for trials in (gpae, mappo)]
        rows.append(
            [
                setting,
                str(len(ahead)),
                *(f"{x:.3f}" for x in best),
                f"{mean(ahead):+.4f}",
                f"{sum(x > 0 for x in ahead)} of {len(ahead)}",
                f"{p:.2f}",
            ]
        )
    columns = ["", "trials of each", "best of GPAE", "best of MAPPO", "GPAE over MAPPO, mean", "GPAE ahead in", "p"]
    return markdown(columns, rows)


def latency():
    measured = load("policy_latency.json")
    found, settings = measured["results"], measured["settings"]
    rows = []
    for name, of in found.items():
        if name != "load":
            kind, _, envs = name.partition(" ")
            words = "`policy`, one agent" if kind == "alone" else f"`policy.batch`, E = {int(envs):,}"
            call, action = of["microseconds_per_call"], of["microseconds_per_action"]
            rows.append([words, f"{of['agents']:,}", f"{call / 1e3:.2f} ms", f"{action:.1f} µs"])
    load_ = found["load"]
    return [
        *markdown([f"networks of `{settings['preset']}` on {settings['env']}", "agents", "a call", "an action"], rows),
        "",
        f"`import gpae`, `load_policy` and the first action take {load_['seconds']} s in a new process. "
        "`python benchmarks/policy_latency.py --cores 0 --out results/policy_latency.json`, medians; "
        + made_with(measured["versions"], f"1 CPU core ({measured['hardware']['machine']})")
        + f", load average {measured['hardware']['load average before'][0]}.",
    ]


def markdown(columns, rows):
    columns = [column.replace("|", "\\|") for column in columns]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def figure(x, digits=3):
    if isinstance(x, str):
        return {"inf": "∞"}.get(x, x)
    if 0 < abs(x) < 0.5 * 10**-digits:
        return f"{x:.0e}".replace("-", "−", 1) if x < 0 else f"{x:.0e}"
    return f"{x:.{digits}f}".replace("-", "−")


def verified(title, only=None, bold=(), columns=None, digits=2):
    """A table of `gpae verify`: rows whose text columns are in `only`, in that order."""
    table = next(t for t in load("verify.json")["tables"] if t["title"].startswith(title))
    rows = {tuple(x for x in row if isinstance(x, str) and x != "inf"): row for row in table["rows"]}
    picks = range(len(table["columns"])) if columns is None else columns
    lines = []
    for key in only or rows:
        row = [figure(rows[key][k], digits) for k in picks]
        lines.append([f"**{x}**" for x in row] if key in bold else row)
    return markdown([table["columns"][k] for k in picks], lines)


PAPER, CORRECTED = ("dt", "sampled", "truncated"), ("others", "corrected", "exact")
BOUNDED = ("none", "st", "it", "dt")


def bias():
    forms = [*((trace, "sampled", "truncated") for trace in (*BOUNDED, "others"))]
    forms += [(trace, "sampled", "exact") for trace in ("dt", "others")]
    forms += [(trace, "corrected", "truncated") for trace in ("none", "dt", "others", "per-decision")]
    forms += [(trace, "corrected", "exact") for trace in (*BOUNDED, "others", "per-decision")]
    title = next(t["title"] for t in load("verify.json")["tables"] if t["title"].startswith("Where training ends"))
    return [*verified("Where training ends", forms, (PAPER, CORRECTED)), "", title.replace("|", "\\|") + "."]


def distance():
    forms = [*((trace, "sampled", "truncated") for trace in BOUNDED), ("dt", "sampled", "exact")]
    forms += [("dt", "corrected", "truncated"), ("dt", "corrected", "exact"), CORRECTED]
    return verified("Distance of the fixed point from EQ^i, over", forms)


def spread():
    forms = [("dt", "sampled"), ("dt", "resampled"), ("dt", "expected")]
    forms += [("others", "weighted"), ("others", "resampled"), ("others", "expected"), ("per-decision", "expected")]
    return verified("Standard deviation of one advantage", forms)


def statements():
    rows = [
        [s["number"], s["claim"].replace("|", "\\|"), str(s["checks"]), f"{s['worst']:.1g}", f"{s['tolerance']:.2g}"]
        for s in load("verify.json")["statements"]
    ]
    return markdown(["", "statement", "comparisons", "worst", "allowed"], rows)


def gap():
    return [*verified("Advantage gap", digits=3), "", "`gpae verify`."]


def critic():
    found = load("critic.json")
    rows = [
        ["mean squared error", f"{found['error']:.4g}", f"{found['shuffled_error']:.4g}"],
        [
            "explained variance",
            f"{found['explained_variance']:.3f}",
            f"{found['shuffled_explained_variance']:.3f}",
        ],
    ]
    return [
        *markdown(["EQ against lambda-returns", "others' actions as they were", "shuffled"], rows),
        "",
        f"The error grows by a factor of {found['ratio']:.3f}; "
        f"the values move by {found['change']:.1%} of their spread. "
        f"`gpae inspect critic` of the quickstart's seed 0, {found['envs']} environments, {found['shuffles']} "
        "shuffles.",
    ]


def algorithms():
    rows = [[f"`{name}`", a.summary(), a.source] for name, a in ALGORITHMS.items()]
    return markdown(["`--algorithm`", "", "source"], rows)


def evaluated(study):
    """The lines of a report's evaluations.csv; large ones are kept packed."""
    plain = ROOT / "results" / study / "evaluations.csv"
    packed = plain.with_name("evaluations.csv.gz")
    with plain.open(newline="") if plain.exists() else gzip.open(packed, "rt", newline="") as file:
        yield from csv.DictReader(file)


def evaluations_by_env(study):
    envs = [block["env"] for block in load(f"{study}/report.json")["environments"]]
    return {(env, method): found for env in envs for method, found in evaluations(study, env).items()}


def evaluations(study, env=None):
    """Of every method: its evaluations, [(steps, seconds, win rates of the seeds)], and the absolute win rates."""
    found = {}
    for row in evaluated(study):
        if env not in (None, row["environment"]):
            continue
        during, absolute = found.setdefault(row["method"], ({}, []))
        if row["kind"] == "absolute":
            absolute.append(float(row["win_rate"]))
        else:
            of_step = during.setdefault(int(row["steps"]), (float(row["seconds"]), []))
            of_step[1].append(float(row["win_rate"]))
    return {
        method: ([(steps, *x) for steps, x in sorted(during.items())], absolute)
        for method, (during, absolute) in found.items()
    }


def baselines():
    found, report = evaluations("baselines"), load("baselines/report.json")
    shortest = min(during[-1][1] for during, _ in found.values())
    rows = []
    for method, (during, absolute) in found.items():
        steps, seconds, last = during[-1]
        rows.append(
            [
                f"`{method}`",
                f"{mean(last):.0%} ({min(last):.0%} to {max(last):.0%})",
                in_time(during, shortest),
                f"{mean(absolute):.0%}",
                f"{seconds:.0f} s",
            ]
        )
    rows.sort(key=lambda row: -mean(found[row[0].strip("`")][0][-1][2]))
    seeds = len(last)
    columns = [
        "smax/3m",
        f"greedy win rate after {steps:,} steps",
        f"after {shortest:.0f} s",
        "best parameters",
        "time",
    ]
    run = report["runs"][0]
    return [
        *markdown(columns, rows),
        "",
        f"Means over {seeds} seeds, which train in one program, and their range; {seeds} are few. Time is that of all "
        "seeds, with compilation and evaluations. `gpae study studies/baselines.toml`, `gpae report runs/baselines -o "
        "results/baselines`; " + made_with(run["versions"], HARDWARE["baselines"]) + ".",
    ]


def studied():
    lines = (ROOT / "results" / "baselines-with-jaxmarls-smax" / "study.log").read_text().splitlines()
    return ["```", *lines[:7], "...", "```"]


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


def areas(study, env=None, metric="sampled_return"):
    """(algorithm, setting) -> the return drawn while learning and the steps to .9, one of each per seed.

    In this environment, where there are several; by another metric, if that is asked for.
    """
    curves = {}
    for row in evaluated(study):
        if row["kind"] == "evaluation" and env in (None, row["environment"]):
            setting = row["method"].removeprefix(row["algorithm"]).strip(" ()")
            seeds = curves.setdefault((row["algorithm"], setting), {})
            seeds.setdefault(row["seed"], []).append((int(row["steps"]), float(row[metric])))
    return {
        key: (
            [mean(x for _, x in curve) for curve in seeds.values()],
            [next((step for step, x in curve if x >= 0.9), float("inf")) for curve in seeds.values()],
        )
        for key, seeds in curves.items()
    }


def soon(when):
    """The median of the steps of the seeds, of which some may never have got there, as it is shown."""
    late, reached = median(when), sum(x < float("inf") for x in when)
    found = {"median": late if late < float("inf") else None, "reached": reached, "n": len(when)}
    return shown_reached(found, "{:,.0f}")


def tested(drawn, beside):
    """The exact permutation test of two lists, of a number for each seed."""
    return permutation_test(*(np.array(x)[:, None] for x in (drawn, beside)))


def chance(p):
    """A p-value, as it is shown."""
    return f"{p:.3f}" if p >= 0.001 else "< .001"


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
    tests = {pair: permutation_test(*(np.array(found[side][0])[:, None] for side in pair)) for pair in pairs}
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
            tests[algorithm, value] = permutation_test(np.array(equal)[:, None], np.array(fresh)[:, None]).p
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
    drawn = {name: np.array(found[name, setting][0])[:, None] for name, setting in best.items()}
    pairs = [("gpae", "mappo"), ("gpae-state", "mappo"), ("gpae", "gpae-state")]
    tests = {pair: permutation_test(*(drawn[name] for name in pair)).p for pair in pairs}
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
            found[agents, window, name] = (LAMBDAS[how] + only, np.array(drawn[how])[:, None])
        for name in methods[:2]:
            sides = (found[agents, window, x][1] for x in (name, "mappo"))
            tests[agents, window, name] = permutation_test(*sides)
    corrected = holm({key: test.p for key, test in tests.items()})
    rows = []
    for key, test in tests.items():
        agents, window, name = key
        (value, drawn), (theirs, reference) = found[key], found[agents, window, "mappo"]
        returns = [f"{drawn.mean():.3f} ({value})", f"{reference.mean():.3f} ({theirs})", f"{test.difference:+.3f}"]
        rows.append([str(agents), str(window), f"`{name}`", *returns, chance(test.p), chance(corrected[key])])
    columns = ["agents", "window", "", "return (lambda)", "MAPPO's", "more by", "p, exact", f"Holm, of {len(tests)}"]
    return markdown(columns, rows)


LAMBDAS = {"near": ".5", "far": ".95"}


def exact_critics():
    """By updates and team size: what exact EQ^i brings over exact V(s), each with the lambda that does better there."""
    tests, rows = {}, {}
    for batch, agents in itertools.product((64, 16), (2, 8, 32, 128)):
        here, cells = areas("exact-critics", f"teamwork/{agents}"), []
        best = {}
        for kind in ("state", "others", "expected"):
            settings = [f"{kind}-{how}-{batch}" for how in LAMBDAS if ("exact", f"{kind}-{how}-{batch}") in here]
            if not settings:
                break
            chosen = max(settings, key=lambda setting, here=here: mean(here["exact", setting][0]))
            best[kind] = here["exact", chosen]
            drawn, when = best[kind]
            cells += [f"{mean(drawn):.3f} ({LAMBDAS[chosen.split('-')[1]]})", f"{median(when):,.0f}"]
        if len(best) < 3:
            continue
        rows[batch, agents] = [str(batch), str(agents), *cells]
        for kind in ("others", "expected"):
            tests[batch, agents, kind] = tested(best[kind][0], best["state"][0])
    corrected = holm({key: test.p for key, test in tests.items()})
    for key, row in rows.items():
        row += [f"{tests[*key, kind].difference:+.3f} ({chance(corrected[*key, kind])})" for kind in KINDS[1:]]
    columns = ["steps of an update", "agents"]
    names = ("V(s)", "EQ^i, published", "EQ^i, expected")
    columns += [x for name in names for x in (f"{name}: return (lambda)", "steps")]
    columns += [f"{name} over V(s) (p, Holm, of {len(tests)})" for name in ("published", "expected")]
    return markdown(columns, list(rows.values()))


KINDS = ("state", "others", "expected")


def exact_law(kind, agents, batch, speed):
    """Steps to the goal by the law, lambda .5, updates of `batch` steps that move a logit by `speed` without noise."""
    estimator = "others-expected" if kind == "expected" else kind
    return predicted_steps(Law(Team(agents=agents, cues=1), estimator, 0.5), batch=batch, speed=speed)


def fitted_speed(steps=None, agents=2, batch=64):
    """The speed at which the law agrees with the steps of V(s); default: two agents, updates of 64, without error."""
    steps = areas("exact-critics", "teamwork/2")["exact", "state-near-64"][1] if steps is None else steps
    measured, speeds = median(steps), np.geomspace(0.003, 3.0, 400)
    return min(speeds, key=lambda v: abs(np.log(exact_law("state", agents, batch, v) / measured)))


def exact_unshared():
    """Steps to the goal with exact values, updates of 64 steps: one network for all, one for each, and the law."""
    found = {}
    for agents, kind, also in itertools.product((2, 8, 32, 128), KINDS, ("", "-unshared")):
        here = areas("exact-critics", f"teamwork/{agents}")
        if ("exact", f"{kind}-near-64{also}") in here:
            found[agents, kind, also] = median(here["exact", f"{kind}-near-64{also}"][1])
    speed = fitted_speed()
    rows = []
    for agents in (2, 8, 32, 128):
        cells = []
        for kind in KINDS:
            here = [found.get((agents, kind, also)) for also in ("", "-unshared")]
            cells += [f"{steps:,.0f}" if steps else "not run" for steps in here]
            cells.append(f"{exact_law(kind, agents, 64, speed):,.0f}")
        rows.append([str(agents), *cells])
    names = ("V(s)", "EQ^i, published", "EQ^i, expected")
    columns = [x for name in names for x in (f"{name}: one network", "one for each agent", "the law")]
    return markdown(["agents", *columns], rows)


def passes_trials(study):
    """Of GPAE, its expected bootstrap and MAPPO the trials of a study: lambda for each learning rate."""
    found = {}
    for (name, setting), (drawn, _) in areas(study).items():
        *kind, rate, value = setting.split("-")
        found.setdefault(", ".join([name, *kind]), {})[rate, value] = mean(drawn)
    values = {"0": "0", "30": ".3", "50": ".5", "95": ".95"}
    tried = {key for cells in found.values() for key in cells}
    columns = [key for key in itertools.product(("slow", "middle", "fast"), values) if key in tried]
    rows = []
    for name, cells in sorted(found.items()):
        best = {rate: max(x for (r, _), x in cells.items() if r == rate) for rate in ("slow", "middle", "fast")}
        shown = [f"{cells[key]:.3f}" if key in cells else "" for key in columns]
        bold = [f"**{x}**" if cells.get(key) == best[key[0]] else x for key, x in zip(columns, shown, strict=True)]
        rows.append([f"`{name}`", *bold])
    return markdown(["", *(f"{RATES[rate]}, lambda {values[value]}" for rate, value in columns)], rows)


RATES = {"slow": "3e-4", "middle": "1e-3", "fast": "3e-3"}


def beside_mappo(titles, found):
    """What is drawn while learning and the steps to 90 %, and exact tests against MAPPO in the same place.

    Args:
      titles: of the columns that say where.
      found: where -> (returns, steps) of MAPPO, of GPAE and of its expected bootstrap; None: not run.
    """
    names = ("MAPPO", "GPAE", "GPAE, expected")
    tests = {
        (where, i): tested(of_methods[i][0], of_methods[0][0])
        for where, of_methods in found.items()
        for i in (1, 2)
        if of_methods[0] and of_methods[i]
    }
    corrected = holm({key: test.p for key, test in tests.items()})
    rows = []
    for where, of_methods in found.items():
        row = [str(x) for x in where]
        for method in of_methods:
            row += [f"{mean(method[0]):.3f}", soon(method[1])] if method else ["not run", ""]
        for i in (1, 2):
            test = tests.get((where, i))
            row.append(f"{test.difference:+.3f} ({chance(corrected[where, i])})" if test else "")
        rows.append(row)
    columns = [*titles, *(x for name in names for x in (f"{name}: return", "steps to 90 %"))]
    return markdown(
        [*columns, *(f"{name} over MAPPO (p, Holm, of {len(tests)})" for name in ("GPAE", "expected"))], rows
    )


def critic_passes():
    """GPAE in both forms and MAPPO, by team, learning rate and passes of the critic."""
    found = {}
    for agents, rate, passes in itertools.product((8, 32), ("fast", "slow"), (4, 40)):
        here, setting = areas("critic-passes", f"teamwork/{agents}"), f"{rate}{passes}"
        keys = (("mappo", setting), ("gpae", setting), ("gpae", f"expected-{setting}"))
        found[agents, RATES[rate], passes] = [here.get(key) for key in keys]
    here = areas("critic-passes-64", "teamwork/64")
    keys = (("mappo", "state"), ("gpae", "published"), ("gpae", "expected"))
    found[64, RATES["slow"], 40] = [here.get(key) for key in keys]
    return beside_mappo(["agents", "learning rate", "passes of the critic"], found)


POOL = {"imports": "studies/pooled_critic.py"}


def pooled_critics():
    """The same by team, learning rate and kind of critic, with an actor for each agent."""
    found = {}
    for agents, rate, (kind, also) in itertools.product(
        (8, 32, 64), ("fast", "slow"), (("each agent alike", "-pooled"), ("usual", ""))
    ):
        here = areas("pooled-critics-64" if agents > 32 else "pooled-critics", f"teamwork/{agents}")
        names = (rate, rate, f"expected-{rate}") if also else (f"usual-{rate}",) * 3
        methods = [here.get((f"{name}{also}", x)) for name, x in zip(("mappo", "gpae", "gpae"), names, strict=True)]
        if not also:
            methods[1] = None  # what was run is its expected bootstrap
        if any(methods):
            found[agents, RATES[rate], kind] = methods
    return beside_mappo(["agents", "learning rate", "critic"], found)


def pooled_law():
    """Of slow policies the median steps to the goal of MAPPO and the expected bootstrap, beside the law."""
    keys = (("mappo-pooled", "slow"), ("gpae-pooled", "expected-slow"))
    steps = {}
    for agents in (8, 32, 64):
        here = areas("pooled-critics-64" if agents > 32 else "pooled-critics", f"teamwork/{agents}")
        steps[agents] = [median(here[key][1]) for key in keys]
    speed, rows = fitted_speed([steps[8][0]], 8, 16), []
    for agents, measured in steps.items():
        law = [exact_law(kind, agents, 16, speed) for kind in ("state", "expected")]
        cells = [cell for two in (law, measured) for cell in (*(f"{x:,.0f}" for x in two), f"{two[0] / two[1]:.2f}")]
        rows.append([str(agents), *cells])
    columns = [f"{x}: {y}" for x in ("the law", "measured") for y in ("MAPPO", "GPAE, expected", "MAPPO by GPAE")]
    return markdown(["agents", *columns], rows)


def critic_passes_fresh():
    """The expected bootstrap over MAPPO where it pays, without the three seeds on which that place was looked for."""
    words = []
    for agents in (8, 32):
        here = areas("critic-passes", f"teamwork/{agents}")
        test = tested(*(here[x][0][3:] for x in (("gpae", "expected-slow40"), ("mappo", "slow40"))))
        words.append(f"{test.difference:+.3f} with {agents} agents (exact p {chance(test.p)}, not corrected)")
    return [f"Without seeds 0 to 2 the expected bootstrap is ahead there by {' and '.join(words)}."]


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


def of_battles():
    """By the number of marines: win rates while learning and at the end, and GPAE and IPPO tested against MAPPO."""
    report, rows, tests = load("battles/report.json"), [], {}
    for env in (e["env"] for e in report["environments"]):
        drawn = {name: x[0] for (name, _), x in areas("battles", env, "win_rate").items()}
        last = {method: mean(during[-1][2]) for method, (during, _) in evaluations("battles", env).items()}
        row = [f"{env.split(':')[1].split('m')[0]} against as many"]
        for name in ("gpae", "mappo", "ippo"):
            row.append(f"{mean(drawn[name]):.0%}, {last[name]:.0%}" if name in drawn else "not run")
        for name in ("gpae", "ippo"):
            if name in drawn and "mappo" in drawn:
                sides = (np.array(drawn[x])[:, None] for x in (name, "mappo"))
                tests[env, name] = permutation_test(*sides)
        rows.append((env, row))
    corrected = holm({key: test.p for key, test in tests.items()})
    for env, row in rows:
        for name in ("gpae", "ippo"):
            if (env, name) in tests:
                test = tests[env, name]
                row.append(f"{100 * test.difference:+.1f} (p {chance(test.p)}, {chance(corrected[env, name])})")
            else:
                row.append("")
    columns = ["marines", "GPAE", "MAPPO", "IPPO", "GPAE over MAPPO while learning, points", "IPPO over MAPPO"]
    return markdown(columns, [row for _, row in rows])


def of_more_battles():
    """GPAE over MAPPO with 27 marines, on the ten seeds that the question was not found on."""
    drawn = {name: x[0] for (name, _), x in areas("battles-27", metric="win_rate").items()}
    test = tested(drawn["gpae"], drawn["mappo"])
    return [
        f"Greedy win rate, mean of the evaluations, ten other seeds: GPAE {mean(drawn['gpae']):.1%}, MAPPO "
        f"{mean(drawn['mappo']):.1%}; {100 * test.difference:+.1f} points, exact p = {chance(test.p)}."
    ]


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


def percent(interval):
    value, low, high = (f"{100 * x:.0f}" for x in interval)
    return f"{value} [{low}, {high}]"


def made_in(study, *more, imports=None):
    """How the tables of a study's report were made."""
    report = load(f"{study}/report.json")
    versions = report["runs"][0]["versions"]
    folders = " ".join(f"runs/{name}" for name in (study, *more))
    also = f" --import {imports}" if imports else ""
    studies = ", ".join(f"`gpae study studies/{name}.toml{also}`" for name in (study, *more))
    made = made_with(versions, HARDWARE.get(study, "2 CPU cores"))
    return ["", f"{studies}, `gpae report {folders} -o results/{study}{also}`; {made}."]


_SHARED = "one core of 16 for each training, up to nine others and trainings on a GPU beside"
_BESIDE = (
    "baselines-2s3z battles battles-27 bootstrap-small critic-passes critic-passes-2s3z critic-passes-64"
    " critic-passes-tune exact-critics ladder-eta ladder-steps ladder-traces maps pooled-critics pooled-critics-64"
    " pooled-critics-tune riddle smacv2-small"
)
HARDWARE = {
    **dict.fromkeys(_BESIDE.split(), "one CPU core, others beside"),
    "quick": _SHARED,
    "baselines": _SHARED,
    "suites": "one CPU core for each training, others beside",
    "smacv2-window": "one CPU core for each training, others beside",
    "ladder-windows": "one CPU core for each training, others beside",
}


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
                    *(shown_reached(found, "{:,.0f}") for found in reached),
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
        won = ", ".join(f"{name} {figure(value)}" for name, value in trials[0]["settings"].items())
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


def in_time(during, limit):
    """The mean win rate of the last evaluation within so many seconds."""
    rates = [found for _, seconds, found in during if seconds <= limit]
    return f"{mean(rates[-1]):.0%}" if rates else "none yet"


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


def mabrax():
    """The smoke run, as far as it went, and what is published for its body."""
    config, versions = load("mabrax-smoke/config.json"), load("mabrax-smoke/versions.json")
    suite, task = config["env"].split("/")
    (found,) = load("mabrax-smoke/evaluations.json")[suite][task].values()
    of_seed = dict(found[f"seed_{config['seed']}"])
    best = of_seed.pop("absolute_metrics", None)
    shown = [(f"{x['step_count']:,}", x) for x in of_seed.values()]
    rows = [
        [steps, *(f"{mean(x[kind]):,.0f} ({min(x[kind]):,.0f} to {max(x[kind]):,.0f})" for kind in RETURNS)]
        for steps, x in [*shown, *([("best parameters", best)] if best else [])]
    ]
    there = json.loads((ROOT / "src/gpae/report/published.json").read_text())["entries"]
    published = [f"{x['method']} {x['return']:,}" for x in there if x["env"] == config["env"]]
    episodes = config["evaluation_episodes"]
    done = json.loads((ROOT / "results/mabrax-smoke/metrics.jsonl").read_text().splitlines()[-1])["env_steps"]
    return [
        *markdown(["environment steps", "greedy return", "sampled return"], rows),
        "",
        f"Means of {episodes} episodes (of the best parameters {10 * episodes}), and their range; one seed;"
        f" {done:,} steps of {config['total_steps']:,} asked for, in whole updates. Published after"
        f" 10 M steps, on another MABrax: {', '.join(published)}.",
        "",
        f"`{(ROOT / 'results/mabrax-smoke/command').read_text().strip()}`; "
        + made_with(versions, f"brax {versions['brax']}, one CPU core")
        + ".",
    ]


RETURNS = ("return", "sampled_return")
AGAIN = {"quick-with-jaxmarls-smax": "JaxMARL's SMAX", "quick-other-machine": "the same, another machine"}
PAIRS = (
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("gpae (off-policy)", "mappo (off-policy)"),
    ("gpae (off-policy)", "gpae (on-policy)"),
    ("mappo (off-policy)", "mappo (on-policy)"),
    ("gpae (on-policy)", "coma (on-policy)"),
    ("gpae (on-policy)", "dae (on-policy)"),
)


def host():
    found = load("host_environments.json")
    lines = [
        "| environment | environment steps | uniform policy | sampled return, evaluation by evaluation | greedy |"
        " collect, steps/s | learn, steps/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["results"].values():
        theirs = [option for option in one["env_options"] if not option.startswith("worker_processes")]
        options = " ".join([f"`{one['env']}`", *theirs, f"({one['package']})"]).replace("\n", "/")
        returns = [", ".join(f"{x:.2f}" for x in one[kind]) for kind in ("sampled return", "greedy return")]
        lines.append(
            f"| {options} | {one['environment steps'][-1]:,} | {one['uniform policy']:.2f} | {' | '.join(returns)} "
            f"| {one['collect_steps_per_second']:,} | {one['learn_steps_per_second']:,} |"
        )
    cpus, load_before = found["hardware"]["cpus"], found["hardware"]["load average before"][0]
    return [
        *lines,
        "",
        "`python benchmarks/host_environments.py --out results/host_environments.json`: gpae, preset `quickstart`,"
        f" seed 0, 16 environments in one worker process, {cpus} CPU cores; the load average before"
        f" was {load_before:.0f}, so the speeds are those of a busy machine. "
        + made_with(found["versions"], "one run each")
        + ".",
    ]


def battles():
    """Whole battles beside JaxMARL's."""
    found = load("smax_battles.json")
    rows = [
        [
            f"`smax/{name.split(', ')[0]}`",
            name.split(", ")[1],
            f"{e['equal']} of {e['battles']}",
            f"{e['same outcome']} of {e['battles']}",
            str(e["won"]),
        ]
        for name, e in found["results"].items()
    ]
    return [
        *markdown(["", "actions", "equal to the last step", "the same outcome", "won"], rows),
        "",
        "`PYTHONPATH=tests python benchmarks/smax_battles.py --out results/smax_battles.json`; "
        + made_with(found["versions"], "CPU")
        + ".",
    ]


def kept():
    """The folders of results/policies."""
    return sorted(file.parent for file in (ROOT / "results" / "policies").glob("*/shared.json"))


def policies():
    lines = [
        "| in `results/policies` | environment | algorithm | parameters | greedy, 95 % interval | sampled | size |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder in kept():
        config, about = json.loads((folder / "config.json").read_text()), read_shared(folder)
        (update,) = (folder / "checkpoints").iterdir()
        steps = json.loads((update / "about" / "metadata").read_text())["info"]["env_steps"]
        metric, cells = about["metric"], ["not played", "not played"]
        if played := read_evaluation(folder):
            episodes = played["episodes"][f"seed_{config['seed']}"]
            rate = metric == "win_rate"
            shown = ("{:.1%} [{:.1%}, {:.1%}]" if rate else "{:.4g} [{:.4g}, {:.4g}]").format
            cells = [shown(*interval(episodes[kind + metric], rate=rate)) for kind in ("", "sampled_")]
        options = "".join(f", `{option}`" for option in config["env_options"])
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        seed = f"seed {config['seed']}" + (f", of {n} trained" if (n := len(about["seeds"])) > 1 else "")
        lines.append(
            f"| `{folder.name}` | `{config['env']}`{options} | `{config['algorithm']}` | {about['parameters']}, after"
            f" {steps:,} steps; {seed} | {' | '.join(cells)} | {size / 1e6:.2f} MB |"
        )
    return [*lines, "", "Win rates over new episodes; returns where nothing is won. What made each stands on its card."]


SUSPECTS = [
    ("gpae (on-policy)", "mappo (on-policy)"),
    ("gpae (window)", "gpae (on-policy)"),
    ("mappo (window)", "mappo (on-policy)"),
    ("gpae (window)", "mappo (window)"),
    ("gpae (window-geppo)", "gpae (window)"),
    ("mappo (window-geppo)", "mappo (window)"),
    ("gpae (window-half-epochs)", "gpae (window)"),
    ("mappo (window-half-epochs)", "mappo (window)"),
    ("gpae (window-corrected)", "gpae (window)"),
    ("gpae (window-own-others)", "gpae (window)"),
]

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

PASSES = [
    ("mappo (passes16)", "mappo (passes4)"),
    ("gpae (passes16)", "gpae (passes4)"),
    ("gpae (passes4)", "mappo (passes4)"),
    ("gpae (passes16)", "mappo (passes16)"),
]

STEPS = [
    *((f"passes{b}", "on-policy") for b in (2, 4, 8)),
    *((f"small{b}", "on-policy") for b in (2, 4, 8)),
    *((f"window{b}-equal", "on-policy") for b in (2, 4)),
    *((f"window{b}", f"small{b}") for b in (2, 4, 8)),
    *((f"window{b}", f"passes{b}") for b in (2, 4, 8)),
]

DOCUMENTS = {
    "README.md": {
        "printed": printed,
    },
    "docs/index.md": {"quickstart": quickstart},
    "docs/algorithms.md": {"algorithms": algorithms, "baselines": baselines},
    "docs/credit-ladder.md": {
        "trials": trials,
        "steps": steps_of_ladder,
        "exact-critics": lambda: [*exact_critics(), *made_in("exact-critics", imports="studies/exact_critics.py")],
        "exact-unshared": exact_unshared,
        "critic-passes-trials": lambda: [*passes_trials("critic-passes-tune"), *made_in("critic-passes-tune")],
        "critic-passes-fresh": critic_passes_fresh,
        "pooled-critics-trials": lambda: [
            *passes_trials("pooled-critics-tune"),
            *made_in("pooled-critics-tune", **POOL),
        ],
        "pooled-critics-law": pooled_law,
        "pooled-critics": lambda: [
            *pooled_critics(),
            *made_in("pooled-critics", **POOL),
            *made_in("pooled-critics-64", **POOL),
        ],
        "critic-passes": lambda: [*critic_passes(), *made_in("critic-passes"), *made_in("critic-passes-64")],
    },
    "docs/benchmarks.md": {"benchmarks": benchmarks, "gpu": gpu},
    "docs/environments.md": {"host": host, "smax-battles": battles},
    "docs/results.md": {
        "ladder": ladder,
        "ladder-steps": lambda: [*ladder_steps(), *made_in("ladder-steps")],
        "ladder-steps-pairs": ladder_steps_pairs,
        "quick": lambda: [*scores("quick", rates=("0.5", "0.8", "0.9")), *made_in("quick")],
        "quick-pairs": lambda: improvements("quick", PAIRS),
        "quick-costs": lambda: costs("quick"),
        "quick-again": lambda: made_again("quick", AGAIN),
        "smacv2": lambda: [*scores("smacv2-small"), *made_in("smacv2-small")],
        "smacv2-window": lambda: [*scores("smacv2-window", rates=("0.5",)), *made_in("smacv2-window")],
        "smacv2-window-pairs": lambda: differences("smacv2-window", SUSPECTS),
        "5m_vs_6m": lambda: unfinished("5m_vs_6m/runs"),
        "5m_vs_6m-swapped": method_or_settings,
        "5m_vs_6m-pairs": lambda: differences("5m_vs_6m", SWAPPED),
        "5m_vs_6m-trials": twins,
        "5m_vs_6m-released": lambda: unfinished("gpu-5m_vs_6m"),
        "suites": lambda: [*side_by_side("suites"), *made_in("suites")],
        "riddle": lambda: [*side_by_side("riddle"), *made_in("riddle")],
        "ladder-eta": lambda: [*ladder_eta(), *made_in("ladder-eta")],
        "critic-passes-2s3z": lambda: [
            *scores("critic-passes-2s3z", rates=("0.5", "0.8", "0.9")),
            *made_in("critic-passes-2s3z"),
        ],
        "critic-passes-2s3z-pairs": lambda: differences("critic-passes-2s3z", PASSES),
        "maps": lambda: [*side_by_side("maps"), *made_in("maps")],
        "ladder-traces": lambda: [*ladder_traces(), *made_in("ladder-traces")],
        "ladder-traces-pairs": ladder_traces_pairs,
        "ladder-windows": lambda: [*ladder_windows(), *made_in("ladder-windows")],
        "battles": lambda: [*of_battles(), *made_in("battles")],
        "battles-27": lambda: [*of_more_battles(), *made_in("battles-27")],
        "jumanji": lambda: searched("tune-jumanji"),
        "mabrax": mabrax,
        "bootstrap-small": lambda: [
            *scores("bootstrap-small", rates=("0.5", "0.8", "0.9")),
            *made_in("bootstrap-small"),
        ],
        "2s3z-again": lambda: made_again("baselines-2s3z", {"baselines-2s3z-with-jaxmarls-smax": "JaxMARL's SMAX"}),
        "smacv2-again": lambda: made_again("smacv2-small", {"smacv2-small-with-jaxmarls-smax": "JaxMARL's SMAX"}),
        "2s3z": lambda: [*scores("baselines-2s3z", rates=("0.5", "0.8", "0.9")), *made_in("baselines-2s3z")],
    },
    "docs/tuning.md": {
        "sweep": lambda: sweep("tune"),
        "sweep-values": lambda: sweep("tune-values"),
        "sweep-weak": lambda: sweep("tune-weak"),
        "sweep-qmix": lambda: sweep("tune-qmix"),
        "sweep-reward-scale": lambda: sweep("tune-reward-scale"),
        "sweep-values-2s3z": lambda: sweep("tune-values-2s3z"),
    },
    "docs/theory-off-policy.md": {
        "bias": bias,
        "named": lambda: verified("Named games", columns=(0, 1, 2, 3, 5)),
        "distance": distance,
        "spread": spread,
        "team": lambda: verified("By team size"),
        "actor": lambda: verified("Gradient of the surrogate"),
        "statements": statements,
    },
    "docs/studies.md": {"studied": studied},
    "docs/credit.md": {"critic": critic, "gap": gap},
    "docs/use.md": {"latency": latency, "policies": policies},
}


def main():
    for folder in kept():
        (folder / "README.md").write_text(card(folder))
    for document, blocks in DOCUMENTS.items():
        path = ROOT / document
        text = path.read_text()
        for name, make in blocks.items():
            block = "\n".join([f"<!-- {name} -->", "", *make(), "", f"<!-- end of {name} -->"])
            text, found = re.subn(rf"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.S)
            assert found == 1, name
        path.write_text(text)


if __name__ == "__main__":
    main()
