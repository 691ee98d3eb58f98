"""What an advantage per agent is worth with critics that make no error, and with learnt ones, in one figure.

python tools/critics.py     # docs/images/critics.png from results/exact-critics, critic-passes, pooled-critics and
                            # credit-ladder

Dotted lines are the law of docs/credit-ladder.md; its one free number, how far an update without noise moves a logit,
is fitted to V(s) with the fewest agents, without error and on the right anew.
"""

from __future__ import annotations

import json
from statistics import median

import numpy as np

from gpae.diagnostics.style import COLOURS, drawing, save_png
from tables.critics import KINDS, exact_law, fitted_speed
from tables.results import ROOT, areas

PICTURE = ROOT / "docs" / "images" / "critics.png"
AGENTS = (2, 8, 32, 128)
POOLED = (8, 32, 64)
NEVER = 9_000
LOOKS = {
    "state": {"color": COLOURS[1], "marker": "s"},
    "others": {"color": COLOURS[0], "marker": "o"},
    "expected": {"color": COLOURS[2], "marker": "v"},
}
NAMES = {"state": "V(s): MAPPO", "others": "EQ^i as published: GPAE", "expected": "EQ^i, expected bootstrap"}
LEARNT = {"state": ("mappo", ""), "others": ("gpae", ""), "expected": ("gpae", "expected-")}


def exact(kind, agents, batch, also=""):
    """Steps to the goal of each seed; None where it was not run."""
    return areas("exact-critics", f"teamwork/{agents}").get(("exact", f"{kind}-near-{batch}{also}"), (None, None))[1]


def learnt():
    """Place on the axis, in order: kind -> steps of each seed, with 32 agents."""
    ladder = json.loads((ROOT / "results" / "credit-ladder" / "ladder.json").read_text())["runs"]
    at_32 = {
        (r["config"]["algorithm"], r["setting"]): [x or np.inf for x in r["steps_to"]]
        for r in ladder
        if r["config"]["env"] == "teamwork/32"
    }
    chosen = {"state": ("mappo", "on-policy"), "others": ("gpae", "on-policy"), "expected": ("gpae", "expected")}
    yield "updates of 64,\n4 passes", {kind: at_32[key] for kind, key in chosen.items()}
    found = areas("critic-passes", "teamwork/32")
    for title, setting in (("16,\n4 passes", "fast4"), ("16,\n40 passes", "fast40")):
        yield title, {kind: found[name, extra + setting][1] for kind, (name, extra) in LEARNT.items()}
    yield "16,\nno error", {kind: exact(kind, 32, 16) for kind in KINDS}
    for title, setting in (("slow,\n4 passes", "slow4"), ("slow,\n40 passes", "slow40")):
        yield title, {kind: found[name, extra + setting][1] for kind, (name, extra) in LEARNT.items()}


def pooled(kind, agents):
    """Steps of each seed where learnt critics look at each agent alike and policies are slow; None: not run."""
    study = "pooled-critics-64" if agents > POOLED[1] else "pooled-critics"
    name, extra = LEARNT[kind]
    return areas(study, f"teamwork/{agents}").get((f"{name}-pooled", f"{extra}slow"), (None, None))[1]


def dot(axes, x, steps, kind, never, **more):
    """The median, and from the first to the third quartile; seeds that never got there stand at the top."""
    steps = sorted(min(s, never) for s in steps)
    axes.vlines(x, *np.quantile(steps, (0.25, 0.75)), color=LOOKS[kind]["color"], linewidth=1.0, alpha=0.6)
    axes.plot(x, median(steps), linestyle="none", markersize=5, **LOOKS[kind], **more)


def main():
    from matplotlib.figure import Figure

    speed = fitted_speed()
    with drawing():
        figure = Figure(figsize=(14.5, 4.4), dpi=150, layout="constrained")
        *sides, right, last = figure.subplots(1, 4, sharey=True, width_ratios=(3, 3, 5, 3))
        for axes, batch in zip(sides, (64, 16), strict=True):
            for i, kind in enumerate(KINDS):
                for n in AGENTS:
                    if (steps := exact(kind, n, batch)) is not None:
                        named = {"label": NAMES[kind]} if n == AGENTS[0] else {}
                        dot(axes, n * 1.06 ** (i - 1), steps, kind, NEVER, **named)
                    if (steps := exact(kind, n, batch, "-unshared")) is not None:
                        dot(axes, n * 1.06 ** (i - 1), steps, kind, NEVER, fillstyle="none")
                predicted = [exact_law(kind, n, batch, speed) for n in AGENTS]
                axes.plot(AGENTS, predicted, linestyle=":", color=LOOKS[kind]["color"])
            axes.set(xscale="log", yscale="log", xlabel="agents")
            axes.set_xticks(AGENTS, [str(n) for n in AGENTS])
            axes.set_title(f"no error, updates of {batch} steps; dotted: the law", loc="left", fontsize=9)
        sides[0].set_ylabel("environment steps to 90 % of the optimum")
        sides[0].plot(
            [], [], "o", color="0.5", fillstyle="none", markersize=5, label="hollow: a network for each agent"
        )
        sides[0].legend(frameon=False, fontsize=8, loc="upper left")
        titles = []
        for place, (title, found) in enumerate(learnt()):
            titles.append(title)
            for i, kind in enumerate(KINDS):
                dot(right, place + 0.18 * (i - 1), found[kind], kind, NEVER)
        right.set_xticks(range(len(titles)), titles, fontsize=8)
        right.set_title("learnt critics, 32 agents, by updates and passes of the critic", loc="left", fontsize=9)
        anew = fitted_speed(pooled("state", POOLED[0]), POOLED[0], 16)
        for i, kind in enumerate(KINDS):
            for n in POOLED:
                if (steps := pooled(kind, n)) is not None:
                    dot(last, n * 1.06 ** (i - 1), steps, kind, NEVER)
            predicted = [exact_law(kind, n, 16, anew) for n in POOLED]
            last.plot(POOLED, predicted, linestyle=":", color=LOOKS[kind]["color"])
        last.set(xscale="log", xlabel="agents")
        last.set_xticks(POOLED, [str(n) for n in POOLED])
        last.set_title("learnt, each agent alike, slow, 16", loc="left", fontsize=9)
        goals = [100, 200, 500, 1000, 2000, 5000]
        for axes in (*sides, right, last):
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.tick_params(axis="y", which="minor", left=False, labelleft=False)
            axes.grid(color="0.93", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        sides[0].set_yticks([*goals, NEVER], [*(f"{goal:,}" for goal in goals), "never"])
        save_png(figure, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: the law with a speed of {speed:.3f}, on the right {anew:.4f}")


if __name__ == "__main__":
    main()
