"""What a tuning has found, as files in its folder.

tuning.json    every trial, the best, what was important, and what the score depended on
best.md        of each method the winner, as TOML to be pasted in a preset or a study
importance.png, NAME-sensitivity.png    the same drawn
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from gpae.diagnostics.style import drawing, save_png
from gpae.report.sensitivity import draw, draw_importance
from gpae.report.tried import TUNING, Trial, sensitivity
from gpae.runs.files import atomic_write, write_json
from gpae.studies.space import Interval
from gpae.studies.tuner import Tried, best, importances, tried
from gpae.studies.tuning import Method, Tuning


def write_tuning(tuning: Tuning) -> str:
    """Writes what is known so far.

    Returns:
      What to tell: the winners as TOML, and where the pictures are.

    Raises:
      UserError: the database is damaged, or a file cannot be written.
    """
    found, shares = tried(tuning), importances(tuning)
    methods = [_method(m, trials, share) for (m, trials), share in zip(found, shares, strict=True)]
    pictures = [name for (m, _), entry in zip(found, methods, strict=True) if (name := _draw(tuning, m, entry))]
    important = {
        f"{m.config.env} {m.label}" if len({o.config.env for o, _ in found}) > 1 else m.label: share
        for (m, _), share in zip(found, shares, strict=True)
        if share
    }
    if important:
        title = f"{tuning.name}: what tells the best trials from the others (PED-ANOVA)"
        with drawing():
            save_png(draw_importance(important, title), tuning.path / "importance.png")
        pictures.append("importance.png")
    write_json(
        tuning.path / TUNING,
        {
            "name": tuning.name,
            "trials": tuning.trials,
            "trials_at_once": tuning.at_once,
            "sampler": tuning.sampler,
            "prune": tuning.pruning and vars(tuning.pruning),
            "methods": methods,
        },
    )
    winners = "\n".join(line for entry in methods for line in [*entry["toml"], ""])
    text = f"# {tuning.name}\n\nMade by `gpae tune`; every trial stands in `{TUNING}`.\n\n```toml\n{winners}```\n"
    atomic_write(tuning.path / "best.md", text.encode())
    return f"{winners}\n{tuning.path / TUNING}, see {', '.join(['best.md', *pictures])}"


def _method(method: Method, trials: list[Tried], importance: Mapping[str, float]) -> dict[str, Any]:
    keys, config, score = method.keys, method.config, method.score
    names = list(keys.values())
    drawn = [Trial({keys[k]: v for k, v in t.values.items()}, t.score, t.state) for t in trials]
    winner = best(trials)
    said = f"# {method.label} in {config.env}: "
    if winner is None:
        lines = [f"{said}no trial of {len(trials)} has run to its end"]
    else:
        seeds = str(config.seed) if config.seeds == 1 else f"{config.seed} to {config.seed + config.seeds - 1}"
        lines = [
            f"{said}{score.metric} {winner.score:.4g}, trial {winner.number} of {len(trials)},"
            f" {config.num_steps:,} steps, seed{'s' * (config.seeds > 1)} {seeds}",
            *method.lines(winner.values),
        ]
    return {
        "method": method.label,
        "env": config.env,
        "algorithm": config.algorithm.name,
        "setting": method.setting,
        "metric": score.metric,
        "last": score.last,
        "seeds": [config.seed, config.seed + config.seeds - 1],
        "steps": config.num_steps,
        "space": {keys[name]: domain.as_dict() for name, domain in method.space.items()},
        "trials": [
            {"number": t.number, "state": t.state, "score": t.score, "settings": dict(d.settings)}
            for t, d in zip(trials, drawn, strict=True)
        ],
        "best": None if winner is None else winner.number,
        "importance": dict(importance),
        "sensitivity": sensitivity(drawn, names) if drawn else {},
        "toml": lines,
    }


def _draw(tuning: Tuning, method: Method, entry: Mapping[str, Any]) -> str | None:
    """The name of a method's picture; None where there is no trial yet."""
    if not entry["sensitivity"]:
        return None
    ranges = {method.keys[n]: domain.log for n, domain in method.space.items() if isinstance(domain, Interval)}
    name = f"{method.name}-sensitivity.png"
    title = f"{entry['env']}, {entry['method']}: {len(entry['trials'])} trials of {entry['steps']:,} steps"
    with drawing():
        figure: Figure = draw(entry["sensitivity"], title, entry["metric"], ranges)
        save_png(figure, tuning.path / name)
    return name
