"""Studies: a TOML file that names environments x algorithms x settings x seeds, and the runs that it expands to.

    name = "quick"                        # runs are kept in runs/quick
    preset = "quickstart"                 # what all settings change from
    environments = ["smax/3m"]
    algorithms = ["gpae", "mappo"]
    seeds = 3
    seeds_at_once = 3                     # trained together, in one program; default: all
    steps = 500_000                       # of each seed
    evaluation = { times = 20, episodes = 32 }

    [all]                                 # settings of every run
    num_envs = 64
    [for.gpae]                            # ... of one algorithm
    eta = 1.02
    [settings.off-policy]                 # a column of the study: each stands beside the others
    window = 2
    only = ["gpae"]                       # with these algorithms alone
    [settings.off-policy.for.gpae]        # ... of one algorithm in it
    eta = 1.1

The later of these wins. `gpae.studies.execute` carries a study out, `gpae.report` reads what it leaves behind.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gpae import envs
from gpae.algorithms.registry import algorithm
from gpae.errors import UserError, unknown_name
from gpae.runs.directory import CONFIG
from gpae.runs.evaluations import lacking, read_evaluations
from gpae.runs.files import read_json
from gpae.training.config import ExperimentConfig, RunOptions, as_dict, flag
from gpae.training.presets import PRESETS, preset

DEFAULT = "default"
"""Name of the setting of a study that names none."""
_TOP = (
    *("name", "preset", "environments", "algorithms", "steps", "evaluation"),
    *("seeds", "first_seed", "seeds_at_once"),
    *("all", "for", "settings"),
)
_EVALUATION = ("times", "every", "episodes")
# These belong to the study as a whole, so that its runs can be compared.
_OWNED = {
    "env": "environments",
    "algorithm": "algorithms",
    "seed": "first_seed",
    "seeds": "seeds",
    "total_steps": "steps",
    "evaluations": "evaluation.times",
    "evaluation_episodes": "evaluation.episodes",
}
_FIELDS = {f.name: f for f in dataclasses.fields(ExperimentConfig)}
_SETTABLE = sorted(set(_FIELDS) - set(_OWNED) - {"preset"})

State = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class StudyRun:
    """One training of a study: a setting of an algorithm in an environment, with some or all of the seeds."""

    name: str
    setting: str
    config: ExperimentConfig
    path: Path

    @property
    def label(self) -> str:
        """What tables call its method."""
        return method_label(self.config.algorithm, self.setting)

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
        return "started" if lacking(found, self.config.env, self.config.algorithm, seeds) else "finished"

    @property
    def progress(self) -> tuple[int, float]:
        """Environment steps done by all its seeds, and the training time that they took in seconds."""
        line = _last_line(self.path / "metrics.jsonl")
        return (int(line["env_steps"]) * self.config.seeds, float(line["seconds"])) if line else (0, 0.0)

    def arguments(self) -> list[str]:
        """The arguments of `gpae` that train it, from the start or from its last checkpoint on."""
        start = preset(self.config.preset, self.config.algorithm)
        words = ["train", "--env", self.config.env, "--algorithm", self.config.algorithm]
        words += ["--preset", self.config.preset]
        for name, value in as_dict(self.config).items():
            if name in ("env", "algorithm", "preset") or value == getattr(start, name):
                continue
            if isinstance(value, bool):
                words.append(flag(name) if value else flag("no_" + name))
            elif isinstance(value, tuple):
                words += [flag(name), *value]
            else:
                words += [flag(name), str(value)]
        words += ["--runs", str(self.path.parent), "--name", self.path.name]
        return [*words, "--resume"] if self.state == "started" else words


@dataclass(frozen=True)
class Study:
    """A study, expanded."""

    name: str
    path: Path
    """Its folder, which holds the runs'."""
    runs: tuple[StudyRun, ...]


def method_label(algorithm_name: str, setting: str) -> str:
    """What tables call an algorithm with a setting."""
    return algorithm_name if setting == DEFAULT else f"{algorithm_name} ({setting})"


def read_study(file: Path, runs: Path = RunOptions.runs) -> Study:
    """The study that a TOML file describes, checked before anything is compiled.

    Args:
      file: the TOML file.
      runs: folder of all studies' folders.

    Raises:
      UserError: the file is wrong, or its runs exist with other settings. The message names the line and the key.
    """
    try:
        text = file.read_text()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text in UTF-8") from error
    return _Reader(file, text, runs).read()


def locate(text: str, key: Sequence[str], value: str | None = None) -> int:
    """The line of a key in a TOML text, counted from 1; 1 if it is not there.

    Args:
      text: of the file.
      key: dotted path; where only the beginning of it is written (inline tables), its line.
      value: a string in the key's value; its line, if it stands on one of its own.
    """
    lines, table = text.splitlines(), []
    best = (0, 1)
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            table = found = _dotted(header.group(1))
        elif assigned := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w.\s-])+?)\s*=""", line):
            found = table + _dotted(assigned.group(1))
        else:
            continue
        # A table of a deeper name opens all those above it.
        common = next(
            (i for i, (a, b) in enumerate(zip(found, key, strict=False)) if a != b), min(len(found), len(key))
        )
        if (common == len(found) or common == len(key)) and common > best[0]:
            best = (common, number)
    if value is not None:
        for number in range(best[1], len(lines) + 1):
            if any(quote + value + quote in lines[number - 1] for quote in "\"'"):
                return number
    return best[1]


class _Reader:
    """One reading of a file: knows text and place, so that complaints can."""

    def __init__(self, file: Path, text: str, runs: Path):
        self.file, self.text, self.runs = file, text, runs

    def wrong(self, key: Sequence[str], message: str, value: str | None = None) -> UserError:
        """The error about a key."""
        return UserError(f"{self.file}, line {locate(self.text, key, value)}: {'.'.join(key)}: {message}")

    def read(self) -> Study:
        try:
            data = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{self.file} is not TOML: {error}") from error
        self.known(data, (), _TOP)
        name = self.text_of(data, ("name",), self.file.stem)
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
            raise self.wrong(("name",), f"{name!r} would not do as a folder's name: letters, digits, - _ . please")
        self.name_of_preset(self.text_of(data, ("preset",), "quickstart"), ("preset",))
        environments = self.names(data, ("environments",))
        algorithms = self.names(data, ("algorithms",))
        for env in environments:
            self.checked(("environments",), env, lambda env=env: envs.make(env))
        for one in algorithms:
            self.checked(("algorithms",), one, lambda one=one: algorithm(one))
        self.for_algorithms(data, (), algorithms)
        settings = self.table(data, ("settings",), {DEFAULT: {}})
        if not settings:
            raise self.wrong(("settings",), "names no setting")
        path = self.runs / name
        found = []
        for env in environments:
            for setting, values in settings.items():
                if not re.fullmatch(r"[\w.+-]+", setting):
                    raise self.wrong(
                        ("settings", setting), "would not do as a folder's name: letters, digits, - _ . + please"
                    )
                for one in self.algorithms_of(settings, setting, algorithms):
                    config = self.config(data, values, setting, env, one)
                    words = [env.replace("/", "-").replace(":", "-"), one, *([] if setting == DEFAULT else [setting])]
                    for part in self.parts(data, config):
                        numbers = [] if part == config else [f"seeds{part.seed}-{part.seed + part.seeds - 1}"]
                        run_name = "-".join([*words, *numbers])
                        run = StudyRun(run_name, setting, part, path / run_name)
                        self.same_as_before(run)
                        found.append(run)
        return Study(name, path, tuple(found))

    def algorithms_of(self, settings: Mapping[str, Any], setting: str, algorithms: list[str]) -> list[str]:
        """The algorithms that a setting is for, in the study's order."""
        key = ("settings", setting)
        values = self.table(settings, (setting,), {}, where=key)
        self.known(values, key, (*_SETTABLE, "lambda", "only", "for", "preset"))
        self.for_algorithms(values, key, algorithms)
        if "preset" in values:
            self.name_of_preset(self.text_of(values, (*key, "preset"), ""), (*key, "preset"))
        only = self.names(values, (*key, "only")) if "only" in values else algorithms
        if other := [name for name in only if name not in algorithms]:
            raise self.wrong(
                (*key, "only"), str(unknown_name("algorithm of this study", other[0], algorithms)), other[0]
            )
        return [name for name in algorithms if name in only]

    def for_algorithms(self, values: Mapping[str, Any], key: tuple[str, ...], algorithms: list[str]) -> None:
        """Checks a table `for`: its keys are algorithms of the study, its values tables of settings."""
        for name, inner in self.table(values, ("for",), {}, where=(*key, "for")).items():
            if name not in algorithms:
                raise self.wrong((*key, "for", name), str(unknown_name("algorithm of this study", name, algorithms)))
            if not isinstance(inner, dict):
                raise self.wrong((*key, "for", name), f"must be a table of settings, not {inner!r}")
            self.known(inner, (*key, "for", name), (*_SETTABLE, "lambda"))

    def config(
        self, data: Mapping[str, Any], values: Mapping[str, Any], setting: str, env: str, algorithm_name: str
    ) -> ExperimentConfig:
        """The settings of one run."""
        here = ("settings", setting)
        self.known(self.table(data, ("all",), {}), ("all",), (*_SETTABLE, "lambda"))
        sources: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [
            (("all",), data.get("all", {})),
            (("for", algorithm_name), data.get("for", {}).get(algorithm_name, {})),
            (here, {k: v for k, v in values.items() if k not in ("only", "for", "preset")}),
            ((*here, "for", algorithm_name), values.get("for", {}).get(algorithm_name, {})),
        ]
        overrides: dict[str, Any] = {}
        origin: dict[str, tuple[str, ...]] = {}
        for key, table in sources:
            for name, value in table.items():
                field = "lambda_" if name == "lambda" else name
                overrides[field] = self.value((*key, name), field, value)
                origin[field] = (*key, name)
        steps = self.whole(data, ("steps",))
        config = replace(
            preset(values.get("preset", data.get("preset", "quickstart")), algorithm_name),
            **overrides,
            env=env,
            seed=self.whole(data, ("first_seed",), 0, least=0),
            seeds=self.whole(data, ("seeds",), 1),
            total_steps=steps,
        )
        config = replace(config, **self.evaluation(data, steps))
        try:
            config.validate()
            # Builds networks and losses, so that settings which do not fit the algorithm are found now.
            from gpae.training.trainer import Experiment

            Experiment(config)
        except UserError as error:
            words = str(error)
            blamed = [n for n in origin if re.search(rf"(?<![\w-]){re.escape(flag(n))}\b|\b{re.escape(n)}\b", words)]
            key = origin[blamed[0]] if blamed else here if setting != DEFAULT else ("name",)
            raise self.wrong(key, f"{words} (in {env}, {algorithm_name})") from error
        return config

    def parts(self, data: Mapping[str, Any], config: ExperimentConfig) -> list[ExperimentConfig]:
        """The same settings for so many seeds at once."""
        at_once, end = self.whole(data, ("seeds_at_once",), config.seeds), config.seed + config.seeds
        firsts = range(config.seed, end, at_once)
        return [replace(config, seed=first, seeds=min(at_once, end - first)) for first in firsts]

    def evaluation(self, data: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """The evaluation plan, as settings."""
        table = self.table(data, ("evaluation",), {})
        self.known(table, ("evaluation",), _EVALUATION)
        found: dict[str, Any] = {}
        if "times" in table and "every" in table:
            raise self.wrong(("evaluation", "every"), "says the same as times: give one of them")
        if "times" in table:
            found["evaluations"] = self.whole(table, ("evaluation", "times"))
        if "every" in table:
            every = self.whole(table, ("evaluation", "every"))
            if steps % every:
                raise self.wrong(("evaluation", "every"), f"{every} does not divide steps = {steps}")
            found["evaluations"] = steps // every
        if "episodes" in table:
            found["evaluation_episodes"] = self.whole(table, ("evaluation", "episodes"))
        return found

    def same_as_before(self, run: StudyRun) -> None:
        """Refuses to mix a run with an older one of another make."""
        if run.state == "new":
            return
        before, now = read_json(run.path / CONFIG), json.loads(json.dumps(as_dict(run.config)))
        names = sorted((set(before) | set(now)) - {"preset"})
        differing = [name for name in names if before.get(name) != now.get(name)]
        if differing:
            changes = ", ".join(f"{n} (was {before.get(n)!r}, now {now.get(n)!r})" for n in differing)
            raise UserError(
                f"{run.path} was made with other settings: {changes}; give the study another name, or remove that run"
            )

    # -- values --------------------------------------------------------------------------------------------------

    def known(self, table: Mapping[str, Any], key: tuple[str, ...], names: Sequence[str]) -> None:
        """Every key of a table has one of these names."""
        for name in table:
            if name not in names:
                if name in _OWNED and key:
                    raise self.wrong((*key, name), f"is the same for the whole study: set {_OWNED[name]!r} at the top")
                raise self.wrong((*key, name), str(unknown_name("setting" if key else "key", name, names)))

    def table(
        self, data: Mapping[str, Any], key: tuple[str, ...], default: dict[str, Any], where: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        found = data.get(key[-1], default)
        if not isinstance(found, dict):
            raise self.wrong(where or key, f"must be a table, not {found!r}")
        return found

    def text_of(self, data: Mapping[str, Any], key: tuple[str, ...], default: str) -> str:
        found = data.get(key[-1], default)
        if not isinstance(found, str):
            raise self.wrong(key, f"must be a string, not {found!r}")
        return found

    def name_of_preset(self, name: str, key: tuple[str, ...]) -> None:
        if name not in PRESETS:
            raise self.wrong(key, str(unknown_name("preset", name, PRESETS)))

    def names(self, data: Mapping[str, Any], key: tuple[str, ...]) -> list[str]:
        found = data.get(key[-1])
        if found is None:
            raise UserError(f"{self.file}: {'.'.join(key)} is missing: a list of names")
        if not (isinstance(found, list) and found and all(isinstance(name, str) for name in found)):
            raise self.wrong(key, f"must be a list of names, not {found!r}")
        if twice := [name for i, name in enumerate(found) if name in found[:i]]:
            raise self.wrong(key, f"{twice[0]!r} stands there twice")
        return found

    def whole(self, data: Mapping[str, Any], key: tuple[str, ...], default: int | None = None, least: int = 1) -> int:
        found = data.get(key[-1], default)
        if found is None:
            raise UserError(f"{self.file}: {'.'.join(key)} is missing: a whole number")
        if not isinstance(found, int) or isinstance(found, bool) or found < least:
            raise self.wrong(key, f"must be a whole number of at least {least}, not {found!r}")
        return found

    def checked(self, key: tuple[str, ...], name: str, make: Any) -> None:
        """Makes something by its name, or says where the name stands."""
        try:
            make()
        except UserError as error:
            raise self.wrong(key, str(error), name) from error

    def value(self, key: tuple[str, ...], name: str, value: Any) -> Any:
        """A setting of the type of its field."""
        hint = typing.get_type_hints(ExperimentConfig)[name]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        if choices and value not in choices:
            raise self.wrong(key, str(unknown_name("choice", str(value), choices)))
        if choices:
            return value
        default = _FIELDS[name].default
        if isinstance(default, tuple):
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return tuple(value)
            raise self.wrong(key, f"must be a list of strings, not {value!r}")
        wanted = type(default)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is not wanted:
            words = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
            raise self.wrong(key, f"must be {words.get(wanted, wanted.__name__)}, not {value!r}")
        return value


def _dotted(text: str) -> list[str]:
    """The parts of a dotted key."""
    return [a or b or c for a, b, c in re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\.?""", text)]


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
