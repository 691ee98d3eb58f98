"""Where results come from: run directories, and files of others in the marl-eval schema."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gpae.errors import UserError
from gpae.runs.directory import CONFIG, read_config
from gpae.runs.evaluations import EVALUATIONS
from gpae.runs.files import exists, read_regular
from gpae.runs.record import recorded
from gpae.runs.shared import FILM
from gpae.runs.versions import VERSIONS, read_versions
from gpae.training.config import EvaluationPlan
from gpae.training.existing import completed

PLACE = ("env", "algorithm", "preset", "seed", "seeds")
"""Settings that say where a run stands, rather than how it was trained."""
_LOOKING = ("total_steps", *(field.name for field in fields(EvaluationPlan)))
"""Settings that say how long to train and how often to look: what differs in these is said, and not told apart."""
_LARGEST = 64 << 20
"""Bytes of the largest film that a page holds."""


@dataclass(frozen=True)
class Source:
    """A run directory or file that results come from."""

    name: str
    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    """Every setting of today's, those that there were not when the run was made as it had them."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    peak_memory_mb: float | None = None

    @property
    def command(self) -> str:
        """What made it; empty if it does not say."""
        words = self.versions.get("command") or []
        return " ".join(["gpae", *words[1:]]) if words else ""

    def environment_version(self, env: str) -> str:
        """Which rules an environment had, and whose code: "SMAX 0.2 (own)"; empty where it has no versions."""
        if env.startswith("mabrax/"):
            return f"brax {self.versions.get('brax') or 'not said'}"
        if not env.startswith("smax/") or not self.config:
            return ""
        options = dict(option.split("=", 1) for option in self.config.get("env_options", ()) if "=" in option)
        jaxmarl = self.versions.get("jaxmarl") or "not said"
        if options.get("backend", self.versions.get("smax")) in ("own", "gpae") or "version" in options:
            return f"SMAX {options.get('version', '0.2')} (own)"
        return f"SMAX {'.'.join(str(jaxmarl).split('.')[:2])} (JaxMARL {jaxmarl})"

    def film(self) -> bytes | None:
        """The film of an episode, if there is one: a regular file that begins as a GIF."""
        file = self.path / FILM
        if not exists(file):
            return None
        try:
            content = read_regular(file, most=_LARGEST)
        except UserError:
            return None
        return content if content[:6] in (b"GIF87a", b"GIF89a") else None


def find(path: Path, prefix: str = "") -> tuple[list[tuple[Source, Path]], list[str]]:
    """The files of evaluations at a path, with where they come from; and remarks on what was passed over.

    Args:
      path: a file in the marl-eval schema, a run directory, or any folder with runs below it. Links to run directories
        are followed, each directory once.
      prefix: what names begin with.

    Raises:
      UserError: there is nothing of that name, or a file of a run is damaged.
    """
    if path.is_file():
        # Runs all call it alike.
        return [(Source(name=prefix.rstrip("/") or path.name, path=path.parent), path)], []
    if not path.is_dir():
        raise UserError(f"there is no {path}")
    found, remarks = [], []
    for run in _run_directories(path):
        study = recorded(run.parent)
        name = prefix + str(run.relative_to(path)) if run != path else prefix.rstrip("/") or run.name
        config = completed(read_config(run)) if exists(run / CONFIG) and exists(run / VERSIONS) else {}
        versions = read_versions(run) if exists(run / VERSIONS) else {}
        memory = study.get("runs", {}).get(run.name, {}).get("peak_memory_mb")
        found.append((Source(name, run, config, versions, study.get("machine", {}), memory), run / EVALUATIONS))
    there = {source.path.name for source, _ in found}
    planned = recorded(path).get("runs", {})
    if missing := [name for name in planned if name not in there]:
        have = "has" if len(missing) == 1 else "have"
        remarks.append(f"{', '.join(missing)} of the study in {path} {have} not been evaluated yet")
    if planned and (besides := [name for name in sorted(there) if name not in planned]):
        remarks.append(f"{', '.join(besides)} in {path}: not in the study's file as it was run last")
    order = {prefix + name: i for i, name in enumerate(planned)}
    return sorted(found, key=lambda pair: order.get(pair[0].name, len(order))), remarks


def _run_directories(path: Path) -> list[Path]:
    """Folders that hold evaluations, in order; links are followed, no folder is visited twice."""
    found, seen = [], set()
    for folder, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if EVALUATIONS in files:
            found.append(Path(folder))
    return sorted(found)


def labels_of(sources: Sequence[tuple[Source, Path]]) -> tuple[dict[str, str], list[str]]:
    """What tables call the method of each of our runs: as its study says, or by what tells it from others.

    Runs of one name that were trained otherwise, in one environment, are told apart by that too; remarks say so.
    """
    labels: dict[str, str] = {}
    remarks: list[str] = []
    alone: dict[str, list[Source]] = {}
    for source, _ in sources:
        said = recorded(source.path.parent).get("runs", {}).get(source.path.name, {}).get("method")
        if said:
            labels[source.name] = said
        elif source.config:
            alone.setdefault(source.config["algorithm"], []).append(source)
    for algorithm, group in alone.items():
        names = [n for n in group[0].config if n not in PLACE]
        telling = [n for n in names if len({shown(s.config.get(n)) for s in group}) > 1]
        for source in group:
            labels[source.name] = _with(algorithm, _words(source, telling))
    named: dict[str, list[Source]] = {}
    for source, _ in sources:
        if source.name in labels and source.config:
            named.setdefault(labels[source.name], []).append(source)
    for label, group in named.items():
        if telling := _telling(group):
            remarks.append(f"{label}: runs of this name were trained with different settings: {', '.join(telling)}")
            for source in group:
                labels[source.name] = _with(label, _words(source, telling))
    return labels, remarks


def _telling(group: Sequence[Source]) -> list[str]:
    """The settings in which runs differ that were made in the same environment; how often they look is none."""
    found: dict[str, None] = {}
    for env in dict.fromkeys(source.config["env"] for source in group):
        here = [source.config for source in group if source.config["env"] == env]
        for name in here[0]:
            if name not in (*PLACE, *_LOOKING) and len({shown(config.get(name)) for config in here}) > 1:
                found[name] = None
    return list(found)


def _words(source: Source, telling: Sequence[str]) -> str:
    return ", ".join(f"{name} {shown(source.config.get(name))}" for name in telling)


def _with(label: str, words: str) -> str:
    """A method's name with more in its brackets."""
    if not words:
        return label
    return f"{label[:-1]}, {words})" if label.endswith(")") else f"{label} ({words})"


def shown(value: Any) -> str:
    """A setting's value, in words."""
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
