"""What runs have found, read from their folders or from files in the marl-eval schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpae.errors import UserError
from gpae.report.scores import SCORES, is_rate
from gpae.report.sources import Source, find, labels_of
from gpae.runs.evaluations import NOT_METRICS, Entry, entries, lacking
from gpae.runs.files import read_json


@dataclass(frozen=True)
class SeedResult:
    """One seed of a method in an environment."""

    seed: str
    source: Source
    steps: tuple[int, ...]
    """Environment steps at each evaluation."""
    seconds: tuple[float, ...]
    curves: Mapping[str, tuple[float, ...]]
    """Metric -> mean over episodes at each evaluation."""
    absolute: Mapping[str, float]
    """Metric -> mean over the episodes of the best parameters; empty if there was no such evaluation."""
    episodes: int
    absolute_episodes: int


@dataclass(frozen=True)
class Result:
    """A method in an environment, with all its seeds."""

    env: str
    method: str
    algorithm: str
    seeds: tuple[SeedResult, ...]
    metric: str
    """The score that the results of its environment are compared by."""

    @property
    def sources(self) -> list[Source]:
        """Where its seeds come from, each once."""
        return list({seed.source.name: seed.source for seed in self.seeds}.values())


@dataclass(frozen=True)
class _Found:
    """One seed as a file has it."""

    method: str
    entry: Entry
    source: Source
    scale: Mapping[str, float]
    """Metric -> what its values are multiplied by, so that rates lie in [0, 1]."""


def load(paths: Sequence[Path], metric: str | None = None) -> tuple[list[Result], list[str]]:
    """Reads folders of runs and files in the marl-eval schema.

    Args:
      paths: folders (a run, or any folder with runs below it) and JSON files.
      metric: the score to compare by; None: the first of `SCORES` that all seeds of an environment have.

    Returns:
      Results by environment, then method, in the order in which they were found; and remarks about what was left out,
      and how others' figures were understood.

    Raises:
      UserError: nothing is there, a file is damaged or in another schema, two of them hold the same seed, or the seeds
        of an environment have no score in common.
    """
    remarks: list[str] = []
    sources: list[tuple[Source, Path]] = []
    for path in paths:
        new, said = find(path, prefix=_apart(path, paths) + "/" if len(paths) > 1 else "")
        sources, remarks = sources + new, remarks + said
    labels, said = labels_of(sources)
    remarks += said
    found: dict[tuple[str, str], list[_Found]] = {}
    names = _Names(remarks)
    for source, file in sources:
        for one in _of_file(source, file, labels, remarks):
            env = names.same("environment", one.entry.env, source.name)
            method = names.same(f"method in {env}", one.method, source.name)
            group = found.setdefault((env, method), [])
            if twin := [other for other in group if other.entry.seed == one.entry.seed]:
                both = f"{twin[0].source.name} and {source.name}"
                raise UserError(f"{both} both hold {one.entry.seed} of {method} in {env}")
            group.append(one)
    envs = list(dict.fromkeys(env for env, _ in found))
    results = []
    for env in envs:
        of_env = {method: group for (e, method), group in found.items() if e == env}
        score = _score(env, [one for group in of_env.values() for one in group], metric)
        for method, group in of_env.items():
            seeds = [seed for one in group if (seed := _seed_result(one, score, env, method, remarks))]
            if seeds:
                algorithm = group[0].entry.algorithm
                results.append(Result(env, method, algorithm, tuple(sorted(seeds, key=_natural)), score))
    if not results:
        places = ", ".join(map(str, paths))
        raise UserError(f"there are no finished runs in {places}" + "".join(f"; {r}" for r in remarks))
    return results, remarks


def _apart(path: Path, paths: Sequence[Path]) -> str:
    """As much of a path, from its end, as tells it from the others."""
    others = [other.absolute().parts for other in paths if other != path]
    own = path.absolute().parts
    least = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
    return "/".join(own[-least:])


class _Names:
    """Environments and methods that others spell in other ways: `Smax/3m` is smax/3m."""

    def __init__(self, remarks: list[str]):
        self.remarks = remarks
        self.known: dict[tuple[str, str], str] = {}

    def same(self, kind: str, name: str, source: str) -> str:
        """The spelling that came first, and a remark where it is another one."""
        key = (kind, "".join(c for c in name.casefold() if c not in " -_"))
        first = self.known.setdefault(key, name)
        if first != name:
            remark = f"{source}: {kind} {name!r} is taken for {first!r}"
            self.remarks += [] if remark in self.remarks else [remark]
        return first


def _of_file(source: Source, file: Path, labels: Mapping[str, str], remarks: list[str]) -> list[_Found]:
    """The seeds of a file that can be used; remarks say which cannot."""
    content = read_json(file, follow=not source.config)
    problems: list[str] = []
    seeds = entries(content, file, problems)
    remarks += [f"left out: {problem}" for problem in problems]
    if source.config and (missing := _unfinished(content, source.config)):
        remarks.append(f"{source.name} is left out: it has not finished ({missing})")
        return []
    scale = _scales(seeds, file, remarks)
    return [_Found(labels.get(source.name, entry.algorithm), entry, source, scale) for entry in seeds]


def _unfinished(content: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a run of ours still lacks; empty if nothing."""
    seeds = range(int(config["seed"]), int(config["seed"]) + int(config["seeds"]))
    absent = lacking(content, config["env"], config["algorithm"], seeds)
    return f"no absolute metrics of {', '.join(absent)}" if absent else ""


def _scales(seeds: Sequence[Entry], file: Path, remarks: list[str]) -> dict[str, float]:
    """Per metric of a file, the unit of all its values together: rates may be in [0, 1] or in per cent."""
    scales: dict[str, float] = {}
    for metric in dict.fromkeys(n for e in seeds for step in e.steps.values() for n in step if is_rate(n)):
        values = [
            (float(x), entry, step)
            for entry in seeds
            for step, found in entry.steps.items()
            if metric in found
            for x in np.atleast_1d(found[metric])
        ]
        least, most = min(values, key=lambda v: v[0]), max(values, key=lambda v: v[0])
        for value, entry, step in (least, most):
            if not 0 <= value <= 100:
                place = f"{entry.env}/{entry.algorithm}/{entry.seed}/{step}/{metric}"
                raise UserError(f"{file}: {place} holds {value:g}; a rate lies in [0, 1], or in [0, 100] as per cent")
        if most[0] > 1:
            scales[metric] = 0.01
            remarks.append(f"{file.name}: {metric} goes up to {most[0]:g}: all its values are taken as per cent")
    return scales


def _score(env: str, found: Sequence[_Found], wanted: str | None) -> str:
    """What the seeds of an environment are compared by."""
    every = [{name for step in one.entry.evaluations for name in step} for one in found]
    common = set.intersection(*every) - set(NOT_METRICS) if every else set()
    if wanted is not None:
        if wanted not in common:
            raise UserError(f"--metric {wanted}: not all runs of {env} have it; they have {', '.join(sorted(common))}")
        return wanted
    score = next((name for name in SCORES if name in common), None)
    if score is None:
        has = f"; they have {', '.join(sorted(common))}: choose one with --metric" if common else ""
        raise UserError(f"the runs of {env} have no score in common ({', '.join(SCORES)}){has}")
    return score


def _seed_result(one: _Found, score: str, env: str, method: str, remarks: list[str]) -> SeedResult | None:
    entry, source = one.entry, one.source
    evaluations = entry.evaluations
    scored = [e for e in evaluations if score in e]
    if not scored:
        remarks.append(f"{source.name}: {entry.seed} of {method} in {env} is left out: it has no evaluations")
        return None
    if len(scored) < len(evaluations):
        without = len(evaluations) - len(scored)
        remarks.append(
            f"{source.name}: {without} of {len(evaluations)} evaluations of {entry.seed} of {method} in {env} have no"
            f" {score} and are left out"
        )

    def mean(name: str, values: Any) -> float:
        return float(np.mean(values)) * one.scale.get(name, 1.0)

    names = [n for n in scored[0] if n not in NOT_METRICS and all(n in e for e in scored)]
    absolute = entry.absolute
    return SeedResult(
        seed=entry.seed,
        source=source,
        steps=tuple(int(e["step_count"]) for e in scored),
        seconds=tuple(float(e.get("elapsed_time", math.nan)) for e in scored),
        curves={n: tuple(mean(n, e[n]) for e in scored) for n in names},
        absolute={n: mean(n, v) for n, v in absolute.items() if n not in NOT_METRICS},
        episodes=max((_count(scored[0][n]) for n in names), default=0),
        absolute_episodes=max((_count(v) for v in absolute.values()), default=0),
    )


def _count(values: Any) -> int:
    return len(values) if isinstance(values, list) else 1


def _natural(seed: SeedResult) -> tuple[int, str]:
    digits = "".join(c for c in seed.seed if c.isdigit())
    return (int(digits) if digits else 0, seed.seed)
