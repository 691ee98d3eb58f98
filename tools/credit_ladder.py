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

from gpae.diagnostics.style import COLOURS, LINES, drawing, save_png
from gpae.exact.teamwork import Law, Team, predicted_steps
from gpae.report.permutation import holm, permutation_test
from gpae.runs.directory import read_config
from gpae.runs.evaluations import entries, lacking, read_evaluations
from gpae.runs.files import read_json, write_json
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
                "versions": {k: v for k, v in read_json(path / "versions.json").items() if k != "command"},
                "curve": np.round(np.mean([[y for _, y in curve] for curve in curves.values()], axis=0), 4).tolist(),
                "steps": [step for step, _ in next(iter(curves.values()))],
                "steps_to": [next((step for step, y in curve if y >= GOAL), None) for curve in curves.values()],
                "areas": [round(float(np.mean([y for _, y in curve])), 5) for curve in curves.values()],
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
    """Left: steps against agents, without old experience. Right: against the window, at the most agents."""
    from matplotlib.figure import Figure

    lines = by_method(found, ("on-policy", "expected"))
    sizes = sorted({int(r["config"]["env"].split("/")[1]) for runs in lines.values() for r in runs})
    speed = fitted(lines, sizes)
    with drawing():
        figure = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 4))
        never = 1.25 * max(r["steps"][-1] for runs in lines.values() for r in runs)
        for i, (label, runs) in enumerate(lines.items()):
            draw_steps(
                left, [(int(r["config"]["env"].split("/")[1]), r) for r in runs], label, never, i - len(lines) // 2
            )
            if speed and label in ("gpae", "mappo", "gpae (expected)"):
                law = predictions(runs[0]["config"], sizes, speed)
                left.plot(sizes, law, linestyle=":", color=style_of(label)["color"])
        left.set(xscale="log", yscale="log", xlabel="agents")
        left.set_ylabel(f"environment steps to {GOAL:.0%} of the optimum")
        left.set_xticks(sizes, [str(n) for n in sizes])
        left.set_title("on-policy; dotted: the law, critics without error", loc="left", fontsize=9)
        for i, (label, runs) in enumerate(windows(found, sizes[-1]).items()):
            draw_steps(right, runs, label, never, i - 4, log=2)
        ticks = sorted({window for runs in windows(found, sizes[-1]).values() for window, _ in runs})
        right.set(xscale="log", xlabel="segments of experience in an update (window)")
        right.set_xticks(ticks, [str(n) for n in ticks])
        right.set_title(f"old experience, {sizes[-1]} agents", loc="left", fontsize=9)
        for axes in (left, right):
            axes.axhline(never, color="0.8", linewidth=0.8)
            if axes.get_legend_handles_labels()[0]:  # a study without windows has none
                axes.legend(frameon=False, fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0.0, 0.93))
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.tick_params(axis="y", which="minor", left=False, labelleft=False)
            axes.grid(color="0.93", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        left.text(sizes[0], never * 1.03, "never, by half of the seeds or more", fontsize=7, color="0.4", va="bottom")
        goals = [500, 1000, 2000, 5000]
        left.set_yticks(goals, [f"{goal:,}" for goal in goals])
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        save_png(figure, PICTURE)
        sized = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
        axes = sized.add_subplot()
        for label, runs in lines.items():
            draw_size(axes, runs, sizes[-1], label, style_of(label))
        axes.set(yscale="log", xlabel="probability of being right", ylabel="standard deviation of the advantage")
        axes.set_title(f"{sizes[-1]} agents; dotted: the law, critics without error", loc="left", fontsize=9)
        axes.legend(frameon=False, fontsize=7)
        axes.grid(color="0.93", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        save_png(sized, PICTURE.with_stem(PICTURE.stem + "-size"))


STYLES = {
    "gpae": (COLOURS[0], "o"),
    "gpae (expected)": (COLOURS[2], "v"),
    "gpae-state": (COLOURS[5], "P"),
    "mappo": (COLOURS[1], "s"),
    "ippo": (COLOURS[4], "^"),
    "coma": (COLOURS[3], "D"),
    "dae": (COLOURS[6], "X"),
}
GREY = {"coma-q": "<", "dop": ">", "vdn": "h", "qmix": "*", "st": "<", "it": ">", "none": "h", "corrected": "*"}


def style_of(label):
    """Colour and marker; grey: methods that are far behind, and variants of GPAE's correction."""
    if label in STYLES:
        return dict(zip(("color", "marker"), STYLES[label], strict=True))
    return {"color": "0.6", "marker": GREY.get(label.split(", ")[-1], "p")}


def windows(found, agents):
    """Label -> (window, run) at so many agents; variants of GPAE by the name that their settings have in the study."""
    lines = {}
    for run in found:
        window, _, variant = run["setting"].removeprefix("window").partition("-")
        if run["config"]["env"] != f"teamwork/{agents}" or not (run["setting"] == "on-policy" or window.isdigit()):
            continue
        name = run["config"]["algorithm"]
        if run["setting"] == "on-policy":
            if any(r["setting"].startswith("window") and r["config"]["algorithm"] == name for r in found):
                lines.setdefault(name, []).append((1, run))
        else:
            lines.setdefault(f"{name}, {variant}" if variant else name, []).append((int(window), run))
    return {label: sorted(runs, key=lambda pair: pair[0]) for label, runs in sorted(lines.items())}


def draw_steps(axes, runs, label, never, place, log=10):
    """Medians of the seeds, and from their first to their third quartile; side by side where methods are level."""
    style, shift = style_of(label), log ** (0.012 * place)
    xs = [x * shift for x, _ in runs]
    steps = [sorted(never if s is None else s for s in run["steps_to"]) for _, run in runs]
    middles = [never if middle(run["steps_to"]) is None else middle(run["steps_to"]) for _, run in runs]
    low, high = ([np.quantile(s, q) for s in steps] for q in (0.25, 0.75))
    axes.vlines(xs, low, high, color=style["color"], linewidth=1.0, alpha=0.6)
    axes.plot(xs, middles, linestyle="-", linewidth=1.2, markersize=5, label=label, **style)


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


def compared(found):
    """Markdown: at each number of agents, area under the curve of each method, and its difference from MAPPO's."""
    lines = []
    for agents in sorted({int(r["config"]["env"].split("/")[1]) for r in found}):
        here = {
            (r["config"]["algorithm"], r["setting"]): r for r in found if r["config"]["env"] == f"teamwork/{agents}"
        }
        tests = {}
        for (name, setting), run in here.items():
            against = ("mappo", setting.split("-")[0] if setting.startswith("window") else "on-policy")
            if against in here and (name, setting) != against:
                tests[name, setting] = (
                    against,
                    permutation_test(
                        np.array(run["areas"])[:, None], np.array(here[against]["areas"])[:, None], rounding=5e-6
                    ),
                )
        corrected = holm({key: test.p for key, (_, test) in tests.items()})
        lines += [
            "",
            f"| N = {agents} | mean return drawn while learning | over | by | p (Holm, of {len(tests)}) |",
            "|---|---|---|---|---|",
        ]
        for key, run in sorted(here.items(), key=lambda pair: -float(np.mean(pair[1]["areas"]))):
            cells = [f"{key[0]} ({key[1]})", f"{np.mean(run['areas']):.3f}", "", "", ""]
            if key in tests:
                (name, setting), _ = tests[key]
                by = np.mean(run["areas"]) - np.mean(here[name, setting]["areas"])
                cells[2:] = [
                    f"{name} ({setting})",
                    f"{by:+.3f}",
                    "< .001" if corrected[key] < 0.001 else f"{corrected[key]:.3f}",
                ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(words):
    KEPT.mkdir(parents=True, exist_ok=True)
    if words:
        write_json(KEPT / "ladder.json", {"runs": gather(Path(words[0]))})
    found = json.loads((KEPT / "ladder.json").read_text())["runs"]
    if not found:
        sys.exit("no run has finished")
    (KEPT / "ladder.md").write_text("\n".join([*table(found), *compared(found), ""]))
    draw(found)
    print(f"{PICTURE.relative_to(ROOT)} from {len(found)} runs")


if __name__ == "__main__":
    main(sys.argv[1:])
