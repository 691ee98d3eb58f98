"""Fills the README's tables from results/, between their markers: no figure in it is typed in.

python benchmarks/_readme.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[1]


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
        "results/quickstart/seed_K.json`; " + made_with(versions, "2 CPU cores") + ".",
    ]


def printed():
    lines = (ROOT / "results" / "quickstart" / "seed_0.log").read_text().splitlines()
    return ["```", *lines[:11], "...", *lines[-4:], "```"]


def benchmarks():
    smax, overhead, speed = load("smax_step.json"), load("estimator_overhead.json"), load("training_speed.json")
    hardware = f"{smax['hardware']['cpus']} CPU cores ({smax['hardware']['machine']})"
    lines = [
        "| SMAX step with automatic reset, 128 environments | ours | JaxMARL | JaxMARL / ours |",
        "|---|---|---|---|",
    ]
    for name, found in smax["results"].items():
        times = found["milliseconds_per_step"]
        lines.append(
            f"| {name} | {times['gpae']} ms | {times['jaxmarl']} ms | {found['ratios']['jaxmarl/gpae']} "
            f"(every final observation kept: {found['ratios']['jaxmarl/gpae_all_finals']}) |"
        )
    lines += ["", "`python benchmarks/smax_step.py`", ""]
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
        "| steps/s | rollout / values / optimisation | peak memory |",
        "|---|---|---|---|",
    ]
    for name, algorithms in speed["results"].items():
        for algorithm, found in algorithms.items():
            parts = " / ".join(f"{found['seconds'][p]:.2f} s" for p in ("rollout", "values", "optimise"))
            peak = f"{found['peak_megabytes'] / 1000:.1f} GB"
            lines.append(f"| {name}, {algorithm} | {found['steps_per_second']:,} | {parts} | {peak} |")
    maps, rounds = " ".join(speed["results"]), speed["settings"]["rounds"]
    lines += [
        "",
        f"`python benchmarks/training_speed.py --maps {maps} --rounds {rounds}`",
        "",
        "All: " + made_with(smax["versions"], hardware) + ".",
    ]
    return lines


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, lines in {"quickstart": quickstart(), "printed": printed(), "benchmarks": benchmarks()}.items():
        block = "\n".join([f"<!-- {name} -->", "", *lines, "", f"<!-- end of {name} -->"])
        text, found = re.subn(rf"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.S)
        assert found == 1, name
    readme.write_text(text)


if __name__ == "__main__":
    main()
