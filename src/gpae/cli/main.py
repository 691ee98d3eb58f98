"""The command `gpae`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gpae.errors import UserError, unknown_name
from gpae.training.config import ExperimentConfig, RunOptions
from gpae.training.presets import PRESETS, preset

# Warnings of XLA about the machine, which no user can act upon.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@dataclass(frozen=True)
class TrainFlags:
    """Flags of `gpae train`."""

    experiment: ExperimentConfig
    run: RunOptions


@dataclass(frozen=True)
class OfRun:
    """Flags of every command about one run."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    best: bool = False
    """The parameters with the best evaluation instead of the last ones."""


@dataclass(frozen=True)
class EvaluateFlags(OfRun):
    """Flags of `gpae evaluate`."""

    episodes: int = 256
    """Episodes, greedy and sampled alike."""
    seed: int = 1_000_000
    """Seed of the episodes; none that training uses."""
    json: Path | None = None
    """Write one value per episode there too."""


@dataclass(frozen=True)
class PlayFlags(OfRun):
    """Flags of `gpae play`."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("replay.gif")
    """The picture to write."""
    episode: int = 1
    """Which episode; each number is another one."""


@dataclass(frozen=True)
class VerifyFlags:
    """Flags of `gpae verify`."""

    json: Path | None = None
    """Write the tables there too."""
    plot: Path | None = None
    """Draw bias and spread there, as PNG."""
    games: int = 50
    """Random games, besides the named ones."""
    seed: int = 0
    """Seed of the random games."""


@dataclass(frozen=True)
class CreditFlags(OfRun):
    """Flags of `gpae credit`."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("credit.png")
    """The picture to write; the animation goes beside it, as GIF."""
    episode: int = 1
    """Which episode; each number is another one."""


@dataclass(frozen=True)
class CriticFlags(OfRun):
    """Flags of `gpae critic`."""

    envs: int = 64
    """Environments to collect fresh experience in, one time limit long."""
    shuffles: int = 8
    """Permutations to take the mean over."""
    seed: int = 1_000_000
    """Seed of the experience and the shuffles; none that training uses."""
    json: Path | None = None
    """Write the figures there too."""


@dataclass(frozen=True)
class GapFlags:
    """Flags of `gpae gap`."""

    runs: Annotated[list[Path], tyro.conf.Positional]
    """Run directories, trained with --stop-agent."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("gap.png")
    """The picture to write."""


@dataclass(frozen=True)
class StudyFlags:
    """Flags of `gpae study`."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study, a TOML file."""
    runs: Path = RunOptions.runs
    """Folder of all studies' folders."""
    dry_run: bool = False
    """Show the plan, and start nothing."""
    launcher: Literal["local", "slurm"] = "local"
    """Where to run: on this machine, one process per GPU or one at a time; or as jobs of a SLURM cluster."""
    slurm: tuple[str, ...] = ()
    """Options of the cluster's jobs, each as name=value, such as slurm_partition=gpu, gpus_per_node=1."""
    steps_per_second: float = 2500.0
    """Assumed for the estimate of time until a run of the study has finished."""


@dataclass(frozen=True)
class ReportFlags:
    """Flags of `gpae report`."""

    paths: Annotated[list[Path], tyro.conf.Positional]
    """Folders of runs, such as a study's, or JSON files in the marl-eval schema."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write; default `report` in the first folder."""
    resamples: int = 2000
    """Bootstrap samples of each interval."""
    seed: int = 0
    """Seed of the bootstrap."""
    against: Path | None = None
    """A report.json of the same study, made before, such as results/quick/report.json: says what came out otherwise."""


@dataclass(frozen=True)
class NoFlags:
    """A command without flags."""


def _train(arguments: Sequence[str]) -> int:
    """Learn: gpae train --env smax/2s3z --algorithm gpae --preset quickstart"""
    # The preset, which depends on the algorithm, is what all other flags change from: these two are read first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default="quickstart")
    first.add_argument("--algorithm", default="gpae")
    try:
        chosen, _ = first.parse_known_args(arguments)
        start = preset(chosen.preset, chosen.algorithm)
    except argparse.ArgumentError:  # a flag without its value: said better by the parser of all flags
        start = ExperimentConfig()

    flags = _parse(
        TrainFlags,
        "train",
        "Trains agents. Defaults are those of the preset.",
        arguments,
        TrainFlags(start, RunOptions()),
    )
    from gpae.training.trainer import Diverged, Interrupted, train

    try:
        train(flags.experiment, flags.run)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except Diverged as stop:
        print(f"gpae: {stop}", file=sys.stderr)
        return 1
    return 0


def _evaluate(arguments: Sequence[str]) -> int:
    """Play whole episodes with a run's parameters: gpae evaluate RUN --episodes 1000"""
    flags = _parse(EvaluateFlags, "evaluate", "Win rate, return and length over many episodes.", arguments)
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    _at_least(1, "--episodes", flags.episodes)
    _at_least(0, "--seed", flags.seed)
    experiment, actor, seconds = _load(flags.run, best=flags.best)
    with _patience("compiling and playing"):
        found = experiment.evaluate(actor, purpose=3, number=flags.seed, episodes=flags.episodes)
    which = "best" if flags.best else "last"
    table = Table(title=f"{which} parameters, {flags.episodes} episodes each, mean ± standard error")
    for column in ("seed", "", "greedy", "sampled"):
        table.add_column(column, justify="left" if not column else "right")
    for seed, evaluation in zip(experiment.seeds, found, strict=True):
        for name in [name for name in evaluation if not name.startswith("sampled_")]:
            cells = [
                f"{np.mean(values):.3f} ± {np.std(values) / np.sqrt(len(values)):.3f}"
                for values in (evaluation[name], evaluation[f"sampled_{name}"])
            ]
            table.add_row(str(seed), name.replace("_", " "), *cells)
    Console().print(table)
    if flags.json:
        from gpae.runs.files import read_json, write_json
        from gpae.runs.versions import versions

        by_seed = {f"seed_{seed}": evaluation for seed, evaluation in zip(experiment.seeds, found, strict=True)}
        about = {"parameters": which, "training_seconds": round(seconds), "steps": experiment.config.num_steps}
        trained_with = read_json(flags.run / "versions.json")
        write_json(flags.json, about | {"episodes": by_seed, "training": trained_with, "evaluation": versions()})
    return 0


def _play(arguments: Sequence[str]) -> int:
    """Draw one greedy episode: gpae play RUN -o replay.gif"""
    flags = _parse(PlayFlags, "play", "Draws one greedy episode as an animated GIF.", arguments)
    _at_least(0, "--episode", flags.episode)
    experiment, actor, _ = _load(flags.run, best=flags.best)
    with _patience("compiling, playing and drawing"):
        outcome = experiment.replay(actor, flags.output, number=flags.episode)
    print(f"{flags.output}: {outcome}")
    return 0


def _credit(arguments: Sequence[str]) -> int:
    """Draw who deserves the credit in one episode: gpae credit RUN -o credit.png"""
    flags = _parse(CreditFlags, "credit", "Draws every agent's advantage over one episode of drawn actions.", arguments)
    _at_least(0, "--episode", flags.episode)
    experiment, params, _ = _load(flags.run, best=flags.best, critic=True)
    with _patience("compiling, playing and drawing"):
        outcome, animation = experiment.credit(params, flags.output, number=flags.episode)
    print(f"{flags.output}{f', {animation}' if animation else ''}: {outcome}")
    return 0


def _critic(arguments: Sequence[str]) -> int:
    """Does the critic use the others' actions? gpae critic RUN"""
    flags = _parse(
        CriticFlags,
        "critic",
        "Shuffles the others' actions of the present step and reports how much worse EQ predicts.",
        arguments,
    )
    _at_least(1, "--envs", flags.envs)
    _at_least(1, "--shuffles", flags.shuffles)
    _at_least(0, "--seed", flags.seed)
    experiment, params, _ = _load(flags.run, best=flags.best, critic=True)
    with _patience("compiling, playing and shuffling"):
        found = experiment.critic_use(params, number=flags.seed, num_envs=flags.envs, shuffles=flags.shuffles)
    rows = [
        ("mean squared error", f"{found['error']:.4g}", f"{found['shuffled_error']:.4g}"),
        ("explained variance", f"{found['explained_variance']:.3f}", f"{found['shuffled_explained_variance']:.3f}"),
    ]
    _table(("EQ against lambda-returns", "others' actions as they were", "shuffled"), rows)
    print(
        f"Shuffling the others' actions multiplies the error by {found['ratio']:.3f}"
        f" and moves the values by {found['change']:.1%} of their spread."
    )
    if flags.json:
        from gpae.runs.files import write_json
        from gpae.runs.versions import versions

        about = {"run": flags.run.name, "envs": flags.envs, "shuffles": flags.shuffles, "seed": flags.seed}
        write_json(flags.json, about | found | {"versions": versions()})
    return 0


def _gap(arguments: Sequence[str]) -> int:
    """Plot the advantage gap of runs with a stopped agent: gpae gap RUN RUN -o gap.png"""
    flags = _parse(GapFlags, "gap", "Plots the advantage gap over training, of runs with --stop-agent.", arguments)
    from gpae.diagnostics.curves import advantage_gaps

    print(advantage_gaps(flags.runs, flags.output))
    return 0


def _envs(arguments: Sequence[str]) -> int:
    """List the environments"""
    _parse(NoFlags, "envs", "Lists the environments.", arguments)
    from gpae import envs

    rows = []
    for name in envs.names():
        spec = envs.make(name).spec
        sizes = (spec.num_agents, spec.num_actions, spec.observation_size, spec.state_size, spec.episode_limit)
        rows.append((name, *map(str, sizes)))
    _table(("environment", "agents", "actions", "observation", "state", "steps at most"), rows)
    print('A SMAX scenario of your own: smax/custom:ALLIES_vs_ENEMIES, such as "smax/custom:3m2s_vs_4m1Z".')
    return 0


def _algorithms(arguments: Sequence[str]) -> int:
    """List the algorithms"""
    _parse(NoFlags, "algorithms", "Lists the algorithms.", arguments)
    from gpae.algorithms.registry import ALGORITHMS

    _table(
        ("algorithm", "critic sees", "what it is", "source"),
        [(a.name, a.critic, a.summary, a.source) for a in ALGORITHMS.values()],
    )
    _table(("preset", "what it is"), [(name, summary) for name, (summary, _) in PRESETS.items()])
    return 0


def _verify(arguments: Sequence[str]) -> int:
    """Check the theory on games that are solved exactly: gpae verify --json verify.json"""
    flags = _parse(VerifyFlags, "verify", "Checks the theory on games that are solved exactly.", arguments)
    from rich.console import Console

    from gpae.exact.verify import run

    with _patience("solving games"):
        report = run(games=flags.games, seed=flags.seed, json_path=flags.json, plot_path=flags.plot)
    report.print(Console())
    return 0 if report.holds else 1


def _study(arguments: Sequence[str]) -> int:
    """Train everything that a file names: gpae study studies/quick.toml"""
    flags = _parse(
        StudyFlags,
        "study",
        "Trains everything that a study's file names; finished runs are kept, others continue.",
        arguments,
    )
    import jax
    from rich.console import Console

    from gpae.studies.execute import Estimate, Launcher, LocalLauncher, SubmititLauncher, run_study, show_plan
    from gpae.studies.study import read_study

    if not 0 < flags.steps_per_second < float("inf"):
        raise UserError(f"--steps-per-second is {flags.steps_per_second}; it must be greater than 0")
    # The trainings need the accelerator's memory: this process keeps off it.
    jax.config.update("jax_platforms", "cpu")
    study = read_study(flags.file, flags.runs)
    parameters: dict[str, Any] = {}
    for option in flags.slurm:
        name, equals, text = option.partition("=")
        if not equals:
            raise UserError(f"--slurm {option}: an option is name=value")
        parameters[name] = int(text) if text.isdigit() else text
    console = Console(highlight=False, soft_wrap=True)
    estimate = Estimate.of(study, flags.steps_per_second)
    local = LocalLauncher()
    show_plan(study, estimate, local.slots if flags.launcher == "local" else SubmititLauncher.slots, console)
    if flags.dry_run:
        return 0
    launcher: Launcher = (
        local if flags.launcher == "local" else SubmititLauncher(study.path / "slurm", parameters=parameters)
    )
    return run_study(study, launcher, estimate=estimate, console=console)


def _report(arguments: Sequence[str]) -> int:
    """Tables, plots and a web page of what runs have found: gpae report runs/quick"""
    flags = _parse(
        ReportFlags, "report", "Compares runs: statistics with intervals, plots, tables and a web page.", arguments
    )
    _at_least(1, "--resamples", flags.resamples)
    _at_least(0, "--seed", flags.seed)
    from gpae.report.build import write_report

    with _patience("resampling and drawing"):
        print(
            write_report(flags.paths, flags.output, resamples=flags.resamples, seed=flags.seed, against=flags.against)
        )
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "play": _play,
    "envs": _envs,
    "algorithms": _algorithms,
    "credit": _credit,
    "critic": _critic,
    "gap": _gap,
    "verify": _verify,
    "study": _study,
    "report": _report,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      0; 1 if training diverged or a statement does not hold; 2 if the request was wrong; 130 or 143 after a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command, *rest = arguments or ["--help"]
    try:
        if command in ("-h", "--help"):
            print(_usage())
            return 0
        if command == "--version":
            from gpae import __version__

            print(__version__)
            return 0
        if command not in COMMANDS:
            raise unknown_name("command", command, COMMANDS)
        return COMMANDS[command](rest)
    except UserError as error:
        print(f"gpae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _usage() -> str:
    lines = [f"  {name:12}{command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: gpae COMMAND ...",
            "",
            "Generalized per-agent advantage estimation for cooperative multi-agent reinforcement learning.",
            "",
            *lines,
            "",
            "gpae COMMAND --help explains a command and its flags.",
        ]
    )


def _parse(flags: type, command: str, description: str, arguments: Sequence[str], default: Any = None) -> Any:
    return tyro.cli(
        flags,
        default=default,
        prog=f"gpae {command}",
        description=description,
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if rows and rows[0][columns.index(column)].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _patience(text: str) -> AbstractContextManager[Any]:
    """Says on stderr, where a person looks on, what takes a while."""
    from rich.console import Console

    return Console(stderr=True).status(f"{text} ...")


def _at_least(least: int, name: str, value: int) -> None:
    if not least <= value < 2**32:
        raise UserError(f"{name} is {value}; it must be between {least} and {2**32 - 1}")


def _load(run: Path, *, best: bool, critic: bool = False) -> tuple[Any, Any, float]:
    """The experiment of a run, the parameters of its actor (or of both networks), and how long it has trained."""
    from gpae.runs.checkpoint import Checkpoints
    from gpae.training.trainer import Experiment, Run

    experiment = Experiment(Run(run).config)
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        if critic:
            name, shapes = ("best", experiment.shapes.params) if best else ("state", experiment.shapes)
        else:
            name, shapes = ("best_actor" if best else "actor", experiment.shapes.params.actor)
        items, info = checkpoints.restore({name: shapes})
    found = items[name]
    return experiment, found.params if name == "state" else found, info["seconds"]


if __name__ == "__main__":
    sys.exit(main())
