"""In what results differ that should not, if they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpae.report.load import Result
from gpae.report.sources import PLACE, shown

_ROUNDING = 0.02
"""Relative difference of step counts that comes from rounding up to whole updates."""
_VERSIONS = (
    *("gpae", "commit", "jax", "jaxlib", "jaxmarl", "flax", "optax", "numpy", "python"),
    *("platform", "device_kind", "device_count"),
)


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
        at_once = _by_value(here, lambda s: s.source.config.get("seeds", "not said"))
        if len(at_once) > 1:
            said.append(
                f"{env}: seeds trained at once differ: {_listed(at_once)}; a seed alone and the same one beside others"
                " differ in the last bits"
            )
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
                if name not in PLACE:
                    configs.setdefault(name, {}).setdefault(result.method, set()).add(shown(value))
    return {
        name: {method: " or ".join(sorted(values)) for method, values in by_method.items()}
        for name, by_method in configs.items()
        if len({frozenset(values) for values in by_method.values()}) > 1
    }


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
