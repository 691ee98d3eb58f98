"""Named settings, one file each in the studies' grammar: what every flag starts from.

    summary = "one line"
    extends = "quickstart"              # another preset, from which this one changes
    algorithms = ["actor-critic"]       # algorithms, or families of them, that it has settings for
    steps = 10_000_000
    [all]                               # settings of every algorithm
    [for.actor-critic]                  # ... of a family: actor-critic, per-agent, value-based
    [for.gpae]                          # ... of one algorithm

The later of these wins. Preset files are part of the package; `layers` reads studies' tables by the same rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from gpae.algorithms import Algorithm, algorithm_called
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.per_agent import PerAgent
from gpae.algorithms.value_based import ValueBased
from gpae.errors import UserError, unknown_name
from gpae.training.config import ExperimentConfig

FAMILIES: dict[str, type] = {"actor-critic": ActorCritic, "per-agent": PerAgent, "value-based": ValueBased}
"""Families of algorithms, the wider ones first."""
NONE = "none"
"""The preset of plain defaults."""
_ORDER = (
    *("quickstart", "smax", "tuned", "tuned-5m_vs_6m", "tuned-3s_vs_5z"),
    *("paper", "paper-off-policy", "jaxmarl", "mava", "authors", "mabrax", "paper-mabrax"),
)


@cache
def _read(name: str) -> dict[str, Any]:
    if name not in names():
        raise unknown_name("preset", name, [*names(), NONE])
    return tomllib.loads(resources.files("gpae.training.presets").joinpath(f"{name}.toml").read_text("utf-8"))


@cache
def names() -> tuple[str, ...]:
    """All presets, in the order in which they are listed to users."""
    files = resources.files("gpae.training.presets").iterdir()
    found = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)))


def summary(name: str) -> str:
    """A preset in one line."""
    return _read(name)["summary"]


def groups(cls: type[Algorithm]) -> list[str]:
    """What a table `for` may call an algorithm, from its widest family to itself."""
    return [*(family for family, base in FAMILIES.items() if issubclass(cls, base)), cls.name]


def layers(table: Mapping[str, Any], cls: type[Algorithm]) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The tables of settings in `table` that concern an algorithm, with their keys; the later ones win."""
    inner = table.get("for", {})
    return [(("all",), table.get("all", {})), *((("for", g), inner[g]) for g in groups(cls) if g in inner)]


def preset(name: str, algorithm: str = "gpae", **settings: Any) -> ExperimentConfig:
    """The settings called `name` for an algorithm, with other values of some of them.

    Args:
      name: one of `names()`, or "none" for plain defaults.
      algorithm: of which.
      settings: by their flat names.

    Raises:
      UserError: an unknown preset or algorithm, one that has nothing to say about the other, or a wrong setting.
    """
    cls = algorithm_called(algorithm)
    start = ExperimentConfig(algorithm=cls())
    if name != NONE:
        if not _covers(name, cls):
            fits = [n for n in names() if _covers(n, cls)]
            raise UserError(f"preset {name} has no settings for {algorithm}; those that do: {', '.join([*fits, NONE])}")
        start = _applied(name, start)
    return start.replace(**settings)


def _covers(name: str, cls: type[Algorithm]) -> bool:
    found = _read(name)
    if "algorithms" not in found:
        return _covers(found["extends"], cls)
    return bool(set(found["algorithms"]) & set(groups(cls)))


def _applied(name: str, start: ExperimentConfig) -> ExperimentConfig:
    found = _read(name)
    if "extends" in found:
        start = _applied(found["extends"], start)
    if "steps" in found:
        start = start.replace(total_steps=found["steps"])
    values: dict[str, Any] = {}
    for _, table in layers(found, type(start.algorithm)):
        values |= table
    return start.replace(**values)
