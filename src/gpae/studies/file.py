"""A study's file: TOML that names environments x algorithms x settings x seeds, and the runs that it expands to.

    name = "quick"                        # runs are kept in runs/quick
    preset = "quickstart"                 # what all settings change from
    environments = ["smax/3m"]
    algorithms = ["gpae", "mappo"]
    seeds = 3
    seeds_at_once = 3                     # trained together, in one program; default: all
    settings_at_once = 1                  # likewise settings that differ in traced values; default: 1
    steps = 500_000                       # of each seed
    evaluation = { times = 20, episodes = 32 }

    [all]                                 # settings of every run
    num_envs = 64
    [for.actor-critic]                    # ... of a family: actor-critic, per-agent, value-based
    lambda = 0.9
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

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpae.algorithms import algorithm_called
from gpae.envs.registry import parameters
from gpae.errors import UserError, unknown_name
from gpae.runs.directory import check_name, read_config, refuse_other_settings
from gpae.runs.files import read_text
from gpae.settings import checked, flag, settings_of
from gpae.studies.place import locate
from gpae.studies.study import DEFAULT, Study, StudyRun
from gpae.training.config import ExperimentConfig, as_dict, from_dict, known_to, remarks
from gpae.training.experiment import Experiment
from gpae.training.presets import FAMILIES, layers, names, preset

TOP = (
    *("name", "preset", "environments", "algorithms", "steps", "evaluation"),
    *("seeds", "first_seed", "seeds_at_once", "settings_at_once"),
    *("all", "for", "settings"),
)
_EVALUATION = ("times", "every", "episodes")
# These belong to the study as a whole, so that its runs can be compared.
OWNED = {
    "env": "environments",
    "algorithm": "algorithms",
    "seed": "first_seed",
    "seeds": "seeds",
    "total_steps": "steps",
    "evaluations": "evaluation.times",
    "evaluation_episodes": "evaluation.episodes",
}
_MOST_RUNS = 10_000
_MOST = 2**40


def read_study(file: Path, runs: Path = Path("runs")) -> Study:
    """The study that a TOML file describes, checked before anything is compiled.

    Args:
      file: the TOML file.
      runs: folder of all studies' folders.

    Raises:
      UserError: the file is wrong, or its runs exist with other settings. The message names the line and the key.
    """
    return Reader(file, read_text(file), runs).read()


class Reader:
    """One reading of a file: knows text and place, so that complaints can."""

    top: tuple[str, ...] = TOP
    """What may stand at the top."""

    def __init__(self, file: Path, text: str, runs: Path):
        self.file, self.text, self.runs = file, text, runs

    def wrong(self, key: Sequence[str], message: str, value: str | None = None) -> UserError:
        """The error about a key."""
        return UserError(f"{self.file}, line {locate(self.text, key, value)}: {'.'.join(key)}: {message}")

    def read(self) -> Study:
        """The study."""
        data = self.parsed()
        name, columns = self.columns(data)
        found: list[StudyRun] = []
        for column in columns:
            found += self.runs_of(data, *column, self.runs / name)
        self.different_names(found)
        for run in found:
            self.same_as_before(run)
        at_once = self.whole(data, ("settings_at_once",), 1, most=_MOST_RUNS)
        return Study(name, self.runs / name, tuple(found), settings_at_once=at_once)

    def parsed(self) -> dict[str, Any]:
        """The file as TOML has it, its top checked."""
        try:
            data = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise UserError(f"{self.file} is not TOML: {str(error)[:200]}") from error
        if "trials" in data and "trials" not in self.top:
            raise self.wrong(("trials",), f"this file is a tuning's: gpae tune {self.file} carries it out")
        self.known(data, (), self.top)
        return data

    def columns(self, data: Mapping[str, Any]) -> tuple[str, list[tuple[Mapping[str, Any], str, str, str]]]:
        """The name; and what there is to be, each a table of settings, its name, an environment and an algorithm."""
        name = self.text_of(data, ("name",), self.file.stem)
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name) or len(name) > 100:
            raise self.wrong(("name",), f"{name!r} would not do as a folder's name: letters, digits, - _ . please")
        self.name_of_preset(self.text_of(data, ("preset",), "quickstart"), ("preset",))
        environments = self.names(data, ("environments",))
        algorithms = self.names(data, ("algorithms",))
        for env in environments:
            self.checked(("environments",), env, lambda env=env: parameters(env))
        for one in algorithms:
            self.checked(("algorithms",), one, lambda one=one: algorithm_called(one))
        self.for_algorithms(data, (), algorithms)
        self.table(data, ("all",), {})
        settings = self.table(data, ("settings",), {DEFAULT: {}})
        if not settings:
            raise self.wrong(("settings",), "names no setting")
        found: list[tuple[Mapping[str, Any], str, str, str]] = []
        for env in environments:
            for setting in settings:
                if not re.fullmatch(r"[\w.+-]{1,60}", setting):
                    raise self.wrong(
                        ("settings", setting), "would not do as a folder's name: letters, digits, - _ . + please"
                    )
                for one in self.algorithms_of(settings, setting, algorithms):
                    found.append((settings[setting], setting, env, one))
        return name, found

    def runs_of(
        self, data: Mapping[str, Any], values: Mapping[str, Any], setting: str, env: str, one: str, path: Path
    ) -> list[StudyRun]:
        """The runs of a setting of an algorithm in an environment: one, or one for so many seeds at once."""
        config, said = self.config(data, values, setting, env, one)
        found = []
        for part in self.parts(data, config):
            numbers = [] if part == config else [f"seeds{part.seed}-{part.seed + part.seeds - 1}"]
            name = "-".join([name_of(env, one, setting), *numbers])
            try:
                check_name(name)
            except UserError as error:
                raise self.wrong(("settings", setting) if setting != DEFAULT else ("name",), str(error)) from error
            found.append(StudyRun(name, setting, part, path / name, said))
        return found

    def different_names(self, runs: Sequence[StudyRun]) -> None:
        """Refuses two runs of one name: `gpae` with setting `state`, and `gpae-state`."""
        seen: dict[str, StudyRun] = {}
        for run in runs:
            # Some file systems do not tell capitals from small letters.
            twin = seen.setdefault(run.name.lower(), run)
            if twin is not run:
                raise self.wrong(
                    ("settings", run.setting) if run.setting != DEFAULT else ("algorithms",),
                    f"{twin.label} and {run.label} in {run.config.env} would both be kept as {run.name}: rename one",
                )

    def algorithms_of(self, settings: Mapping[str, Any], setting: str, algorithms: list[str]) -> list[str]:
        """The algorithms that a setting is for, in the study's order."""
        key = ("settings", setting)
        values = self.table(settings, (setting,), {}, where=key)
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
        """Checks a table `for`: its keys are algorithms of the study or families, its values tables of settings."""
        for name, inner in self.table(values, ("for",), {}, where=(*key, "for")).items():
            if name not in (*algorithms, *FAMILIES):
                known = [*algorithms, *FAMILIES]
                raise self.wrong((*key, "for", name), str(unknown_name("algorithm of this study", name, known)))
            if not isinstance(inner, dict):
                raise self.wrong((*key, "for", name), f"must be a table of settings, not {inner!r}")

    def config(
        self, data: Mapping[str, Any], values: Mapping[str, Any], setting: str, env: str, algorithm: str
    ) -> tuple[ExperimentConfig, tuple[str, ...]]:
        """The settings of one run, and what is to be said of those that do nothing."""
        start, overrides, origin = self.gathered(data, values, setting, env, algorithm)
        place = ("settings", setting) if setting != DEFAULT else ("name",)
        config = self.made(start, overrides, origin, place)
        self.fits(config, origin, place)
        return config, tuple(remarks(config, origin))

    def gathered(
        self, data: Mapping[str, Any], values: Mapping[str, Any], setting: str, env: str, algorithm: str
    ) -> tuple[ExperimentConfig, dict[str, Any], dict[str, tuple[str, ...]]]:
        """Of one method: what its settings change from; their values, by names as Python has them; of those that the
        file's tables have set, where.
        """
        here, cls = ("settings", setting), algorithm_called(algorithm)
        own = {k: v for k, v in values.items() if k not in ("only", "for", "preset")}
        sources = [
            *layers(data, cls),
            (here, own),
            *(((*here, *key), table) for key, table in layers({"for": values.get("for", {})}, cls)),
        ]
        steps = self.whole(data, ("steps",))
        try:
            start = preset(values.get("preset", data.get("preset", "quickstart")), algorithm)
        except UserError as error:
            raise self.wrong((*here, "preset") if "preset" in values else ("preset",), str(error)) from error
        overrides: dict[str, Any] = {}
        origin: dict[str, tuple[str, ...]] = {}
        for key, table in sources:
            for name, value in table.items():
                field, read = self.value((*key, name), name, value, start)
                overrides[field], origin[field] = read, (*key, name)
        own_words: dict[str, Any] = {
            "env": env,
            "seed": self.whole(data, ("first_seed",), 0, least=0, most=2**31 - 1),
            "seeds": self.whole(data, ("seeds",), 1, most=10_000),
            "total_steps": steps,
        }
        return start, overrides | own_words | self.evaluation(data, steps), origin

    def made(
        self,
        start: ExperimentConfig,
        values: dict[str, Any],
        origin: Mapping[str, tuple[str, ...]],
        place: tuple[str, ...],
    ) -> ExperimentConfig:
        """`start` with other values, which fit together; `place` is blamed where no setting of the file is."""
        # A study's results are the same wherever it runs: no number of devices decides what is learnt.
        alone = {} if start.groups else {"groups": 1}
        try:
            return start.replace(**alone | values).validate()
        except UserError as error:
            raise self.blamed(error, origin, place, f"{values['env']}, {start.algorithm.name}") from error

    def fits(self, config: ExperimentConfig, origin: Mapping[str, tuple[str, ...]], place: tuple[str, ...]) -> None:
        """Makes environment, networks and losses, so that settings which do not fit are found now."""
        try:
            Experiment(config)
        except UserError as error:
            raise self.blamed(error, origin, place, f"{config.env}, {config.algorithm.name}") from error

    def blamed(
        self, error: UserError, origin: Mapping[str, tuple[str, ...]], place: tuple[str, ...], where: str
    ) -> UserError:
        """The error at the setting that its words name."""
        words = str(error)
        named = [n for n in origin if re.search(rf"(?<![\w-]){re.escape(flag(n))}\b|\b{re.escape(n)}\b", words)]
        return self.wrong(origin[named[0]] if named else place, f"{words} (in {where})")

    def value(self, key: tuple[str, ...], name: str, value: Any, start: ExperimentConfig) -> tuple[str, Any]:
        """A setting by its name in Python, and its value, checked."""
        if name in OWNED:
            raise self.wrong(key, f"is the same for the whole study: set {OWNED[name]!r} at the top")
        try:
            (field,) = known_to(start, {name: value})
            return field, checked(settings_of(start)[field], value)
        except UserError as error:
            raise self.wrong(key, str(error)) from error

    def parts(self, data: Mapping[str, Any], config: ExperimentConfig) -> list[ExperimentConfig]:
        """The same settings for so many seeds at once."""
        at_once, end = self.whole(data, ("seeds_at_once",), config.seeds), config.seed + config.seeds
        firsts = range(config.seed, end, at_once)
        if len(firsts) > _MOST_RUNS:
            raise self.wrong(("seeds_at_once",), f"makes {len(firsts):,} runs of one setting: more than {_MOST_RUNS:,}")
        return [config.replace(seed=first, seeds=min(at_once, end - first)) for first in firsts]

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
        before = as_dict(from_dict(read_config(run.path)))
        try:
            refuse_other_settings(run.path, before, as_dict(run.config))
        except UserError as error:
            raise UserError(f"{error}; give the study another name, or remove that run") from error

    # -- values --------------------------------------------------------------------------------------------------

    def known(self, table: Mapping[str, Any], key: tuple[str, ...], allowed: Sequence[str]) -> None:
        """Every key of a table has one of these names."""
        for name in table:
            if name not in allowed:
                raise self.wrong((*key, name), str(unknown_name("setting" if key else "key", name, allowed)))

    def table(
        self, data: Mapping[str, Any], key: tuple[str, ...], default: dict[str, Any], where: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """A table; the default where there is none."""
        found = data.get(key[-1], default)
        if not isinstance(found, dict):
            raise self.wrong(where or key, f"must be a table, not {_short(found)}")
        return found

    def text_of(self, data: Mapping[str, Any], key: tuple[str, ...], default: str) -> str:
        """A string; the default where there is none."""
        found = data.get(key[-1], default)
        if not isinstance(found, str):
            raise self.wrong(key, f"must be a string, not {_short(found)}")
        return found

    def name_of_preset(self, name: str, key: tuple[str, ...]) -> None:
        """Refuses what is no preset."""
        if name not in names():
            raise self.wrong(key, str(unknown_name("preset", name, names())))

    def names(self, data: Mapping[str, Any], key: tuple[str, ...]) -> list[str]:
        """A list of names, which must be there."""
        found = data.get(key[-1])
        if found is None:
            raise UserError(f"{self.file}: {'.'.join(key)} is missing: a list of names")
        if not (isinstance(found, list) and found and all(isinstance(name, str) for name in found)):
            raise self.wrong(key, f"must be a list of names, not {_short(found)}")
        if twice := [name for i, name in enumerate(found) if name in found[:i]]:
            raise self.wrong(key, f"{twice[0]!r} stands there twice")
        return found

    def whole(
        self,
        data: Mapping[str, Any],
        key: tuple[str, ...],
        default: int | None = None,
        least: int = 1,
        most: int = _MOST,
    ) -> int:
        """A whole number in a range; the default where there is none."""
        found = data.get(key[-1], default)
        if found is None:
            raise UserError(f"{self.file}: {'.'.join(key)} is missing: a whole number")
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            raise self.wrong(key, f"must be a whole number between {least} and {most}, not {_short(found)}")
        return found

    def checked(self, key: tuple[str, ...], name: str, make: Any) -> None:
        """Makes something by its name, or says where the name stands."""
        try:
            make()
        except UserError as error:
            raise self.wrong(key, str(error), name) from error


def name_of(env: str, algorithm: str, setting: str) -> str:
    """What a method in an environment is called as a folder."""
    return "-".join([re.sub(r"[/:]", "-", env), algorithm, *([] if setting == DEFAULT else [setting])])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
