"""An experiment: what is learnt, where, by which algorithm, with which settings.

Settings are parts within parts, and flat wherever they are named: on the command line, in config.json, in presets and
in studies a name belongs to exactly one part.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from gpae.algorithms import ALGORITHMS, GPAE, Algorithm, algorithm_called, having
from gpae.algorithms.sharding import of_group
from gpae.errors import UserError, unknown_name
from gpae.networks import ShownContinuousPolicy
from gpae.runs.directory import check_name
from gpae.settings import Count, Size, between, check_ranges, flag, replaced, settings, settings_of, values_of
from gpae.training import version_0_1
from gpae.training.distributed import Place


@settings
class EvaluationPlan:
    """Evaluation."""

    evaluations: Count = 20
    """Evaluations during training, evenly spread."""
    evaluation_episodes: Size = 32
    """Episodes of each evaluation, greedy and sampled apart; ten times as many for the best parameters at the end."""
    checkpoint_updates: Annotated[int | None, between(1, 2**40)] = None
    """Updates between checkpoints; None: at every evaluation."""
    updates_per_call: Size = 1
    """Updates that run on the device before the host looks at them."""

    def updates(self, last: int) -> tuple[set[int], set[int]]:
        """The updates of 1 to `last` after which to evaluate and to save: ends of calls, the last one in both."""
        calls = last // self.updates_per_call
        number = min(self.evaluations, calls)
        evaluate_at = {round(calls * (i + 1) / number) * self.updates_per_call for i in range(number)}
        save_at = evaluate_at
        if every := self.checkpoint_updates:
            save_at = set(range(0, last, math.ceil(every / self.updates_per_call) * self.updates_per_call))
        return evaluate_at, save_at | {last}


@settings
class ExperimentConfig:
    """What is learnt, where, and by which algorithm."""

    env: str = "smax/2s3z"
    """Environment, as listed by `gpae envs`."""
    env_options: tuple[str, ...] = ()
    """Options of the environment, each as name=value, such as walls_cause_death=false."""
    timeout_is_termination: bool = False
    """Treat the time limit as the episode's own end, as JaxMARL's scripts do, instead of valuing what lies beyond."""
    seed: Annotated[int, between(0, 2**31 - 1)] = 0
    """First random seed."""
    seeds: Annotated[int, between(1, 10_000)] = 1
    """How many seeds to train at once, in one program: seed, seed + 1, ..."""
    total_steps: Count = 500_000
    """Environment steps of training, rounded up to whole updates."""
    from_: str | None = None
    """Run directory whose last parameters this training starts from, as far as they fit."""
    groups: Annotated[int | None, between(1, 1024)] = None
    """Groups that environments are shared out in, each shuffled by itself; as many devices as divide it can train.
    None: one for every device that trains when the run begins, which is written down."""
    matmul_precision: Literal["default", "float32"] = "default"
    """Of matrix products. JAX's default is TF32 on NVIDIA's GPUs, 10 bits of mantissa; on CPUs both are float32."""
    algorithm: Algorithm = GPAE()
    evaluation: EvaluationPlan = EvaluationPlan()

    # -- derived sizes ---------------------------------------------------------------------------------------------

    @property
    def num_updates(self) -> int:
        """Updates of the whole training: `total_steps`, rounded up to whole calls of the device."""
        per_call = self.evaluation.updates_per_call
        return math.ceil(self.total_steps / (self.algorithm.steps_per_update * per_call)) * per_call

    @property
    def num_steps(self) -> int:
        """Environment steps that are really run."""
        return self.num_updates * self.algorithm.steps_per_update

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of the whole training."""
        return self.num_updates * self.algorithm.optimisation.steps

    # -- other values ----------------------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> ExperimentConfig:
        """The same experiment with other values of settings, by their flat names.

        Raises:
          UserError: a setting that the algorithm does not have, or a value of another type or out of range.
        """
        return replaced(self, known_to(self, changes))

    def validate(self) -> ExperimentConfig:
        """Checks what can be checked before anything is compiled.

        Raises:
          UserError: a setting is out of its range, or settings do not fit together; the message names them.
        """
        check_ranges(self)
        if self.seed + self.seeds > 2**31:
            raise UserError(f"--seed {self.seed} with --seeds {self.seeds}: seeds must be below 2147483648")
        self.algorithm.validate()
        if self.groups is not None and self.groups > 1:
            of_group(self.algorithm, self.groups).validate()
        return self


def remarks(config: ExperimentConfig, names: Iterable[str]) -> list[str]:
    """Of the settings `names` (as Python has them) those that do nothing beside the others, or may harm: sentences."""
    idle, risky, values = config.algorithm.idle(), config.algorithm.risky(), values_of(config)
    asked = list(names)
    vain = [f"{flag(name)} does nothing here: {idle[name]}" for name in asked if name in idle]
    return vain + [f"{flag(name)} {values[name]} may harm here: {risky[name]}" for name in asked if name in risky]


def configure(algorithm: str | Algorithm = "gpae", **settings: Any) -> ExperimentConfig:
    """An experiment from flat names: `configure("mappo", env="smax/3m", num_envs=32, clip=0.1)`.

    Args:
      algorithm: its name, or an object with settings of its own.
      settings: any setting of the experiment and the algorithm; the others are as they are by default.

    Raises:
      UserError: an unknown algorithm, a setting that it does not have, or a value of another type or out of range.

    Warns of settings that do nothing beside the others' values, such as eta on-policy, or may harm.
    """
    start = algorithm_called(algorithm)() if isinstance(algorithm, str) else algorithm
    config = ExperimentConfig(algorithm=start).replace(**settings)
    for sentence in remarks(config, settings):
        warnings.warn(sentence, stacklevel=2)
    return config


def known_to(config: ExperimentConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` by the names that Python has for them ("lambda" is lambda_).

    Raises:
      UserError: a name that the experiment's algorithm does not have; the message says which have it.
    """
    known = {setting.key: name for name, setting in settings_of(config).items()}
    for name in changes:
        if name.rstrip("_") not in known:
            raise refusal(name, config.algorithm.name)
    return {known[name.rstrip("_")]: value for name, value in changes.items()}


def refusal(name: str, algorithm: str) -> UserError:
    """The error for a setting that an algorithm does not have."""
    owners = having(name) or having(name + "_")
    if owners:
        return UserError(f"{flag(name)} belongs to {', '.join(owners)}; {algorithm} has nothing that it would change")
    everything = {s.key for cls in ALGORITHMS.values() for s in settings_of(ExperimentConfig(algorithm=cls())).values()}
    return unknown_name("setting", name, everything)


def as_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The settings as plain values, flat, for JSON."""
    names = {name: setting.key for name, setting in settings_of(config).items()}
    values = {names[name]: value for name, value in values_of(config).items()}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {"env": plain.pop("env"), "algorithm": config.algorithm.name, **plain}


_LATER = (
    *("groups", "from_", "matmul_precision", "share_parameters", "reward"),
    *settings_of(ShownContinuousPolicy),
    *("normalise_observations", "normalise_values", "huber", "initial_weights"),
    *("forget", "window_memory", "window_start"),
    *("critic_epochs", "entropy_end", "normalise_state"),
)
"""Settings that the first runs do not have. Defaults are what those did, but for groups, which was 1."""


def with_later(values: Mapping[str, Any], config: ExperimentConfig) -> dict[str, Any]:
    """`values`, as `as_dict` gave them for such an experiment, with what there was no setting for yet."""
    known = settings_of(config)
    return {known[name].key: known[name].default for name in _LATER if name in known} | {"groups": 1} | dict(values)


def from_dict(values: Mapping[str, Any]) -> ExperimentConfig:
    """The inverse of `as_dict`; settings of version 0.1 are translated.

    Raises:
      UserError: fields are missing, unknown or of another type; the message names them.
    """
    values = dict(values)
    name = values.pop("algorithm", None)
    if not isinstance(name, str):
        raise UserError(f"algorithm must be a name, not {name!r}")
    cls = algorithm_called(name)
    if version_0_1.made(values):
        values = version_0_1.translated(values, cls)
    start = ExperimentConfig(algorithm=cls())
    keys = {setting.key for setting in settings_of(start).values()}
    values = with_later(values, start)
    if wrong := sorted(keys ^ values.keys()):
        raise UserError(f"these settings of {name} are not those of this version of gpae: {', '.join(wrong)}")
    return start.replace(**values)


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept and whom it tells. None of this changes what is learnt."""

    name: str | None = None
    """Name of the run, its folder in `runs`; None: ENV-ALGORITHM-seedN."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    resume: bool = False
    """Continue the run of this name from its last checkpoint."""
    overwrite: bool = False
    """Replace the run of this name."""
    devices: int | None = None
    """Devices that train, which share seeds and `groups` evenly; None: as many as can, or one CPU."""
    place: Place | None = None
    """Where this process stands among several that train this run; None: it is alone."""
    quiet: bool = False
    """Print nothing."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""
    wandb: bool = False
    """Log to Weights & Biases too; WANDB_MODE=offline works."""

    def path(self, config: ExperimentConfig) -> Path:
        """The run directory.

        Raises:
          UserError: the name would not do as a folder's.
        """
        seeds = f"{config.seed}" if config.seeds == 1 else f"{config.seed}-{config.seed + config.seeds - 1}"
        default = f"{config.env.replace('/', '-').replace(':', '-')}-{config.algorithm.name}-seed{seeds}"
        return Path(self.runs) / (check_name(self.name) if self.name is not None else default)
