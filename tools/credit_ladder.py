"""The credit ladder: steps to 90 % of the optimum against the number of agents, measured and predicted, in one figure.

python tools/credit_ladder.py runs/credit-ladder     # gathers what has finished into results/credit-ladder, and draws
python tools/credit_ladder.py                        # draws again from results/credit-ladder/ladder.json

The prediction is that of docs/credit-ladder.md for critics without error; its one free number, how far an update
without noise moves a logit, is fitted to MAPPO with the fewest agents.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import median

import numpy as np

from gpae.diagnostics.style import COLOURS, LINES, MARKERS, drawing, save_png
from gpae.exact.teamwork import Law, Team, predicted_steps
from gpae.runs.directory import read_config
from gpae.runs.evaluations import entries, lacking, read_evaluations
from gpae.runs.files import write_json
from gpae.runs.metrics import read_metrics

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "results" / "credit-ladder"
PICTURE = ROOT / "docs" / "images" / "credit-ladder.png"
GOAL = 0.9
LAWS = {
    "gpae": "others",
    "gpae-state": "state",
    "mappo": "state",
    "ippo": "state",
    "coma": "one-step",
    "coma-q": "action-values",
}
OPTIONS = {"length": int, "cues": int, "num_actions": int, "tasks": str, "noise": float, "delay": int}


def gather(runs):
    """One entry per finished run: settings, steps to the goal of every seed, and the advantage's size over training."""
    found = []
    for path in sorted(p for p in runs.iterdir() if (p / "config.json").exists()):
        config, evaluations = read_config(path), read_evaluations(path)
        seeds = range(config["seed"], config["seed"] + config["seeds"])
        if not config["env"].startswith("teamwork/"):
            continue
        if lacking(evaluations, config["env"], config["algorithm"], seeds):
            print(f"{path.name} is left out: it has not finished")
            continue
        curves = {
            entry.seed: [(e["step_count"], float(np.mean(e["sampled_return"]))) for e in entry.evaluations]
            for entry in entries(evaluations, path / "evaluations.json")
        }
        found.append(
            {
                "run": path.name,
                "setting": path.name.split(f"-{config['algorithm']}-", 1)[-1],
                "config": config,
                "curve": np.round(np.mean([[y for _, y in curve] for curve in curves.values()], axis=0), 4).tolist(),
                "steps": [step for step, _ in next(iter(curves.values()))],
                "steps_to": [next((step for step, y in curve if y >= GOAL), None) for curve in curves.values()],
                "advantage_rms": advantage_size(read_metrics(path), config, next(iter(curves.values()))),
            }
        )
    return found


def advantage_size(metrics, config, curve):
    """Root mean square of the advantages at each evaluation, mean over seeds, in the reward's own units."""
    sizes = []
    for before, (step, _) in zip([0, *(s for s, _ in curve)], curve, strict=False):
        near = [m["advantage_rms"] for m in metrics if "advantage_rms" in m and before < m["env_steps"] <= step]
        sizes.append(round(float(np.mean(near)) / config["reward_scale"], 6) if near else None)
    return sizes


def team_of(config):
    options = dict(option.split("=") for option in config["env_options"])
    known = {name: OPTIONS[name](value) for name, value in options.items() if name in OPTIONS}
    return Team(
        agents=int(config["env"].split("/")[1]),
        length=known.get("length", 8),
        cues=known.get("cues", 2),
        actions=known.get("num_actions", 4),
        alike=known.get("tasks", "own") == "alike",
        shared=config.get("share_parameters", "true") == "true",
        noise=known.get("noise", 0.0),
        delay=known.get("delay", 0),
        gamma=config["gamma"],
    )


def law_of(config):
    law = LAWS.get(config["algorithm"])
    return "others-expected" if law == "others" and config.get("bootstrap") in ("expected",) else law


def middle(steps):
    """Median over seeds; those that never got there are infinitely late."""
    late = median(math.inf if s is None else s for s in steps)
    return None if late == math.inf else late


def predictions(config, sizes, speed):
    """Steps by the law at each number of agents."""
    batch = config["num_envs"] * config["rollout_length"]
    teams = [team_of(config | {"env": f"teamwork/{n}"}) for n in sizes]
    laws = [Law(team, law_of(config), config["lambda"]) for team in teams]
    return [predicted_steps(law, batch=batch, speed=speed) for law in laws]


def fitted(lines, sizes):
    """The speed at which the law agrees with MAPPO where there are fewest agents; None if that cell is missing."""
    runs = {r["config"]["env"]: r for r in lines.get("mappo", [])}
    smallest = runs.get(f"teamwork/{sizes[0]}")
    goal = smallest and middle(smallest["steps_to"])
    if not goal:
        return None
    speeds = np.geomspace(0.003, 3.0, 200)
    return min(speeds, key=lambda v: abs(math.log(predictions(smallest["config"], sizes[:1], v)[0] / goal)))


def by_method(found, settings):
    """Label -> runs by number of agents, for these settings; the first one is not named."""
    lines = {}
    for run in found:
        if run["setting"] in settings:
            extra = "" if run["setting"] == settings[0] else f" ({run['setting']})"
            lines.setdefault(run["config"]["algorithm"] + extra, []).append(run)
    return {k: sorted(v, key=lambda r: int(r["config"]["env"].split("/")[1])) for k, v in lines.items()}


def draw(found):
    """Left: steps against agents. Right: size of the advantages against skill, at the most agents."""
    from matplotlib.figure import Figure

    lines = by_method(found, ("on-policy", "expected"))
    sizes = sorted({int(r["config"]["env"].split("/")[1]) for runs in lines.values() for r in runs})
    speed = fitted(lines, sizes)
    with drawing():
        figure = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2)
        for i, (label, runs) in enumerate(lines.items()):
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i]}
            reached = [(int(r["config"]["env"].split("/")[1]), middle(r["steps_to"])) for r in runs]
            points = [(n, s) for n, s in reached if s]
            left.plot(*zip(*points, strict=True) if points else ([], []), linestyle="-", label=label, **style)
            if speed and law_of(runs[0]["config"]):
                left.plot(sizes, predictions(runs[0]["config"], sizes, speed), ":", color=style["color"])
            draw_size(right, runs, sizes[-1], label, style)
        left.set(xscale="log", yscale="log", xlabel="agents", ylabel=f"environment steps to {GOAL:.0%} of the optimum")
        left.set_xticks(sizes, [str(n) for n in sizes])
        left.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        left.set_title("solid: median of the seeds; dotted: law, critics without error", loc="left", fontsize=9)
        right.set(yscale="log", xlabel="probability of being right", ylabel="standard deviation of the advantage")
        right.set_title(f"{sizes[-1]} agents; dotted: law, critics without error", loc="left", fontsize=9)
        left.legend(frameon=False, fontsize=8)
        for axes in (left, right):
            axes.grid(color="0.9", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        save_png(figure, PICTURE)


def draw_size(axes, runs, agents, label, style):
    """What was measured at the most agents, and the law over the rows of an episode."""
    for run in (r for r in runs if r["config"]["env"] == f"teamwork/{agents}"):
        pairs = [(p, s) for p, s in zip(run["curve"], run["advantage_rms"], strict=True) if s]
        if not pairs:
            continue
        axes.plot(*zip(*pairs, strict=True), linestyle="none", markersize=4, label=label, **style)
        team, estimator = team_of(run["config"]), law_of(run["config"])
        if estimator:
            skill = np.linspace(1 / team.actions, 0.99, 50)
            lambda_, lengths = run["config"]["lambda"], range(1, team.length + 1)
            laws = [Law(team, estimator, lambda_, rows=rows) for rows in lengths]
            law_sizes = [math.sqrt(np.mean([law.advantage_variance(p) for law in laws])) for p in skill]
            axes.plot(skill, law_sizes, linestyle=LINES[3], color=style["color"])


def table(found):
    """Markdown: median steps of each method by number of agents."""
    sizes = sorted({int(r["config"]["env"].split("/")[1]) for r in found})
    rows = {}
    for run in found:
        name = f"{run['config']['algorithm']} ({run['setting']})"
        rows.setdefault(name, {})[int(run["config"]["env"].split("/")[1])] = run
    lines = [f"| method | {' | '.join(f'N = {n}' for n in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name, runs in rows.items():
        cells = []
        for n in sizes:
            steps = runs[n]["steps_to"] if n in runs else []
            reached = [s for s in steps if s is not None]
            when = f"{middle(steps):,.0f}" if steps and middle(steps) else "not reached" if steps else ""
            cells.append(when + (f" ({len(reached)} of {len(steps)})" if len(reached) < len(steps) else ""))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(words):
    KEPT.mkdir(parents=True, exist_ok=True)
    if words:
        write_json(KEPT / "ladder.json", {"runs": gather(Path(words[0]))})
    found = json.loads((KEPT / "ladder.json").read_text())["runs"]
    if not found:
        sys.exit("no run has finished")
    (KEPT / "ladder.md").write_text("\n".join([*table(found), ""]))
    draw(found)
    print(f"{PICTURE.relative_to(ROOT)} from {len(found)} runs")


if __name__ == "__main__":
    main(sys.argv[1:])
