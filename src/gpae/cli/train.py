"""`gpae train`: the flags of one algorithm, in named groups; every other flag is refused with those that have it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gpae.cli.parse import parse
from gpae.diagnostics.pictures import train
from gpae.errors import UserError
from gpae.runs.directory import read_config
from gpae.settings import flag, is_settings, replaced, settings, settings_of
from gpae.training.config import ExperimentConfig, RunOptions, from_dict, refusal, remarks
from gpae.training.distributed import Place, leave, place
from gpae.training.presets import NONE, names, preset
from gpae.training.stopped import HostLost, Stopped

_TRAIN = """Trains agents. Defaults are those of the preset; the flags are those of the algorithm.

    gpae train --resume RUN continues a run with the settings that it has; --total-steps may grow."""
_FREE = ("--help", "-h")
_TOLD = ("quiet", "tensorboard", "wandb")
_WITH_RESUME = (
    "--resume",
    "--total-steps",
    *("--devices", "--coordinator", "--hosts", "--host"),
    *(f"--{no}{name}" for name in _TOLD for no in ("", "no-")),
    *_FREE,
)


@dataclass(frozen=True)
class Choice:
    """Which flags there are."""

    algorithm: str = "gpae"
    """Algorithm, as listed by `gpae algorithms`. The flags below are those that it has."""
    preset: str = "quickstart"
    """Named settings that the flags change from: quickstart, smax, tuned, tuned-5m_vs_6m, tuned-3s_vs_5z,
    paper, paper-off-policy, jaxmarl, mava, authors, mabrax, paper-mabrax; none: plain defaults."""


@dataclass(frozen=True)
class New:
    """Where a run is kept and whom it tells."""

    name: str | None = None
    """Name of the run, its folder in `runs`; None: ENV-ALGORITHM-seedN."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    overwrite: bool = False
    """Replace the run of this name."""
    devices: int | None = None
    """Devices that train, which share seeds and --groups evenly; None: as many as can, or one CPU."""
    quiet: bool = False
    """Print nothing."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""
    wandb: bool = False
    """Log to Weights & Biases too; WANDB_MODE=offline works."""


@dataclass(frozen=True)
class Hosts:
    """Where several processes train one run, of which each has devices: the same command in each of them."""

    hosts: int = 1
    """How many processes there are."""
    host: int | None = None
    """Which one this is, from 0, which writes the files; None: as srun says."""
    coordinator: str | None = None
    """HOST:PORT of number 0, as all others reach it; None: as srun says."""

    def place(self) -> Place | None:
        """Where this process stands among them; None: it is alone."""
        return place(self.coordinator, self.hosts, self.host)


@dataclass(frozen=True)
class Resume:
    """Continues a run from its last checkpoint, with the settings that it has."""

    resume: Path
    """The run directory."""
    total_steps: int | None = None
    """More environment steps than the run was to make; None: as many as it was to make."""
    devices: int | None = None
    """Devices that train, which share the run's seeds and groups evenly; None: as many as can."""
    quiet: bool = False
    """Print nothing."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""
    wandb: bool = False
    """Log to Weights & Biases too."""
    hosts: Annotated[Hosts, tyro.conf.arg(name="")] = Hosts()


def main(words: Sequence[str]) -> int:
    """Trains; the exit code."""
    config, options, remarks = request(words)
    for remark in remarks:
        print(remark, file=sys.stderr)
    try:
        train(config, options)
    except Stopped as stop:
        print(f"gpae: {stop}", file=sys.stderr)
        if isinstance(stop, HostLost):
            leave(stop.exit_code)
        return stop.exit_code
    return 0


def request(words: Sequence[str]) -> tuple[ExperimentConfig, RunOptions, list[str]]:
    """What the words of `gpae train` ask for, checked, and remarks on flags that do nothing beside the others, or harm.

    Raises:
      UserError: a flag that the algorithm does not have, a value that does not fit, a flag that --resume forbids.
      SystemExit: --help, or what tyro cannot read; it has been printed.
    """
    given = {_spelt(word.partition("=")[0]) for word in words if word.startswith("--")}
    if "--resume" in given:
        return *_resumed(words, given), []
    start = _start(words)
    _refuse_foreign(given, start)
    config, options = _parsed(words, start)
    return config, options, remarks(config, [name for name in settings_of(config) if flag(name) in given])


def _spelt(word: str) -> str:
    """A flag as help texts spell it: tyro takes --num_envs too."""
    return word.replace("_", "-")


def _start(words: Sequence[str]) -> ExperimentConfig:
    """The preset, which depends on the algorithm, is what all other flags change from: these two are read first."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default=Choice.preset)
    first.add_argument("--algorithm", default=Choice.algorithm)
    try:
        chosen, _ = first.parse_known_args(list(words))
    except argparse.ArgumentError as error:  # a flag without its value, which may begin with a dash
        raise UserError(f"{error.argument_name}: {error.message}; presets: {', '.join([*names(), NONE])}") from error
    return preset(chosen.preset, chosen.algorithm)


def _flags(config: ExperimentConfig) -> set[str]:
    """Everything that `gpae train` takes for this algorithm."""
    known = {setting.flag: setting.kind for setting in settings_of(config).values()}
    known |= {flag(f.name): f.type for kind in (Choice, New, Hosts) for f in fields(kind)}
    return {*known, *("--no-" + name[2:] for name, kind in known.items() if kind in (bool, "bool")), *_FREE}


def _refuse_foreign(given: set[str], config: ExperimentConfig) -> None:
    known = _flags(config)
    for word in sorted(given):
        if word not in known:
            positive = "--" + word.removeprefix("--no-") if word.startswith("--no-") else word
            raise refusal(positive[2:].replace("-", "_"), config.algorithm.name)


def _parsed(words: Sequence[str], start: ExperimentConfig) -> tuple[ExperimentConfig, RunOptions]:
    run_boxes = {"run": (New, New()), "hosts": (Hosts, Hosts())}
    boxes = {"choice": (Choice, Choice(start.algorithm.name)), **_boxes("experiment", start), **run_boxes}
    # Made of names, and not written as a class: which parts there are is known only now.
    Train = make_dataclass("Train", [(name, kind) for name, (kind, _) in boxes.items()], frozen=True)
    Train.__doc__ = _TRAIN
    flags: Any = parse(Train, "train", words, Train(*(default for _, default in boxes.values())))
    parts = [getattr(flags, name) for name in boxes if name not in ("choice", *run_boxes)]
    values = {f.name: x for part in parts for f in fields(part) if not is_settings(type(x := getattr(part, f.name)))}
    run = RunOptions(**{f.name: getattr(flags.run, f.name) for f in fields(New)}, place=flags.hosts.place())
    return replaced(start, values), run


def _boxes(title: str, value: Any) -> dict[str, tuple[type, Any]]:
    """Title -> class and default of each part of `value`, the parts of parts beside it, so that each has a box."""
    changes: dict[str, tuple[Any, Any]] = {}
    inner: dict[str, tuple[type, Any]] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if is_settings(type(part)):
            changes[field.name] = (Annotated[type(part), tyro.conf.Fixed, tyro.conf.Suppress], part)
            inner |= _boxes(getattr(part, "name", field.name).replace("-", "_"), part)
        elif field.name.endswith("_"):  # which Python needs, and a command line does not
            plain = settings_of(type(value))[field.name]
            changes[field.name] = (Annotated[plain.kind, tyro.conf.arg(name=plain.key)], part)
    kind = _derived(type(value), changes)
    return {title: (kind, kind(**{f.name: getattr(value, f.name) for f in fields(value)})), **inner}


def _derived(base: type, changes: dict[str, tuple[Any, Any]]) -> type:
    body = {name: default for name, (_, default) in changes.items()}
    body |= {"__annotations__": {name: kind for name, (kind, _) in changes.items()}, "__doc__": base.__doc__}
    return settings(type(base.__name__, (base,), body | {"__module__": base.__module__}))


def _resumed(words: Sequence[str], given: set[str]) -> tuple[ExperimentConfig, RunOptions]:
    if other := sorted(given - set(_WITH_RESUME)):
        raise UserError(
            f"{other[0]} with --resume: a run keeps its settings; only --total-steps may grow"
            " (--devices, --hosts, --quiet, --tensorboard and --wandb are free)"
        )
    place = list(words).index("--resume") + 1 if "--resume" in words else 0
    helped = {"-h", "--help"} & set(words)
    if place and not helped and (place == len(words) or words[place].startswith("-")):
        raise UserError("--resume takes the run directory and no other setting: gpae train --resume runs/NAME")
    flags = parse(Resume, "train --resume", ["--help"] if helped else words)
    config = from_dict(read_config(flags.resume))
    if flags.total_steps is not None:
        config = config.replace(total_steps=flags.total_steps)
    path = Path(flags.resume)
    if path.name in ("", ".."):
        path = path.resolve()
    options = RunOptions(
        name=path.name,
        runs=path.parent,
        resume=True,
        devices=flags.devices,
        place=flags.hosts.place(),
        quiet=flags.quiet,
        tensorboard=flags.tensorboard,
        wandb=flags.wandb,
    )
    return config, options
