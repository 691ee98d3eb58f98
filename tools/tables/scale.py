"""What the scale of the inputs decides: normalised or as they are, on several maps."""

from __future__ import annotations

import numpy as np

from gpae.report.permutation import holm
from tables.cells import chance, equal, exchanged, markdown
from tables.results import areas, evaluations, load, made_with


def of_inputs():
    """What of the inputs' variance is health, which rewards are made of, and what takes most of it."""
    found, rows = load("input_scales.json"), []
    for env, place in found["places"].items():
        of = {
            input: [place[input][form] for form in ("layer_norm", "normalised")] for input in ("state", "observations")
        }
        parts = [
            *([x[kind] for x in of["state"]] for kind in ("health", "position")),
            [x["health"] for x in of["observations"]],
            [x["last attack"] + x["cooldown"] for x in of["observations"]],
        ]
        cells = (" / ".join(f"{100 * share:.1f}" for share in part) for part in parts)
        rows.append([f"`{env}`, SMAX {place['version']}", *cells])
    columns = ["state: health", "state: positions", "observations: health", "observations: last attacks, cooldowns"]
    made = made_with(found["versions"], "two CPU cores, others beside")
    return [
        *markdown(["% of the variance, after LayerNorm / normalised", *columns], rows),
        "",
        f"{found['rows']} steps of {found['envs']} battles on each map, allies acting at random. "
        f"`python studies/input_scales.py --out results/input_scales.json`; {made}.",
    ]


VIEWS = {
    "the state": ("mappo", "gpae"),
    "the state, normalised": ("mappo (scaled-state)", "gpae (scaled-state)"),
    "the state, all inputs normalised": ("mappo (normalised)", "gpae (normalised)"),
    "what the agent sees": ("ippo", "gpae-seen"),
    "what the agent sees, all inputs normalised": ("ippo (normalised)", None),
}
"""What a critic is shown -> the method with V, and the one with EQ, where it was run."""


def rates(*studies, env=None):
    """Of every method the greedy win rates of its seeds in %: means of what was seen while learning, and the best's."""
    learning, best = {}, {}
    for study in studies:
        for (name, setting), (found, _) in areas(study, env, metric="win_rate").items():
            learning[f"{name} ({setting})" if setting else name] = 100 * np.array(found)
        best |= {name: 100 * np.array(found) for name, (_, found) in evaluations(study, env).items()}
    return learning, best


def said(tests):
    """Tests of win rates in words, corrected for their number."""
    corrected = holm({what: test.p for what, test in tests.items()})
    return "; ".join(
        f"{what} {test.difference:+.1f} points, p {equal(test.p)} (Holm's {equal(corrected[what])})"
        for what, test in tests.items()
    )


def of_critics():
    """3s_vs_5z: V or EQ, of the state, of the state normalised, or of what the agent sees. What decides?"""
    learning, best = rates("3s_vs_5z")
    rows = [
        [view, *(f"{scores[kind].mean():.1f}" if kind else "" for scores in (learning, best) for kind in pair)]
        for view, pair in VIEWS.items()
    ]
    state, scaled, normalised, seen, seen_normalised = VIEWS.values()
    both = [pair for pair in VIEWS.values() if None not in pair]
    tests = {
        "what the agent sees instead of the state": exchanged(learning, seen, state),
        "the state normalised instead of as it is": exchanged(learning, scaled, state),
        "what the agents see normalised besides": exchanged(learning, normalised, scaled),
        "the same with IPPO, which sees nothing else": exchanged(learning, seen_normalised[:1], seen[:1]),
        "what the agent sees instead of the normalised state": exchanged(learning, seen, scaled),
        "EQ instead of V, whatever is shown": exchanged(learning, [eq for _, eq in both], [v for v, _ in both]),
    }
    columns = [f"{name}, {time}" for time in ("while learning", "best parameters") for name in ("V", "EQ")]
    return [
        *markdown(["greedy win rate in %", *columns], rows),
        "",
        "Means of five seeds; while learning: of the twenty evaluations. While learning, by permutation tests in which "
        f"runs are exchanged within the other factor: {said(tests)}.",
    ]


def of_views():
    """The paper's other maps: MAPPO and GPAE with inputs as they are and normalised, and IPPO."""
    kinds = ["mappo", "mappo (normalised)", "gpae", "gpae (normalised)", "ippo"]
    rows, everywhere = [], {}
    for env in [block["env"] for block in load("maps-views/report.json")["environments"]]:
        here, best = rates("maps", "maps-views", env=env)
        everywhere |= {(env, kind): scores for kind, scores in here.items()}
        cells = (f"{here[kind].mean():.1f} ({best[kind].mean():.1f})" if kind in here else "" for kind in kinds)
        rows.append([f"`{env}`", *cells])
    envs = list(dict.fromkeys(env for env, _ in everywhere))

    def test(one, other, where):
        return exchanged(everywhere, *([(env, kind) for env in where for kind in these] for these in (one, other)))

    both, normalised = ("mappo", "gpae"), ("mappo (normalised)", "gpae (normalised)")
    tests = {
        **{f"normalised inputs on {env.removeprefix('smax/')}": test(normalised, both, [env]) for env in envs},
        "on all of them": test(normalised, both, envs),
        "GPAE instead of MAPPO, both normalised": test(normalised[1:], normalised[:1], envs),
    }
    return [
        *markdown(["greedy win rate in % while learning (of the best parameters)", *(f"`{k}`" for k in kinds)], rows),
        "",
        f"Five seeds. While learning, by permutation tests within map and method: {said(tests)}.",
    ]


def of_easy_map():
    """2s3z: MAPPO and GPAE with inputs as they are, and normalised."""
    learning, best = rates("2s3z-scale")
    views = {"inputs as they are": "{}", "normalised": "{} (normalised)"}
    plain, normalised = ([name.format(x) for x in ("mappo", "gpae")] for name in views.values())
    rows = [
        [view, *(f"{scores[name.format(x)].mean():.1f}" for scores in (learning, best) for x in ("mappo", "gpae"))]
        for view, name in views.items()
    ]
    tests = {
        "normalised instead of as they are": exchanged(learning, normalised, plain),
        "GPAE instead of MAPPO, normalised": exchanged(learning, normalised[1:], normalised[:1]),
    }
    columns = [f"{name}, {time}" for time in ("while learning", "best parameters") for name in ("`mappo`", "`gpae`")]
    return [
        *markdown(["smax/2s3z, greedy win rate in %", *columns], rows),
        "",
        f"Five seeds. While learning, by permutation tests within the method: {said(tests)}.",
    ]


def of_smacv2():
    """smacv2_5_units: MAPPO and IPPO, whose share is it?"""
    learning, best = rates("maps", "maps-views", "smacv2-scale", env="smax/smacv2_5_units")
    kinds = {
        "`mappo`, inputs as they are": "mappo",
        "`mappo`, the state normalised": "mappo (scaled-state)",
        "`mappo`, all inputs normalised": "mappo (normalised)",
        "`ippo`, inputs as they are": "ippo",
        "`ippo`, all inputs normalised": "ippo (normalised)",
    }
    rows = [[name, f"{learning[kind].mean():.1f}", f"{best[kind].mean():.1f}"] for name, kind in kinds.items()]
    tests = {
        "MAPPO, the state normalised": exchanged(learning, ["mappo (scaled-state)"], ["mappo"]),
        "what the agents see besides": exchanged(learning, ["mappo (normalised)"], ["mappo (scaled-state)"]),
        "IPPO, all inputs normalised": exchanged(learning, ["ippo (normalised)"], ["ippo"]),
    }
    return [
        *markdown(["smax/smacv2_5_units, SMAX 0.1: greedy win rate in %", "while learning", "best parameters"], rows),
        "",
        f"Five seeds. While learning: {said(tests)}.",
    ]


def of_rules():
    """MAPPO by today's rules and by the paper's, with inputs as they are and normalised."""
    kinds, rows, tests = ("mappo", "mappo (normalised)"), [], {}
    places = {
        ("6h_vs_8z", "0.1"): ("maps", "maps-views"),
        ("6h_vs_8z", "0.2"): ("scale-by-rules",),
        ("2s3z", "0.1"): ("2s3z-scale",),
        ("2s3z", "0.2"): ("scale-by-rules",),
    }
    for (name, version), studies in places.items():
        learning, best = rates(*studies, env=f"smax/{name}")
        rows.append([f"`{name}`, SMAX {version}", *(f"{learning[k].mean():.1f} ({best[k].mean():.1f})" for k in kinds)])
        tests[f"{name}, {version}"] = exchanged(learning, ["mappo (normalised)"], ["mappo"])
    return [
        *markdown(
            ["MAPPO, greedy win rate in % while learning (of the best parameters)", "as they are", "normalised"], rows
        ),
        "",
        f"Five seeds. Normalised inputs, while learning, exact: {said(tests)}.",
    ]


def of_scale():
    """5m_vs_6m: MAPPO with the state as it is, and normalised."""
    kinds = ("as-it-is", "normalised")
    found = evaluations("5m_vs_6m-scale")
    measures = {
        "sampled return, while learning": {k: np.array(areas("5m_vs_6m-scale")["mappo", k][0]) for k in kinds},
        "greedy win rate in %, best parameters": {k: 100 * np.array(found[f"mappo ({k})"][1]) for k in kinds},
    }
    rows = []
    for measure, scores in measures.items():
        test = exchanged(scores, ["normalised"], ["as-it-is"], unit=100 if "%" in measure else 1)
        rows.append([measure, *(f"{scores[k].mean():.3g}" for k in kinds), f"{test.difference:+.2g}", chance(test.p)])
    return markdown(["MAPPO on smax/5m_vs_6m, five seeds", "as it is", "normalised", "difference", "p, exact"], rows)


def of_paper_map():
    """5m_vs_6m at the best weight of entropy: MAPPO with inputs as they are, and normalised."""
    names = {"mappo": "as they are", "mappo (normalised)": "normalised"}
    learning, best = rates("5m_vs_6m-normalised")
    found = evaluations("5m_vs_6m-normalised")
    rows = []
    for kind, name in names.items():
        times = {steps: 100 * np.mean(seeds) for steps, _, seeds in found[kind][0]}
        later = [f"{rate:.1f}" for rate in list(times.values())[1::2]]
        rows.append([name, *later, f"{learning[kind].mean():.1f}", f"{best[kind].mean():.1f}"])
    after = [f"{steps / 1e6:.1f} M" for steps in list(times)[1::2]]
    tests = {
        "while learning": exchanged(learning, ["mappo (normalised)"], ["mappo"]),
        "the best parameters": exchanged(best, ["mappo (normalised)"], ["mappo"]),
    }
    return [
        *markdown(["greedy win rate in %, inputs", *after, "while learning", "best parameters"], rows),
        "",
        f"MAPPO, five seeds. Normalised instead of as they are, exact permutation tests: {said(tests)}.",
    ]
