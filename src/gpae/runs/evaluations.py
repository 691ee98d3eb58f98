"""evaluations.json: evaluations in the marl-eval schema, which this module alone knows.

    family / task / algorithm / seed_k / step_j            step_count, elapsed_time, and per metric a value per episode
                                       absolute_metrics    per metric a value per episode, of the best parameters

An environment "smax/3m" is family "smax" and task "3m"; one without a slash is both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpae.errors import UserError
from gpae.runs.files import read_json
from gpae.runs.schema import Value, is_number

EVALUATIONS = "evaluations.json"
ABSOLUTE = "absolute_metrics"
_ABSOLUTE = "absolute"
"""How others begin the same name."""
NOT_METRICS = ("step_count", "elapsed_time")


class Entry(NamedTuple):
    """One seed of an algorithm in an environment."""

    env: str
    algorithm: str
    seed: str
    """As it is written there: "seed_0"."""
    steps: Mapping[str, Any]
    """step_j or absolute_metrics -> what was found."""

    @property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """What was found during training, by step count; each with its "step_count"."""
        found = [s for name, s in self.steps.items() if not name.startswith(_ABSOLUTE) and "step_count" in s]
        return sorted(found, key=lambda step: step["step_count"])

    @property
    def absolute(self) -> Mapping[str, Any]:
        """What was found with the best parameters; empty if there was no such evaluation."""
        return next((s for name, s in self.steps.items() if name.startswith(_ABSOLUTE)), {})


def read_evaluations(run: str | Path) -> dict[str, Any]:
    """What evaluations.json of a run directory holds; empty if there is none yet.

    Raises:
      UserError: it is damaged, or not in the schema.
    """
    file = Path(run) / EVALUATIONS
    content = read_json(file, {})
    entries(content, file)
    return content


def entries(content: Any, file: str | Path, problems: list[str] | None = None) -> list[Entry]:
    """All seeds of all algorithms in all environments.

    Args:
      content: the whole of a file, as JSON has it.
      file: what errors name.
      problems: where to say what is wrong. The seed concerned is left out then, or the algorithm, task or family whose
        seeds cannot be told.

    Returns:
      Seeds in the order of the file. Step counts are whole numbers; a metric is a finite float or a list of them.

    Raises:
      UserError: something is not in the schema, and `problems` is None; or the file is no mapping at all.
    """
    found = []
    whole = Value(content, file, problem="not in the marl-eval schema", remedy="correct it")

    def walk(value: Value, *above: str) -> None:
        try:
            if len(above) < 4:
                for name, below in value.items(_LEVELS[len(above)]):
                    walk(below, *above, name)
            else:
                family, task, algorithm, seed = above
                steps = {name: _step(name, step) for name, step in value.items(_LEVELS[4])}
                found.append(Entry(family if family == task else f"{family}/{task}", algorithm, seed, steps))
        except UserError as error:
            if problems is None or not above:
                raise
            problems.append(str(error))

    walk(whole)
    return found


_LEVELS = (
    "a mapping of families of environments",
    "a mapping of tasks",
    "a mapping of algorithms",
    "a mapping of seeds",
    "a mapping of evaluations",
)


def _step(name: str, step: Value) -> dict[str, Any]:
    """One evaluation, or the absolute metrics of a seed."""
    found: dict[str, Any] = {}
    for metric, value in step.items("a mapping of metrics"):
        if metric == "step_count":
            found[metric] = value.whole(point=True)
        elif metric == "elapsed_time":
            found[metric] = value.number()
        elif isinstance(value.found, list) and value.found and all(map(is_number, value.found)):
            found[metric] = list(map(float, value.found))
        elif isinstance(value.found, list):
            for element in value.elements():
                element.number()
            raise value.wrong("a number per episode")
        elif is_number(value.found):
            found[metric] = float(value.found)
        else:
            raise value.wrong("a finite number or a list of them")
    if not name.startswith(_ABSOLUTE) and "step_count" not in found:
        raise step.lacks("step_count")
    return found


def of_algorithm(content: Mapping[str, Any], env: str, algorithm: str) -> dict[str, Any]:
    """Seed -> evaluations; empty if there are none."""
    family, task = _place(env)
    found: Any = content
    for name in (family, task, algorithm):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


def lacking(content: Mapping[str, Any], env: str, algorithm: str, seeds: Iterable[int]) -> list[str]:
    """The seeds whose absolute metrics are not there: a run is finished when none is lacking."""
    found = of_algorithm(content, env, algorithm)
    finished = {name for name, steps in found.items() if isinstance(steps, Mapping) and ABSOLUTE in steps}
    return [name for seed in seeds if (name := f"seed_{seed}") not in finished]


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
    return {name: values for name, values in lists.items() if values and all(map(is_number, values))}
