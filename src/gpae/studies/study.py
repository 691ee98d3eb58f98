"""What a study is: runs of environments x algorithms x settings x seeds, each in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpae.runs.directory import CONFIG, METRICS
from gpae.runs.evaluations import lacking, read_evaluations
from gpae.training.config import ExperimentConfig
from gpae.training.together import differing

DEFAULT = "default"
"""Name of the setting of a study that names none."""

State = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class StudyRun:
    """One training of a study: a setting of an algorithm in an environment, with some or all of the seeds."""

    name: str
    setting: str
    config: ExperimentConfig
    path: Path
    remarks: tuple[str, ...] = ()
    """Settings of the file that do nothing here, a sentence each."""

    @property
    def algorithm(self) -> str:
        """The algorithm's name."""
        return self.config.algorithm.name

    @property
    def label(self) -> str:
        """What tables call its method."""
        return self.algorithm if self.setting == DEFAULT else f"{self.algorithm} ({self.setting})"

    @property
    def steps(self) -> int:
        """Environment steps of all its seeds."""
        return self.config.num_steps * self.config.seeds

    @property
    def state(self) -> State:
        """What its folder holds: nothing, a run to be resumed, or one with absolute metrics of every seed."""
        if not (self.path / CONFIG).exists():
            return "new"
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        found = read_evaluations(self.path)
        return "started" if lacking(found, self.config.env, self.algorithm, seeds) else "finished"

    @property
    def progress(self) -> tuple[int, float]:
        """Environment steps done by all its seeds, and the training time that they took in seconds."""
        line = _last_line(self.path / METRICS)
        return (int(line["env_steps"]) * self.config.seeds, float(line["seconds"])) if line else (0, 0.0)


@dataclass(frozen=True)
class Study:
    """A study, expanded."""

    name: str
    path: Path
    """Its folder, which holds the runs'."""
    runs: tuple[StudyRun, ...]
    settings_at_once: int = 1
    """How many runs that differ in traced settings alone one program trains."""

    def shareable(self, together: Sequence[StudyRun]) -> tuple[int, int]:
        """What devices can share of runs that one program trains: groups of environments, and seeds."""
        one = together[0].config
        return (one.groups or 1, one.seeds) if len(together) == 1 else (1, 1)

    def groups(self, runs: Sequence[StudyRun]) -> list[tuple[StudyRun, ...]]:
        """`runs`, those together that one program trains; in order of the first of each."""
        found: list[list[StudyRun]] = []
        for run in runs:
            for group in found:
                if len(group) < self.settings_at_once and differing(group[0].config, run.config) is None:
                    group.append(run)
                    break
            else:
                found.append([run])
        return [tuple(group) for group in found]


def _last_line(file: Path) -> dict[str, Any] | None:
    """The last whole line of a file of JSON lines, without reading all of it."""
    try:
        with open(file, "rb") as handle:
            end = handle.seek(0, 2)
            handle.seek(max(0, end - 65536))
            lines = handle.read().split(b"\n")[:-1]
        return json.loads(lines[-1]) if lines and lines[-1] else None
    except (OSError, ValueError):
        return None
