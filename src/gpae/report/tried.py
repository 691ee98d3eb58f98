"""What was tried before a table: how many settings of each method, at what cost, and what their score depended on.

A trial is whatever was trained with settings of its own: a draw of `gpae tune`, a column of `gpae study`. Nothing but
its settings and its score is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpae.errors import UserError
from gpae.report.load import Result
from gpae.report.sources import PLACE
from gpae.runs.files import read_json

TUNING = "tuning.json"
"""What `gpae tune` leaves in a tuning's folder."""


@dataclass(frozen=True)
class Trial:
    """What was trained with settings of its own."""

    settings: Mapping[str, Any]
    score: float | None
    """The mean over its seeds; None: it was never evaluated."""
    state: str = "complete"
    """complete, pruned or failed."""


def sensitivity(trials: Sequence[Trial], names: Collection[str] | None = None) -> dict[str, list[list[Any]]]:
    """Setting -> value, score and state of each trial.

    Args:
      trials: of one method in one environment.
      names: of the settings to look at; None: those in which the trials differ.
    """
    every = dict.fromkeys(name for trial in trials for name in trial.settings)
    if names is None:
        names = [name for name in every if len({repr(trial.settings.get(name)) for trial in trials}) > 1]
    return {name: [[t.settings.get(name), t.score, t.state] for t in trials] for name in names}


def of_results(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What the runs at hand have tried of each algorithm in each environment, by their config.json alone.

    Returns:
      An entry of `described` for each algorithm, or none at all if none has several settings. The score of a trial is
      that of the last evaluation.
    """
    found = []
    for env in dict.fromkeys(r.env for r in results):
        here = [r for r in results if r.env == env and all(s.config for s in r.sources)]
        for algorithm in dict.fromkeys(r.algorithm for r in here):
            group = [r for r in here if r.algorithm == algorithm]
            trials = [
                Trial(
                    {k: v for k, v in r.sources[0].config.items() if k not in PLACE},
                    round(float(np.mean([seed.curves[r.metric][-1] for seed in r.seeds])), 6),
                )
                for r in group
            ]
            found.append(
                described(
                    None,
                    env,
                    algorithm,
                    group[0].metric,
                    trials,
                    seeds=sorted({len(r.seeds) for r in group}),
                    steps=sorted({seed.steps[-1] for r in group for seed in r.seeds}),
                )
            )
    return found if any(entry["trials"] > 1 for entry in found) else []


def of_tuning(folder: Path) -> list[dict[str, Any]]:
    """What a tuning has tried of each method, as its tuning.json says: an entry of `described` each.

    Raises:
      UserError: there is none, or it is not one of `gpae tune`.
    """
    file = folder / TUNING if folder.is_dir() else folder
    content = read_json(file)
    try:
        return [
            described(
                str(content["name"]),
                str(entry["env"]),
                str(entry["method"]),
                str(entry["metric"]),
                [Trial(t["settings"], t["score"], t["state"]) for t in entry["trials"]],
                seeds=[entry["seeds"][1] - entry["seeds"][0] + 1],
                steps=[int(entry["steps"])],
                ranges={k: bool(v["log"]) for k, v in entry["space"].items() if "log" in v},
                names=list(entry["space"]),
            )
            for entry in content["methods"]
        ]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} is not a {TUNING} of this project ({words}); gpae tune writes it again") from error


def described(
    tuning: str | None,
    env: str,
    method: str,
    metric: str,
    trials: Sequence[Trial],
    *,
    seeds: Sequence[int],
    steps: Sequence[int],
    ranges: Mapping[str, bool] | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Any]:
    """What was tried of a method, for JSON.

    Args:
      tuning: its name; None: the runs of the report itself.
      env: where.
      method: which.
      metric: of the scores.
      trials: all.
      seeds: of each trial; several numbers where they differ.
      steps: of each seed, likewise.
      ranges: setting that was drawn from a range -> whether its logarithm was drawn evenly.
      names: as `sensitivity`.
    """
    whole = [t.score for t in trials if t.state == "complete" and t.score is not None]
    return {
        "tuning": tuning,
        "env": env,
        "method": method,
        "metric": metric,
        "trials": len(trials),
        "ended_early": sum(t.state != "complete" for t in trials),
        "seeds": list(seeds),
        "steps": list(steps),
        "best": max(whole, default=None),
        "settings": sensitivity(trials, names) if trials else {},
        "ranges": dict(ranges or {}),
    }
