"""Everything that can be said of a set of runs, as one JSON value."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpae.report.differences import differences, settings_that_differ
from gpae.report.load import Result
from gpae.report.permutation import DRAWS, holm, permutation_test, smallest_corrected
from gpae.report.published import caution, published
from gpae.report.scores import SAMPLED, Scale, is_rate, played, scale_of
from gpae.report.statistics import FEW, Bootstrap, Interval, first_reached, median_reached
from gpae.report.tables import KINDS, REACHED
from gpae.report.tried import of_results

TAUS = tuple(round(0.05 * i, 2) for i in range(21))
"""Thresholds of the performance profiles, for scores in [0, 1]."""
_DIGITS = 6


def build(
    results: Sequence[Result],
    remarks: Sequence[str],
    bootstrap: Bootstrap,
    *,
    title: str,
    command: str,
    scales: Mapping[str, tuple[float, float]] | None = None,
    tried: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The report as a JSON value.

    Args:
      results: what was found.
      remarks: what is to be said beforehand.
      bootstrap: makes the intervals.
      title: of the report.
      command: that makes it.
      scales: environment -> the scores that stand for 0 and 1, where environments do not say it themselves.
      tried: what tunings have tried beforehand (`gpae.report.tried.of_tuning`).
    """
    remarks = list(remarks)
    by_env = {env: [r for r in results if r.env == env] for env in dict.fromkeys(r.env for r in results)}
    metrics = {env: group[0].metric for env, group in by_env.items()}
    scaled = {env: _scale(env, metrics[env], group, scales) for env, group in by_env.items()}
    if strange := [env for env in scales or {} if env not in by_env]:
        remarks.append(f"a scale is given for {', '.join(strange)}, of which there are no runs")
    if fewest := [f"{r.method} in {r.env}" for r in results if len(r.seeds) < FEW]:
        who = "all methods have" if len(fewest) == len(results) else f"{'; '.join(fewest)} have"
        remarks.append(
            f"{who} fewer than {FEW} seeds, which is too few: their intervals come out too narrow, and say little"
        )
    return {
        "title": title,
        "command": command,
        "statistics": {
            "interval": "95 %, percentiles of a stratified bootstrap over seeds",
            "resamples": bootstrap.resamples,
            "seed": bootstrap.seed,
            "rliable": importlib.metadata.version("rliable"),
            "test": "two-sided permutation tests of means, Holm's correction over the pairs of each table",
            "draws": DRAWS,
        },
        "remarks": remarks,
        "differences": differences(results),
        "settings": settings_that_differ(results),
        "environments": [
            _environment(env, metrics[env], group, scaled[env], bootstrap) for env, group in by_env.items()
        ],
        "aggregate": _aggregate(by_env, metrics, scaled, bootstrap),
        "published": _published(by_env, metrics, bootstrap),
        "tried": [*of_results(results), *tried],
        "timing": [_timing(result, metrics[result.env]) for result in results],
        "runs": _runs(results),
    }


# -- statistics ------------------------------------------------------------------------------------------------------


def _scores(result: Result, metric: str, kind: str) -> np.ndarray | None:
    """[n, 1]; None if a seed lacks it."""
    if kind == "final":
        known = all(metric in seed.curves for seed in result.seeds)
        return np.array([[seed.curves[metric][-1]] for seed in result.seeds]) if known else None
    if not all(metric in seed.absolute for seed in result.seeds):
        return None
    return np.array([[seed.absolute[metric]] for seed in result.seeds])


def _same_steps(result: Result) -> bool:
    return len({seed.steps for seed in result.seeds}) == 1


def _scale(
    env: str, metric: str, group: Sequence[Result], given: Mapping[str, tuple[float, float]] | None
) -> dict[str, Scale]:
    """Of each kind of score that all have: without a scale of the environment's own, each has its own."""
    kinds = [kind for kind in KINDS if _kind(group, metric, kind) == kind]
    every = {kind: [_required(_scores(r, metric, kind)) for r in group] for kind in kinds}
    return {kind: scale_of(env, metric, scores, given) for kind, scores in every.items()}


def _environment(
    env: str, metric: str, group: Sequence[Result], scales: Mapping[str, Scale], bootstrap: Bootstrap
) -> dict[str, Any]:
    methods = []
    for result in group:
        entry: dict[str, Any] = {"method": result.method, "algorithm": result.algorithm, "n": len(result.seeds)}
        entry["few"] = len(result.seeds) < FEW
        entry["steps"] = result.seeds[0].steps[-1]
        for kind in KINDS:
            scores = _scores(result, metric, kind)
            entry[kind] = None if scores is None else _rounded(bootstrap.aggregates(scores))
        for kind, scale in scales.items():
            if scale.fixed:
                gap = bootstrap.gap(scale.unit(_required(_scores(result, metric, kind))))
                entry.setdefault("gap", {})[kind] = _triple(gap)
        for kind in KINDS:
            scores = _scores(result, SAMPLED + metric, kind)
            if scores is not None:
                entry.setdefault("sampled", {})[kind] = _rounded(bootstrap.aggregates(scores))
        entry["seeds"] = {
            seed.seed: {
                "final": number(seed.curves[metric][-1]),
                "absolute": number(seed.absolute[metric]) if metric in seed.absolute else None,
            }
            for seed in result.seeds
        }
        if _same_steps(result):
            scores = np.array([[seed.curves[metric]] for seed in result.seeds])
            entry["curve"] = {"x": list(result.seeds[0].steps), **_columns(bootstrap.curve(scores))}
            entry["seed_curves"] = {s.seed: [number(y) for y in s.curves[metric]] for s in result.seeds}
        if is_rate(metric):
            entry["steps_to"] = {
                str(rate): _reached([first_reached(s.steps, s.curves[metric], rate) for s in result.seeds])
                for rate in REACHED
            }
        methods.append(entry)
    kind = _kind(group, metric)
    found = {r.method: _required(_scores(r, metric, kind)) for r in group}
    scale = scales[kind]
    return {
        "env": env,
        "version": _versions(env, group),
        "metric": metric,
        "scale": {"low": number(scale.low), "high": number(scale.high), "fixed": scale.fixed},
        "methods": methods,
        "compared_by": kind,
        "improvement": _improvements(found, bootstrap),
        "profile": _profiles({name: scale.unit(scores) for name, scores in found.items()}, bootstrap, scale),
    }


def _aggregate(
    by_env: dict[str, list[Result]],
    metrics: dict[str, str],
    scaled: Mapping[str, Mapping[str, Scale]],
    bootstrap: Bootstrap,
) -> dict[str, Any] | None:
    """Over all environments, for the methods that ran in each of them; None where there are not several."""
    if len(by_env) < 2:
        return None
    of_method = {
        result.method: {env: r for env, group in by_env.items() for r in group if r.method == result.method}
        for group in by_env.values()
        for result in group
    }
    everywhere = {method: found for method, found in of_method.items() if len(found) == len(by_env)}
    if not everywhere:
        return None
    kinds = [kind for kind in KINDS if all(_kind(group, metrics[env], kind) == kind for env, group in by_env.items())]
    n = {method: min(len(r.seeds) for r in found.values()) for method, found in everywhere.items()}
    matrices: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    curves: dict[str, np.ndarray] = {}
    for method, found in everywhere.items():
        for kind in kinds:
            columns = []
            for env, result in found.items():
                scores = _required(_scores(result, metrics[env], kind))[: n[method]]
                columns.append(scaled[env][kind].unit(scores))
            matrices[kind][method] = np.concatenate(columns, axis=1)
        grids = {seed.steps for result in found.values() for seed in result.seeds}
        if len(grids) == 1 and all(is_rate(metrics[env]) for env in found):
            curves[method] = np.stack(
                [[seed.curves[metrics[env]] for seed in r.seeds[: n[method]]] for env, r in found.items()], axis=1
            )
    kind = kinds[-1]
    methods = []
    for method, found in everywhere.items():
        entry: dict[str, Any] = {"method": method, "n": n[method], "few": n[method] < FEW}
        entry["algorithm"] = next(iter(found.values())).algorithm
        for name in KINDS:
            entry[name] = _rounded(bootstrap.aggregates(matrices[name][method])) if name in kinds else None
            if name in kinds and all(scale.fixed for of_env in scaled.values() for scale in of_env.values()):
                entry.setdefault("gap", {})[name] = _triple(bootstrap.gap(matrices[name][method]))
        if method in curves:
            steps = next(iter(found.values())).seeds[0].steps
            entry["curve"] = {"x": list(steps), **_columns(bootstrap.curve(curves[method]))}
        methods.append(entry)
    return {
        "environments": list(by_env),
        "left_out": [method for method in of_method if method not in everywhere],
        "scaled": {env: [*scaled[env][kind]] for env, metric in metrics.items() if not is_rate(metric)},
        "methods": methods,
        "compared_by": kind,
        "improvement": _improvements(matrices[kind], bootstrap),
        "profile": _profiles(matrices[kind], bootstrap, Scale(0.0, 1.0, True)),
    }


def _kind(group: Sequence[Result], metric: str, wanted: str = "absolute") -> str:
    """What to compare by: the absolute metric where all have it."""
    return wanted if all(_scores(r, metric, wanted) is not None for r in group) else "final"


def _improvements(scores: dict[str, np.ndarray], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Every pair of methods: how probable it is that one is better, and that their difference is chance."""
    names = list(scores)
    pairs = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    tests = {(x, y): permutation_test(scores[x], scores[y], bootstrap.seed) for x, y in pairs}
    corrected = holm({pair: test.p for pair, test in tests.items()})
    return [
        {
            "method": x,
            "over": y,
            "probability": _triple(bootstrap.improvement(scores[x], scores[y])),
            "difference": number(tests[x, y].difference),
            "p": number(tests[x, y].p),
            "p_holm": number(corrected[x, y]),
            "p_smallest": number(tests[x, y].smallest),
            "p_holm_smallest": number(smallest_corrected(list(tests.values()))),
            "exact": tests[x, y].exact,
        }
        for x, y in pairs
    ]


def _profiles(scores: dict[str, np.ndarray], bootstrap: Bootstrap, scale: Scale) -> dict[str, Any]:
    return {
        "x": [number(scale.low + tau * (scale.high - scale.low)) for tau in TAUS],
        "methods": {name: _columns(bootstrap.profile(matrix, TAUS)) for name, matrix in scores.items()},
    }


def _published(by_env: dict[str, list[Result]], metrics: dict[str, str], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Ours beside what others have published, environment by environment; published figures are means."""
    found = []
    for env, group in by_env.items():
        rate = is_rate(metrics[env])
        unit, times = ("win_percent", 100) if rate else (metrics[env], 1)
        others = [entry for entry in published(env) if unit in entry]
        ours = []
        for result in group:
            mean = bootstrap.aggregates(_required(_scores(result, metrics[env], "final")))["mean"]
            sampled = _scores(result, SAMPLED + metrics[env], "final")
            ours.append(
                {
                    "method": result.method,
                    "algorithm": result.algorithm,
                    unit: [round(times * x, 4) for x in mean],
                    f"sampled_{unit}": None if sampled is None else number(times * float(sampled.mean())),
                    "actions": played(metrics[env]),
                    "n": len(result.seeds),
                    "steps": result.seeds[0].steps[-1],
                    "environment_version": _versions(env, [result]) or "not said",
                }
            )
        if others:
            versions = [str(one["environment_version"]) for one in ours]
            found.append({"env": env, "caution": caution(env, versions), "ours": ours, "others": others})
    return found


def _versions(env: str, results: Sequence[Result]) -> str:
    """Of an environment, in these results."""
    found = {s.environment_version(env) for result in results for s in result.sources} - {""}
    return " and ".join(sorted(found))


def _timing(result: Result, metric: str) -> dict[str, Any]:
    """Seconds are those of whole programs, which train all their seeds together."""
    programs: dict[str, dict[str, Any]] = {}
    for seed in result.seeds:
        entry = programs.setdefault(
            seed.source.name, {"seconds": 0.0, "steps": 0, "memory": seed.source.peak_memory_mb}
        )
        entry["seconds"] = max(entry["seconds"], seed.seconds[-1])
        entry["steps"] += seed.steps[-1]
    seconds, steps = sum(p["seconds"] for p in programs.values()), sum(p["steps"] for p in programs.values())
    memories = [p["memory"] for p in programs.values() if p["memory"]]
    to = None
    known = all(math.isfinite(t) for s in result.seeds for t in s.seconds)
    if known and is_rate(metric):
        to = {
            str(rate): _reached([first_reached(s.seconds, s.curves[metric], rate) for s in result.seeds])
            for rate in REACHED
        }
    return {
        "env": result.env,
        "method": result.method,
        "programs": len(programs),
        "n": len(result.seeds),
        "seconds": number(seconds) if known else None,
        "steps_per_second": number(steps / seconds) if known and seconds > 0 else None,
        "peak_memory_mb": max(memories) if memories else None,
        "seconds_to": to,
    }


def _runs(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What made each run."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for source in result.sources:
            entry = found.setdefault(
                source.name,
                {
                    "name": source.name,
                    "methods": [],
                    "command": source.command,
                    "versions": {k: v for k, v in source.versions.items() if k not in ("command", "resumed")},
                    "machine": dict(source.machine),
                    "environment_versions": [],
                },
            )
            entry["methods"].append([result.env, result.method])
            version = source.environment_version(result.env)
            if version and version not in entry["environment_versions"]:
                entry["environment_versions"].append(version)
    return list(found.values())


def _reached(times: list[float | None]) -> dict[str, Any]:
    there = [t for t in times if t is not None]
    middle = median_reached(times)
    return {"median": None if middle is None else number(middle), "reached": len(there), "n": len(times)}


def _required(scores: np.ndarray | None) -> np.ndarray:
    assert scores is not None
    return scores


def number(value: float) -> float | None:
    """Rounded, so that the last bits of a machine's sums do not show; None if it is not finite."""
    return round(float(value), _DIGITS) + 0.0 if math.isfinite(value) else None


def _triple(interval: Interval) -> list[float | None]:
    return [number(x) for x in interval]


def _rounded(aggregates: dict[str, Interval]) -> dict[str, Any]:
    return {name: _triple(interval) for name, interval in aggregates.items()}


def _columns(intervals: Sequence[Interval]) -> dict[str, list[float | None]]:
    return {name: [number(getattr(i, name)) for i in intervals] for name in Interval._fields}
