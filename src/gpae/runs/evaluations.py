"""evaluations.json: evaluations in the marl-eval schema, which this module alone knows.

    family / task / algorithm / seed_k / step_j            step_count, elapsed_time, and per metric a value per episode
                                       absolute_metrics    per metric a value per episode, of the best parameters

An environment "smax/3m" is family "smax" and task "3m"; one without a slash is both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpae.errors import UserError
from gpae.runs.files import read_json

EVALUATIONS = "evaluations.json"
ABSOLUTE = "absolute_metrics"
NOT_METRICS = ("step_count", "elapsed_time")


class Entry(NamedTuple):
    """One seed of an algorithm in an environment."""

    env: str
    algorithm: str
    seed: str
    """As it is written there: "seed_0"."""
    steps: Mapping[str, Any]
    """step_j or absolute_metrics -> what was found."""


def read_evaluations(run: str | Path) -> dict[str, Any]:
    """What evaluations.json of a run directory holds; empty if there is none yet."""
    file = Path(run) / EVALUATIONS
    return read_json(file) if file.exists() else {}


def entries(content: Any, file: Path) -> list[Entry]:
    """All seeds of all algorithms in all environments; `file` is what errors name.

    Raises:
      UserError: `content` is not in the schema.
    """
    found = []
    try:
        for family, tasks in content.items():
            for task, algorithms in tasks.items():
                for algorithm, seeds in algorithms.items():
                    for seed, steps in seeds.items():
                        if not all(isinstance(step, dict) for step in steps.values()):
                            raise TypeError
                        found.append(Entry(family if family == task else f"{family}/{task}", algorithm, seed, steps))
    except (AttributeError, TypeError) as error:
        raise UserError(f"{file} is not in the marl-eval schema: environment/task/algorithm/seed/step") from error
    return found


def of_algorithm(content: Mapping[str, Any], env: str, algorithm: str) -> dict[str, Any]:
    """Seed -> evaluations; empty if there are none."""
    family, task = _place(env)
    return content.get(family, {}).get(task, {}).get(algorithm, {})


def lacking(content: Mapping[str, Any], env: str, algorithm: str, seeds: Iterable[int]) -> list[str]:
    """The seeds whose absolute metrics are not there: a run is finished when none is lacking."""
    found = of_algorithm(content, env, algorithm)
    return [name for seed in seeds if ABSOLUTE not in found.get(name := f"seed_{seed}", {})]


def add_evaluation(
    content: dict[str, Any],
    *,
    env: str,
    algorithm: str,
    seed: int,
    env_steps: int,
    seconds: float,
    metrics: Mapping[str, Sequence[float] | None],
) -> None:
    """Adds one evaluation of one seed; a metric that is None, empty or not finite is left out."""
    of_seed = _of_seed(content, env, algorithm, seed)
    number = sum(name.startswith("step_") for name in of_seed)
    of_seed[f"step_{number}"] = {
        "step_count": int(env_steps),
        "elapsed_time": round(float(seconds), 3),
        **_episodes(metrics),
    }


def set_absolute(
    content: dict[str, Any], *, env: str, algorithm: str, seed: int, metrics: Mapping[str, Sequence[float] | None]
) -> None:
    """Sets the absolute metrics of one seed."""
    _of_seed(content, env, algorithm, seed)[ABSOLUTE] = _episodes(metrics)


def cut(content: Mapping[str, Any], env_steps: int) -> None:
    """Drops evaluations later than `env_steps`, and absolute metrics."""
    for tasks in content.values():
        for algorithms in tasks.values():
            for seeds in algorithms.values():
                for name, steps in seeds.items():
                    seeds[name] = {
                        k: v for k, v in steps.items() if k.startswith("step_") and v["step_count"] <= env_steps
                    }


def _place(env: str) -> tuple[str, str]:
    family, _, task = env.partition("/")
    return family, task or family


def _of_seed(everything: dict[str, Any], env: str, algorithm: str, seed: int) -> dict[str, Any]:
    family, task = _place(env)
    return (
        everything.setdefault(family, {}).setdefault(task, {}).setdefault(algorithm, {}).setdefault(f"seed_{seed}", {})
    )


def _episodes(metrics: Mapping[str, Sequence[float] | None]) -> dict[str, list[float]]:
    lists = {name: [float(v) for v in values] for name, values in metrics.items() if values is not None}
    return {name: values for name, values in lists.items() if values and all(map(math.isfinite, values))}
