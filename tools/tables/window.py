"""Old experience in battles: what corrects it, the cap on the others' ratios, and what the released code does else."""

from __future__ import annotations

from gpae.report.permutation import holm
from tables.cells import chance, exchanged, markdown, soon
from tables.results import areas
from tables.scale import rates, said

STUDY = "3s_vs_5z-window"

PARTS = {
    "traces": {
        "gpae (window)": "double truncation, eta 1.05 (the paper's)",
        "gpae (none)": "none",
        "gpae (individual)": "individual truncation",
        "gpae (single)": "single truncation",
        "gpae (corrected)": "without the bootstrap's bias",
        "gpae-state (window)": "MAPPO's critic, GPAE's correction",
        "mappo (window)": "MAPPO",
    },
    "eta": {
        "gpae (eta-1.00)": "1",
        "gpae (window)": "1.05 (the paper's)",
        "gpae (eta-1.15)": "1.15",
        "gpae (eta-1.50)": "1.5",
        "gpae (single)": "∞: single truncation",
    },
    "slips": {
        "gpae (window)": "as here",
        "gpae (survivors)": "survivors remember the last battle",
        "gpae (memory)": "the window begins with the newest segment's memory",
        "gpae (zeros)": "rows of zeros count",
        "gpae (as-released)": "all three",
        "gpae (flax-weights)": "initial weights by flax's defaults",
    },
}
"""Table -> method, and what it is; the published form is what the others are held against."""


def _row(name, learning, best, steps):
    return [f"{learning[name].mean():.1f}", f"{best[name].mean():.1f}", soon(steps[name])]


def _steps():
    found = areas(STUDY, metric="win_rate").items()
    return {f"{method} ({setting})": steps for (method, setting), (_, steps) in found}


COLUMNS = ["while learning", "best parameters", "steps to 90 %"]


def of_window():
    """Whether a window pays there: on-policy, with as many gradient steps from fresh experience, and on a window."""
    learning, best = rates(STUDY)
    steps, rows = _steps(), []
    forms = {"on-policy": "fresh", "passes": "fresh, twice the passes", "window": "a window of two"}
    for setting, name in forms.items():
        row = [name]
        for method in ("gpae", "mappo"):
            row += _row(f"{method} ({setting})", learning, best, steps)
        rows.append(row)

    def both(setting):
        return [f"{method} ({setting})" for method in ("gpae", "mappo")]

    tests = {
        "a window instead of fresh experience alone": exchanged(learning, both("window"), both("on-policy")),
        "a window instead of twice the passes": exchanged(learning, both("window"), both("passes")),
        "GPAE instead of MAPPO": exchanged(
            learning,
            *([f"{method} ({x})" for x in forms] for method in ("gpae", "mappo")),
        ),
    }
    columns = [f"{method}: {what}" for method in ("GPAE", "MAPPO") for what in COLUMNS]
    return [
        *markdown(["greedy win rate in %", *columns], rows),
        "",
        f"Five seeds. While learning, exact tests, runs exchanged within what is otherwise alike: {said(tests)}.",
    ]


def of_part(part):
    """One of the three questions: each form beside the published one, tested while learning."""
    learning, best = rates(STUDY)
    published = "gpae (window)"
    others = [name for name in PARTS[part] if name != published]
    tests = {name: exchanged(learning, [name], [published]) for name in others}
    corrected = holm({name: test.p for name, test in tests.items()})
    steps, rows = _steps(), []
    for name, what in PARTS[part].items():
        row = [what, *_row(name, learning, best, steps)]
        if name in tests:
            row += [f"{tests[name].difference:+.1f}", chance(tests[name].p), chance(corrected[name])]
        rows.append([*row, *[""] * (7 - len(row))])
    tested = ["points over the paper's form, while learning", "p, exact", f"Holm, of {len(tests)}"]
    return markdown(["greedy win rate in %", *COLUMNS, *tested], rows)
