"""`gpae study` and `gpae report`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gpae.cli.parse import Command, in_range
from gpae.errors import UserError


@dataclass
class Study(Command):
    """Trains everything that a study's file names; finished runs are kept, others continue."""

    file: Annotated[Path, tyro.conf.Positional]
    """The study, a TOML file."""
    runs: Path = Path("runs")
    """Folder of all studies' folders."""
    dry_run: bool = False
    """Show the plan, and start nothing."""
    launcher: Literal["local", "slurm"] = "local"
    """Where to run: on this machine, one process per GPU or one at a time; or as jobs of a SLURM cluster."""
    slurm: tuple[str, ...] = ()
    """Options of the cluster's jobs, each as name=value with a value as TOML has it, such as slurm_partition="gpu"."""
    steps_per_second: float = 2500.0
    """Assumed for the estimate of time until a run of the study has finished."""

    def run(self) -> int:
        """Shows the plan and carries it out."""
        if not 0 < self.steps_per_second < math.inf:
            raise UserError(f"--steps-per-second is {self.steps_per_second}; it must be greater than 0")
        import jax

        from gpae.cli.show import console
        from gpae.studies.display import show_plan
        from gpae.studies.estimate import Estimate
        from gpae.studies.execute import run_study
        from gpae.studies.file import read_study
        from gpae.studies.launchers import Launcher, LocalLauncher, SubmititLauncher, slurm_parameters

        # The trainings need the accelerator's memory: this process keeps off it.
        jax.config.update("jax_platforms", "cpu")
        parameters = slurm_parameters(self.slurm)
        study = read_study(self.file, self.runs)
        estimate = Estimate.of(study, self.steps_per_second)
        local = LocalLauncher()
        slots = local.slots if self.launcher == "local" else SubmititLauncher.slots
        show_plan(study, estimate, slots, console())
        if self.dry_run:
            return 0
        launcher: Launcher = local
        if self.launcher == "slurm":
            launcher = SubmititLauncher(study.path / "slurm", parameters=parameters)
        return run_study(study, launcher, estimate=estimate, console=console(), imports=self.imports)


@dataclass
class Report(Command):
    """Compares runs: statistics with intervals, plots, tables and a web page."""

    paths: Annotated[list[Path], tyro.conf.Positional]
    """Folders of runs, such as a study's, or JSON files in the marl-eval schema."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write; None: `report` in the first folder."""
    resamples: int = 2000
    """Bootstrap samples of each interval."""
    seed: int = 0
    """Seed of the bootstrap."""
    against: Path | None = None
    """A report.json of the same study, made before, such as results/quick/report.json: says what came out otherwise."""
    metric: str | None = None
    """The score to compare by; None: win_rate, or a return where nothing is won."""
    tuning: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder of `gpae tune` in which settings of these runs were chosen: its budget and sensitivity are told too.

    Of several folders each has a flag of its own."""
    scale: tuple[str, ...] = ()
    """Returns that stand for 0 and 1 where environments are put together, each as ENVIRONMENT=LOW:HIGH."""

    def run(self) -> int:
        """Writes the report and says where it is."""
        if not self.paths:
            raise UserError("gpae report takes folders of runs, such as runs/quick, or JSON files")
        in_range("--resamples", self.resamples, 1, 10**7)
        in_range("--seed", self.seed, 0)
        from gpae.cli.show import patience, printable
        from gpae.report.scores import parse_scales
        from gpae.report.write import write_report

        scales = parse_scales(self.scale)

        with patience("resampling and drawing"):
            said = write_report(
                self.paths,
                self.output,
                resamples=self.resamples,
                seed=self.seed,
                against=self.against,
                metric=self.metric,
                scales=scales,
                tunings=self.tuning,
            )
        print(printable(said))
        return 0
