"""What a new user is shown: the first training, policies to take, what looks into them."""

from __future__ import annotations

import json
from statistics import mean

from gpae.algorithms import ALGORITHMS
from gpae.report.card import interval
from gpae.runs.shared import read_evaluation, read_shared
from tables.cells import in_time, markdown
from tables.results import HARDWARE, ROOT, evaluations, load, made_with
from tables.theory import verified


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
        more = " more" if config.get("from") else ""
        seed = f"seed {config['seed']}" + (f", of {n} trained" if (n := len(about["seeds"])) > 1 else "")
        lines.append(
            f"| `{folder.name}` | `{config['env']}`{options} | `{config['algorithm']}` | {about['parameters']}, after"
            f" {steps:,} steps{more}; {seed} | {' | '.join(cells)} | {size / 1e6:.2f} MB |"
        )
    return [
        *lines,
        "",
        "Win rates over new episodes; returns where nothing is won. What made each, and from what"
        " those with so many steps more were begun, stands on its card.",
    ]
