"""The short answer: in nine places GPAE beside MAPPO, each with its evidence."""

from __future__ import annotations

from statistics import mean

from tables.cells import chance, markdown, soon, tested
from tables.paper_map_long import long_rates
from tables.results import areas, load
from tables.window import window_rates

PAGE = "credit-ladder.md"


def _ladder(agents, setting):
    """The ladder's runs as `areas` has those of other studies: what was drawn while learning, and the steps to 90 %."""
    kept = next(
        run for run in load("credit-ladder/ladder.json")["runs"] if run["run"] == f"teamwork-{agents}-{setting}"
    )
    return kept["areas"], [float("inf") if x is None else x for x in kept["steps_to"]]


def _row(where, evidence, methods, shown):
    """MAPPO, GPAE and its expected bootstrap; None: not run."""
    mappo, *others = methods
    cells = [shown(mappo)]
    for method in others:
        cells.append(f"{shown(method)} (p {chance(tested(method[0], mappo[0]).p)})" if method else "not run")
    return [where, *cells, str(len(mappo[0])), f"[table]({evidence})"]


def answer():
    """MAPPO beside GPAE, as published and with the expected bootstrap: steps on teams, wins in battles; tested."""

    def teams(where, evidence, *methods):
        return _row(where, evidence, methods, lambda method: f"{soon(method[1])} steps")

    def battle(where, evidence, *methods):
        return _row(where, evidence, methods, lambda method: f"{100 * mean(method[0]):.1f} %")

    exact = areas("exact-critics", "teamwork/128")
    passes = areas("critic-passes", "teamwork/32")
    alike = areas("pooled-critics-64", "teamwork/64")
    pooled = areas("pooled-battles", "smax/2s3z", "win_rate")
    marines = areas("battles-27", metric="win_rate")
    scaled = areas("maps-views", "smax/6h_vs_8z", "win_rate")
    rows = [
        teams(
            "teams of 128, critics without error",
            f"{PAGE}#critics-without-error",
            *(exact["exact", f"{kind}-near-64"] for kind in ("state", "others", "expected")),
        ),
        teams(
            "teams of 32, learnt critics",
            "#the-ladder",
            *(_ladder(32, x) for x in ("mappo-on-policy", "gpae-on-policy", "gpae-expected")),
        ),
        teams(
            "teams of 32, slow policies, ten times their passes for the critic",
            f"{PAGE}#critics-that-are-there-first",
            *(passes[key] for key in (("mappo", "slow40"), ("gpae", "slow40"), ("gpae", "expected-slow40"))),
        ),
        teams(
            "teams of 64, critics that look at each agent alike",
            f"{PAGE}#critics-that-look-at-each-agent-alike",
            alike["mappo-pooled", "fast"],
            None,
            alike["gpae-pooled", "expected-fast"],
        ),
        battle(
            "2s3z, critics that look at each agent alike",
            "#critics-that-look-at-each-agent-alike-in-battles",
            *(
                pooled[key]
                for key in (("mappo-pooled", "published"), ("gpae-pooled", "published"), ("gpae-pooled", "expected"))
            ),
        ),
        battle("27 marines against 27", "#battles-of-3-to-27-marines", marines["mappo", ""], marines["gpae", ""], None),
        battle(
            "6h_vs_8z, SMAX 0.1, normalised inputs",
            "#normalised-inputs-on-other-maps",
            scaled["mappo", "normalised"],
            scaled["gpae", "normalised"],
            None,
        ),
        battle(
            "5m_vs_6m, SMAX 0.1, normalised inputs",
            "#nine-trainings-of-10-m-steps",
            *((rates, None) for rates in long_rates()),
            None,
        ),
        battle(
            "3s_vs_5z on old experience, normalised inputs",
            "#a-window-on-3s_vs_5z",
            *((rates, None) for rates in window_rates()),
            None,
        ),
    ]
    return markdown(["", "MAPPO", "GPAE as published", "GPAE, expected bootstrap", "seeds", "evidence"], rows)
