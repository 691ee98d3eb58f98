"""Benchmarks."""

from __future__ import annotations

from statistics import median

from tables.cells import markdown
from tables.results import load, made_with

MAPS = ("smax/3m", "smax/5m_vs_6m", "smax/27m_vs_30m")


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
