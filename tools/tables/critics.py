"""What critics cost and bring on those teams: without error, with more passes, of another kind."""

from __future__ import annotations

import itertools
from statistics import geometric_mean, mean, median

import numpy as np

from gpae.exact.teamwork import Law, Team, predicted_steps
from gpae.report.permutation import holm
from tables.cells import chance, markdown, soon, tested
from tables.ladder import LAMBDAS
from tables.results import areas, load, made_with

KINDS = ("state", "others", "expected")

RATES = {"slow": "3e-4", "middle": "1e-3", "fast": "3e-3"}

POOL = {"imports": "studies/pooled_critic.py"}


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


def noise_of_law(agents, p, draws):
    """Trace of the covariance of an agent's gradient in its logits with exact values, summed over an episode's steps.

    Of V(s), EQ^i as published, and with the expected bootstrap; lambda .5, 4 actions, wrong ones equally likely. With
    W = |e_a - pi|^2 of the action taken it is E W A^2 - |E (e_a - pi) A|^2, and A is x^i and what does not depend on a.
    V(s) is a mean of EQ^i over `draws` of the others' actions, as `gpae inspect gradient` makes it, so that a part of
    their variance is left in it: before a step, which the value after the step before it takes back but for lambda, and
    after a step where EQ^i stands before it.
    """
    team, found, lambda_, gamma = Team(agents=agents, cues=1), [], 0.5, 0.99
    policy = np.array([p, *[(1 - p) / 3] * 3])
    directions, x = np.eye(4) - policy, np.array([1 - p, -p, -p, -p])
    size = policy @ np.sum(directions**2, axis=1)
    own = policy @ (np.sum(directions**2, axis=1) * x**2) - np.sum((policy * x @ directions) ** 2)
    for estimator in ("state", "others", "others-expected"):
        noise = 0.0
        for rows in range(1, team.length + 1):
            law = Law(team, estimator, lambda_, rows=rows)
            after = gamma * (gamma * lambda_) ** np.arange(rows - 1)
            left = {"state": 1 + np.sum((after * (1 - lambda_)) ** 2), "others-expected": np.sum(after**2)}
            drawn = left.get(estimator, 0.0) * (agents - 1) / draws * law.scale**2 * p * (1 - p)
            rest = law.advantage_variance(p) - law.scale**2 * p * (1 - p) + drawn
            noise += law.scale**2 * own + size * rest
        found.append(noise)
    return found


def gradient_noise():
    """By place, critic and stage: from how many steps V(s) has more signal than noise, and how many times these EQ."""
    kinds = ("V(s) before and after", "EQ before and after", "EQ before, V(s) after")
    rows = []
    for env, algorithms in load("gradient_noise.json").items():
        for (algorithm, stages), stage in itertools.product(algorithms.items(), ("first", "held still", "last")):
            numbers = [name for name in stages if name.isdigit()]
            of = stages[{"first": numbers[0], "last": numbers[-1]}.get(stage, stage)]
            critic = "each agent alike" if algorithm.endswith("-pooled") else "usual"
            when = f"{of['steps']:,} ({of['sampled']:.2f})"
            if stage == "held still":
                when = f"the same policy, {of['updates']} updates of the critic later"
            seeds, row = list(of["kinds"].values()), [f"`{env}`", critic, when]
            for kind, what in ((kinds[0], "steps"), (kinds[1], "times"), (kinds[2], "times")):
                found, form = [seed[kind][what] for seed in seeds], "{:,.0f}" if what == "steps" else "{:.2f}"
                known = all(x is not None for x in found)
                mid = form.format(geometric_mean(found)) if known else "no signal found"
                spread = f" ({form.format(min(found))} to {form.format(max(found))})"
                row.append(mid + spread if known and len(found) > 1 else mid)
            rows.append(row)
            if env.startswith("teamwork/") and stage != "held still" and critic != "usual":
                state, *others = noise_of_law(int(env.removeprefix("teamwork/")), of["sampled"], of["draws"])
                rows.append(
                    [f"`{env}`", "without error: the law, as measured", when, "", *(f"{x / state:.2f}" for x in others)]
                )
    columns = ["", "critic", "after steps (sampled score)", "V(s): steps", *(f"{kind}: times" for kind in kinds[1:])]
    stages = [stage for algorithms in load("gradient_noise.json").values() for stage in algorithms["gpae"].values()]
    made = made_with(next(stage["versions"] for stage in stages if "versions" in stage), "one CPU core, others beside")
    return [
        *markdown(columns, rows),
        "",
        "`python studies/gradient_noise.py --out results/gradient_noise.json`, with `--seeds 1` where one is shown; "
        + f"{made}.",
    ]
