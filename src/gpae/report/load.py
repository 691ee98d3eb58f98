"""What runs have found, read from their folders or from files in the marl-eval schema, and whether it is comparable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpae.errors import UserError
from gpae.runs.directory import CONFIG
from gpae.runs.evaluations import EVALUATIONS, NOT_METRICS, entries, lacking
from gpae.runs.files import read_json
from gpae.runs.record import recorded
from gpae.runs.versions import VERSIONS

_ROUNDING = 0.02
"""Relative difference of step counts that comes from rounding up to whole updates."""
_PREFERRED = ("win_rate", "return", "mean_episode_return", "episode_return")
# Where a run stands, rather than how it was trained.
_PLACE = ("env", "algorithm", "preset", "seed", "seeds")
_VERSIONS = (
    *("gpae", "commit", "jax", "jaxlib", "jaxmarl", "flax", "optax", "numpy", "python"),
    *("platform", "device_kind", "device_count"),
)


@dataclass(frozen=True)
class Source:
    """A run directory or file that results come from."""

    name: str
    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    peak_memory_mb: float | None = None

    @property
    def command(self) -> str:
        """What made it; empty if it does not say."""
        words = self.versions.get("command") or []
        return " ".join(["gpae", *words[1:]]) if words else ""

    @property
    def replay(self) -> Path | None:
        """The film of an episode, if there is one."""
        file = self.path / "replay.gif"
        return file if file.is_file() else None


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

    @property
    def sources(self) -> list[Source]:
        """Where its seeds come from, each once."""
        return list({seed.source.name: seed.source for seed in self.seeds}.values())


def load(paths: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Reads folders of runs and files in the marl-eval schema.

    Args:
      paths: folders (a run, or any folder with runs below it) and JSON files.

    Returns:
      Results by environment, then method, in the order in which they were found; and remarks about what was left out.

    Raises:
      UserError: nothing is there, a file is damaged or in another schema, or two of them hold the same seed.
    """
    found: dict[tuple[str, str], list[tuple[str, SeedResult]]] = {}
    remarks = []
    sources = [source for path in paths for source in _sources(path, prefix=path.name + "/" if len(paths) > 1 else "")]
    labels = _labels(sources)
    for source, file in sources:
        content = read_json(file)
        if source.config and (missing := _unfinished(content, source.config)):
            remarks.append(f"{source.name} is left out: it has not finished ({missing})")
            continue
        for env, algorithm, seed, steps in entries(content, file):
            method = labels.get(source.name, algorithm)
            if twin := [other for _, other in found.get((env, method), []) if other.seed == seed]:
                raise UserError(f"{twin[0].source.name} and {source.name} both hold {seed} of {method} in {env}")
            one = _seed_result(seed, steps, source)
            if one is None:
                remarks.append(f"{source.name}: {seed} of {method} in {env} is left out: it has no evaluations")
                continue
            found.setdefault((env, method), []).append((algorithm, one))
    if not found:
        places = ", ".join(map(str, paths))
        raise UserError(f"there are no finished runs in {places}" + "".join(f"; {r}" for r in remarks))
    envs = list(dict.fromkeys(env for env, _ in found))
    results = [
        Result(env, method, pairs[0][0], tuple(sorted((s for _, s in pairs), key=_natural)))
        for wanted in envs
        for (env, method), pairs in found.items()
        if env == wanted
    ]
    return results, remarks


def metric_of(results: Iterable[Result]) -> str:
    """What to compare the results of one environment by: the greedy win rate, or the return where nothing is won.

    Raises:
      UserError: no metric is common to all of them.
    """
    common: list[str] | None = None
    for result in results:
        for seed in result.seeds:
            common = [n for n in (seed.curves if common is None else common) if n in seed.curves]
    if not common:
        raise UserError("the runs of one environment have no metric in common")
    return next((name for name in _PREFERRED if name in common), common[0])


def differences(results: Sequence[Result]) -> list[str]:
    """In what the results differ that should not differ if they are compared: one sentence each."""
    said = []
    for env in dict.fromkeys(r.env for r in results):
        here = [r for r in results if r.env == env]
        steps = _by_value(here, lambda s: s.steps[-1])
        if len(steps) > 1:
            rounded = max(steps) - min(steps) <= _ROUNDING * max(steps)
            why = " (rounded up to whole updates)" if rounded else ""
            said.append(f"{env}: steps of training differ{why}: {_listed(steps, '{:,}')}")
        for what, value in (
            ("number of evaluations", lambda s: len(s.steps)),
            ("episodes of an evaluation", lambda s: s.episodes),
            ("episodes of the absolute evaluation", lambda s: s.absolute_episodes),
        ):
            values = _by_value(here, value)
            if len(values) > 1:
                said.append(f"{env}: {what} differ: {_listed(values)}")
        seeds: dict[Any, list[str]] = {}
        for result in here:
            seeds.setdefault(", ".join(s.seed.removeprefix("seed_") for s in result.seeds), []).append(result.method)
        if len(seeds) > 1:
            said.append(f"{env}: seeds differ: {_listed(seeds)}")
        for name in ("env_options", "timeout_is_termination"):
            values = _by_value(here, lambda s, name=name: str(s.source.config.get(name, "not said")))
            if len(values) > 1:
                said.append(f"{env}: {name} differs: {_listed(values)}")
    for name in _VERSIONS:
        values = _by_value(results, lambda s, name=name: str(s.source.versions.get(name, "not said")))
        if len(values) > 1:
            said.append(f"{name} differs: {_listed(values)}")
    for source in {s.name: s for result in results for s in result.sources}.values():
        for later in source.versions.get("resumed", []):
            changed = [n for n in _VERSIONS if n in source.versions and later.get(n) != source.versions[n]]
            if changed:
                changes = ", ".join(f"{n} {source.versions[n]} to {later.get(n)}" for n in changed)
                said.append(f"{source.name} was resumed with other versions: {changes}")
    return said


def settings_that_differ(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Setting -> method -> value, of those that are not the same in all methods. Methods that do not say are absent."""
    configs: dict[str, dict[str, set[str]]] = {}
    for result in results:
        for source in result.sources:
            for name, value in source.config.items():
                if name not in _PLACE:
                    configs.setdefault(name, {}).setdefault(result.method, set()).add(_shown(value))
    return {
        name: {method: " or ".join(sorted(values)) for method, values in by_method.items()}
        for name, by_method in configs.items()
        if len({frozenset(values) for values in by_method.values()}) > 1
    }


def _sources(path: Path, prefix: str) -> list[tuple[Source, Path]]:
    if path.is_file():
        return [(Source(name=prefix + path.name if path.name == EVALUATIONS else path.name, path=path.parent), path)]
    if not path.is_dir():
        raise UserError(f"there is no {path}")
    found = []
    for file in sorted(path.rglob(EVALUATIONS)):
        run = file.parent
        study = recorded(run.parent)
        name = prefix + str(run.relative_to(path)) if run != path else run.name
        config = read_json(run / CONFIG) if (run / CONFIG).exists() else {}
        versions = read_json(run / VERSIONS) if (run / VERSIONS).exists() else {}
        memory = study.get("runs", {}).get(run.name, {}).get("peak_memory_mb")
        found.append((Source(name, run, config, versions, study.get("machine", {}), memory), file))
    order = {prefix + name: i for i, name in enumerate(recorded(path).get("runs", {}))}
    return sorted(found, key=lambda pair: order.get(pair[0].name, len(order)))


def _labels(sources: Sequence[tuple[Source, Path]]) -> dict[str, str]:
    """What tables call the method of each of our runs: as its study says, or by what tells it from others."""
    labels: dict[str, str] = {}
    alone: dict[str, list[Source]] = {}
    for source, _ in sources:
        said = recorded(source.path.parent).get("runs", {}).get(source.path.name, {}).get("method")
        if said:
            labels[source.name] = said
        elif source.config:
            alone.setdefault(source.config["algorithm"], []).append(source)
    for algorithm, group in alone.items():
        names = [n for n in group[0].config if n not in _PLACE]
        telling = [n for n in names if len({_shown(s.config.get(n)) for s in group}) > 1]
        for source in group:
            words = ", ".join(f"{n} {_shown(source.config.get(n))}" for n in telling)
            labels[source.name] = f"{algorithm} ({words})" if words else algorithm
    return labels


def _unfinished(content: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a run of ours still lacks; empty if nothing."""
    seeds = range(int(config["seed"]), int(config["seed"]) + int(config["seeds"]))
    absent = lacking(content, config["env"], config["algorithm"], seeds)
    return f"no absolute metrics of {', '.join(absent)}" if absent else ""


def _seed_result(seed: str, steps: Mapping[str, Any], source: Source) -> SeedResult | None:
    evaluations = sorted((s for s in steps.values() if "step_count" in s), key=lambda s: s["step_count"])
    if not evaluations:
        return None
    names = [n for n in evaluations[0] if n not in NOT_METRICS and all(n in e for e in evaluations)]
    curves = {n: tuple(_mean(n, e[n]) for e in evaluations) for n in names}
    absolute: Mapping[str, Any] = next((s for n, s in steps.items() if n.startswith("absolute")), {})
    episodes = max((_count(evaluations[0][n]) for n in names), default=0)
    return SeedResult(
        seed=seed,
        source=source,
        steps=tuple(int(e["step_count"]) for e in evaluations),
        seconds=tuple(float(e.get("elapsed_time", math.nan)) for e in evaluations),
        curves=curves,
        absolute={n: _mean(n, v) for n, v in absolute.items() if n not in NOT_METRICS},
        episodes=episodes,
        absolute_episodes=max((_count(v) for v in absolute.values()), default=0),
    )


def _mean(name: str, values: Any) -> float:
    found = float(np.mean(values))
    # Some write win rates in per cent.
    return found / 100 if "win_rate" in name and np.max(values) > 1 else found


def _count(values: Any) -> int:
    return len(values) if isinstance(values, list) else 1


def _natural(seed: SeedResult) -> tuple[int, str]:
    digits = "".join(c for c in seed.seed if c.isdigit())
    return (int(digits) if digits else 0, seed.seed)


def _by_value(results: Sequence[Result], value: Any) -> dict[Any, list[str]]:
    """Value -> the methods that have it."""
    found: dict[Any, list[str]] = {}
    for result in results:
        for seed in result.seeds:
            methods = found.setdefault(value(seed), [])
            if result.method not in methods:
                methods.append(result.method)
    return found


def _listed(values: Mapping[Any, list[str]], shown: str = "{}") -> str:
    return "; ".join(f"{shown.format(value)} ({', '.join(methods)})" for value, methods in values.items())


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
