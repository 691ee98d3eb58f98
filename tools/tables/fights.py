"""Battles, the paper's map among them, and its other half, MABrax."""

from __future__ import annotations

import json
from statistics import mean

import numpy as np
from scipy import stats

from gpae.report.permutation import holm
from tables.cells import chance, equal, exchanged, markdown, tested
from tables.reports import differences
from tables.results import ROOT, areas, evaluations, load, made_with

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

PASSES = [
    ("mappo (passes16)", "mappo (passes4)"),
    ("gpae (passes16)", "gpae (passes4)"),
    ("gpae (passes4)", "mappo (passes4)"),
    ("gpae (passes16)", "mappo (passes16)"),
]


def of_suspects():
    """smacv2: pairs of methods, and what a window and half of its passes do to GPAE and MAPPO together."""
    scores = {name: 100 * np.array(best) for name, (_, best) in evaluations("smacv2-window").items()}

    def both(setting, than):
        return exchanged(scores, *([f"{name} ({x})" for name in ("gpae", "mappo")] for x in (setting, than)))

    tests = {
        "a window instead of none": both("window", "on-policy"),
        "half of its passes": both("window-half-epochs", "window"),
        "a window with half of the passes instead of none": both("window-half-epochs", "on-policy"),
    }
    corrected = holm({what: test.p for what, test in tests.items()})
    says = [
        f"{what} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[what])})"
        for what, test in tests.items()
    ]
    return [
        *differences("smacv2-window", SUSPECTS),
        "",
        f"GPAE and MAPPO together, runs exchanged within the method: {'; '.join(says)}.",
    ]


def of_maps():
    """GPAE over MAPPO on each of the paper's other maps, and on all of them."""
    report = load("maps/report.json")
    blocks = [*report["environments"], report["aggregate"] | {"env": None}]
    tests = {block["env"]: block["improvement"][0] for block in blocks}
    corrected = holm({env: e["p"] for env, e in tests.items() if env})
    rows = []
    for env, e in tests.items():
        often = "{:.2f} [{:.2f}, {:.2f}]".format(*e["probability"])
        where, holms = (f"`{env}`", chance(corrected[env])) if env else ("all four", "")
        rows.append([where, f"{100 * e['difference']:+.1f}", chance(e["p"]), holms, often])
    columns = ["best parameters, greedy", "GPAE over MAPPO, points", "p", f"Holm, of {len(corrected)}"]
    return markdown([*columns, "a seed of GPAE beats one of MAPPO: probability, 95 %"], rows)


def of_pooled_battles():
    """By map: GPAE in both forms and MAPPO with critics that look at each agent alike, tested against MAPPO."""
    names = (("mappo-pooled", "published"), ("gpae-pooled", "published"), ("gpae-pooled", "expected"))
    rows, tests = {}, {}
    for env in (block["env"] for block in load("pooled-battles/report.json")["environments"]):
        drawn = areas("pooled-battles", env, "win_rate")
        last = {
            method: mean(during[-1][2]) for method, (during, _) in evaluations("pooled-battles", env).items() if during
        }
        rows[env] = [f"`{env}`"]
        for name, setting in names:
            rows[env].append(f"{mean(drawn[name, setting][0]):.1%}, {last[f'{name} ({setting})']:.0%}")
        for key in names[1:]:
            tests[env, key] = tested(drawn[key][0], drawn[names[0]][0])
    for (env, key), p in holm({key: test.p for key, test in tests.items()}).items():
        rows[env].append(f"{100 * tests[env, key].difference:+.1f} (p {chance(tests[env, key].p)}, {chance(p)})")
    columns = ["", "MAPPO", "GPAE", "GPAE, expected", "GPAE over MAPPO while learning, points", "expected over MAPPO"]
    return markdown(columns, list(rows.values()))


def of_pooled_lambda():
    """The expected bootstrap over MAPPO with a lambda at which its errors do not grow."""
    drawn = areas("pooled-battles-lambda", metric="win_rate")
    ours, theirs = drawn["gpae-pooled", "expected"][0], drawn["mappo-pooled", "state"][0]
    test = tested(ours, theirs)
    return [
        f"Greedy win rate, mean of the evaluations, ten seeds: the expected bootstrap {mean(ours):.1%}, MAPPO "
        f"{mean(theirs):.1%}; {100 * test.difference:+.1f} points, exact p {equal(test.p)}."
    ]


def of_battles():
    """By the number of marines: win rates while learning and at the end, and GPAE and IPPO tested against MAPPO."""
    report, rows, tests, widths = load("battles/report.json"), {}, {}, {}
    for block in report["environments"]:
        env = block["env"]
        drawn = {name: x[0] for (name, _), x in areas("battles", env, "win_rate").items()}
        last = {method: mean(during[-1][2]) for method, (during, _) in evaluations("battles", env).items()}
        cells = (f"{mean(drawn[name]):.0%}, {last[name]:.0%}" for name in ("gpae", "mappo", "ippo"))
        rows[env] = [f"{env.split(':')[1].split('m')[0]} against as many", *cells]
        low, high = stats.ttest_ind(drawn["gpae"], drawn["mappo"], equal_var=False).confidence_interval()
        widths[env] = 50 * (high - low)
        for name in ("gpae", "ippo"):
            test = tested(drawn[name], drawn["mappo"])
            tests[env, name] = (test.difference, test.p)
        best = next(e for e in block["improvement"] if (e["method"], e["over"]) == ("gpae", "mappo"))
        tests[env, "best"] = (best["difference"], best["p"])
    corrected = holm({key: p for key, (_, p) in tests.items()})
    for (env, what), (difference, p) in tests.items():
        rows[env].append(f"{100 * difference:+.1f} (p {chance(p)}, {chance(corrected[env, what])})")
    columns = ["marines", "GPAE", "MAPPO", "IPPO", "GPAE over MAPPO while learning, points", "IPPO over MAPPO"]
    found = "; ".join(f"{row[0].split()[0]} marines {widths[env]:.0f}" for env, row in rows.items())
    return [
        *markdown([*columns, "GPAE over MAPPO, best parameters"], list(rows.values())),
        "",
        f"Half of the 95 % interval of GPAE over MAPPO while learning (Welch's t), in points: {found}.",
    ]


def of_more_battles():
    """GPAE over MAPPO with 27 marines, on the ten seeds that the question was not found on."""
    drawn = {name: x[0] for (name, _), x in areas("battles-27", metric="win_rate").items()}
    test = tested(drawn["gpae"], drawn["mappo"])
    return [
        f"Greedy win rate, mean of the evaluations, ten other seeds: GPAE {mean(drawn['gpae']):.1%}, MAPPO "
        f"{mean(drawn['mappo']):.1%}; {100 * test.difference:+.1f} points, exact p = {chance(test.p)}."
    ]


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
