"""A tuning's file: a study's, in which a setting may have a range or choices in the place of a value.

    name = "tune-small"                   # kept in runs/tune-small
    environments = ["smax/3m"]
    algorithms = ["gpae", "mappo"]
    first_seed = 1000
    seeds = 2                             # of each trial, trained together
    steps = 100_000                       # of each seed
    evaluation = { times = 10, episodes = 64 }

    trials = 24                           # of each method in each environment
    trials_at_once = 4                    # that one program trains: they differ in inputs of the program alone
    sampler = "tpe"                       # or "random"
    score = { metric = "win_rate", last = 3 }     # default: the environment's score
    prune = { after = 5, from = 4, keep = 0.5 }   # or false; see `Pruning`

    [all]
    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    epochs = { choices = [2, 4, 8] }
    [for.gpae]
    eta = { low = 1.0, high = 2.0 }
    [settings.window]                     # a method of its own, with trials of its own
    only = ["gpae"]
    window = { choices = [2, 4] }

Whatever else may stand in a study's file means the same here. `gpae.studies.tuner` carries a tuning out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpae.errors import UserError, unknown_name
from gpae.runs.files import read_text
from gpae.settings import settings_of, values_of
from gpae.studies.file import OWNED, TOP, Reader, name_of
from gpae.studies.space import Choices, Domain, combinations, read_domain
from gpae.studies.study import DEFAULT
from gpae.training.config import ExperimentConfig, as_dict, known_to, remarks
from gpae.training.experiment import Experiment

DATABASE = "tuning.db"
"""Where Optuna keeps what it knows of the trials, in the tuning's folder."""
Sampler = Literal["tpe", "random"]
SAMPLERS = ("tpe", "random")
_OWN = ("trials", "trials_at_once", "sampler", "score", "prune")
_LAST = 3
_METRICS = ("win_rate", "return", "sampled_win_rate", "sampled_return")


@dataclass(frozen=True)
class Score:
    """What a trial is judged by."""

    metric: str
    last: int
    """Evaluations, the last ones, whose mean it is."""


@dataclass(frozen=True)
class Pruning:
    """A trial ends early where its best score so far is below that of others at the same evaluation.

    So does Optuna's `PercentilePruner`, which compares with the trials that have run to their end.
    """

    after: int = 5
    """Trials that must have run to their end before."""
    start: int = 1
    """The first evaluation, counted from 1, at which trials may end."""
    keep: float = 0.5
    """The fraction of the others that a trial must be among."""


@dataclass(frozen=True)
class Method:
    """A setting of an algorithm in an environment, with what is searched for it."""

    name: str
    """Of its folder."""
    setting: str
    config: ExperimentConfig
    """Its settings; those that are searched have some value of their domain."""
    space: Mapping[str, Domain]
    """Setting, as Python has it -> what is searched."""
    start: ExperimentConfig
    """The preset that its settings change from."""
    score: Score
    remarks: tuple[str, ...] = ()
    """What is searched in vain, since it does nothing beside the other settings, a sentence each."""

    @property
    def label(self) -> str:
        """What it is called beside others in its environment."""
        algorithm = self.config.algorithm.name
        return algorithm if self.setting == DEFAULT else f"{algorithm} ({self.setting})"

    @property
    def shared(self) -> tuple[str, ...]:
        """Of what is searched, the settings in which trials of one program may not differ."""
        known = settings_of(self.config)

        def is_input(name: str) -> bool:
            domain = self.space[name]
            return known[name].traced and not (isinstance(domain, Choices) and None in domain.values)

        return tuple(name for name in self.space if not is_input(name))

    def trial(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """The settings of a trial."""
        return self.config.replace(**values).validate()

    def as_dict(self) -> dict[str, Any]:
        """What makes the trials comparable, for JSON."""
        fixed = {key: value for key, value in as_dict(self.config).items() if key not in self.keys.values()}
        space = {self.keys[name]: domain.as_dict() for name, domain in self.space.items()}
        return {"settings": fixed, "space": space, "score": [self.score.metric, self.score.last]}

    @property
    def keys(self) -> dict[str, str]:
        """Setting that is searched, as Python has it -> as files have it."""
        known = settings_of(self.config)
        return {name: known[name].key for name in self.space}

    def lines(self, values: Mapping[str, Any]) -> list[str]:
        """TOML that makes the preset's settings a trial's: a table for a preset or a study."""
        config, known = self.trial(values), settings_of(self.config)
        # One group is what all trials have that are told nothing else, and says nothing of them.
        before, owned = values_of(self.start.replace(groups=self.start.groups or 1)), {*OWNED}
        changed = {
            known[name].key: value
            for name, value in values_of(config).items()
            if known[name].key not in owned and (name not in before or value != before[name])
        }
        return [f"[for.{config.algorithm.name}]", *(f"{key} = {toml(value)}" for key, value in changed.items())]


@dataclass(frozen=True)
class Tuning:
    """A tuning, as its file has it."""

    name: str
    path: Path
    """Its folder, which holds the database and the trials' runs."""
    methods: tuple[Method, ...]
    trials: int
    """Of each method."""
    at_once: int
    """Trials that one program trains."""
    sampler: Sampler
    pruning: Pruning | None


def read_tuning(file: Path, runs: Path = Path("runs")) -> Tuning:
    """The tuning that a TOML file describes, checked before anything is compiled.

    Args:
      file: the TOML file.
      runs: folder of all studies' folders.

    Raises:
      UserError: the file is wrong. The message names the line and the key.
    """
    return _TuningReader(file, read_text(file), runs).tuning()


class _TuningReader(Reader):
    """One reading of a tuning's file."""

    top = (*(name for name in TOP if name not in ("seeds_at_once", "settings_at_once")), *_OWN)

    def tuning(self) -> Tuning:
        data = self.parsed()
        name, columns = self.columns(data)
        begun = (self.runs / name / DATABASE).exists()
        methods: list[Method] = []
        for values, setting, env, one in columns:
            method = self.method(data, values, setting, env, one, begun)
            if twin := [other for other in methods if other.name.lower() == method.name.lower()]:
                key = ("settings", setting) if setting != DEFAULT else ("algorithms",)
                raise self.wrong(
                    key, f"{twin[0].label} and {method.label} would both be kept as {method.name}: rename one"
                )
            methods.append(method)
        trials = self.whole(data, ("trials",), most=1_000_000)
        sampler = self.text_of(data, ("sampler",), "tpe")
        if sampler not in SAMPLERS:
            raise self.wrong(("sampler",), str(unknown_name("sampler", sampler, SAMPLERS)))
        return Tuning(
            name=name,
            path=self.runs / name,
            methods=tuple(methods),
            trials=trials,
            at_once=min(trials, self.whole(data, ("trials_at_once",), 1, most=1000)),
            sampler="random" if sampler == "random" else "tpe",
            pruning=self.pruning(data, methods[0].config.evaluation.evaluations),
        )

    def method(
        self, data: Mapping[str, Any], values: Mapping[str, Any], setting: str, env: str, one: str, begun: bool
    ) -> Method:
        start, found, origin = self.gathered(data, values, setting, env, one)
        place = ("settings", setting) if setting != DEFAULT else ("algorithms",)
        space = {name: value for name, value in found.items() if isinstance(value, Domain)}
        if not space:
            raise self.wrong(place, f"nothing is searched for {one} in {env}: give a setting choices or a range")
        origin = {name: origin[name] for name in space} | origin  # what is searched is blamed first
        configs, unfit = [], None
        for picked in combinations(space):
            try:
                configs.append(self.made(start, found | picked, origin, place))
            except UserError as error:
                unfit = error
                if not begun:  # else its file can be changed no more, and what does not fit is drawn anew
                    raise
        if unfit and not configs:
            raise unfit
        vain = set.intersection(*(set(remarks(config, space)) for config in configs))
        self.fits(configs[0], origin, place)
        score = self.score(data, configs[0])
        name = name_of(env, one, setting)
        return Method(
            name=name,
            setting=setting,
            config=configs[0],
            space=space,
            start=start,
            score=score,
            remarks=tuple(sorted(vain)),
        )

    def value(self, key: tuple[str, ...], name: str, value: Any, start: ExperimentConfig) -> tuple[str, Any]:
        """A setting by its name in Python, and its value or what is searched, checked."""
        if not isinstance(value, dict) or name in OWNED:
            return super().value(key, name, value, start)
        try:
            (field,) = known_to(start, {name: value})
            return field, read_domain(settings_of(start)[field], value)
        except UserError as error:
            raise self.wrong(key, str(error)) from error

    def score(self, data: Mapping[str, Any], config: ExperimentConfig) -> Score:
        """What trials are judged by."""
        table = self.table(data, ("score",), {})
        self.known(table, ("score",), ("metric", "last"))
        measured = Experiment(config)
        metric = self.text_of(table, ("score", "metric"), measured.score_name)
        if metric not in _METRICS or metric.removeprefix("sampled_") not in measured.measures:
            can = [name for name in _METRICS if name.removeprefix("sampled_") in measured.measures]
            raise self.wrong(("score", "metric"), f"{metric!r} is no score of {config.env}: {', '.join(can)}")
        times = config.evaluation.evaluations
        return Score(metric, self.whole(table, ("score", "last"), min(_LAST, times), most=times))

    def pruning(self, data: Mapping[str, Any], times: int) -> Pruning | None:
        """When trials end early."""
        if data.get("prune") is False:
            return None
        table = {} if data.get("prune") is True else self.table(data, ("prune",), {})
        self.known(table, ("prune",), ("after", "from", "keep"))
        keep = table.get("keep", Pruning.keep)
        if not isinstance(keep, float) or not 0 < keep < 1:
            raise self.wrong(("prune", "keep"), f"must be a number between 0 and 1, not {keep!r}")
        return Pruning(
            after=self.whole(table, ("prune", "after"), Pruning.after, most=1_000_000),
            start=self.whole(table, ("prune", "from"), max(1, times // 3), most=times),
            keep=keep,
        )


def toml(value: Any) -> str:
    """A setting's value as TOML has it, such that it is read as the same."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return '"None"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
