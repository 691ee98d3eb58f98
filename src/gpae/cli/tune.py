"""`gpae tune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gpae.cli.parse import Command


@dataclass
class Tune(Command):
    """Searches the settings that a tuning's file names, with as many trials for each method; goes on where it was."""

    file: Annotated[Path, tyro.conf.Positional]
    """The tuning, a TOML file."""
    runs: Path = Path("runs")
    """Folder of all studies' and tunings' folders."""
    dry_run: bool = False
    """Show the plan, and start nothing."""

    def run(self) -> int:
        """Shows the plan, carries it out, and prints what won."""
        from gpae.cli.show import console, patience, printable, table
        from gpae.report.tuning import write_tuning
        from gpae.studies.tuner import tried, tune
        from gpae.studies.tuning import read_tuning

        tuning = read_tuning(self.file, self.runs)
        rows, total = [], 0
        for method, done in tried(tuning):
            left = max(0, tuning.trials - len(done))
            steps = left * method.config.num_steps * method.config.seeds
            total += steps
            rows.append([method.name, ", ".join(method.keys.values()), f"{len(done)}", f"{left}", f"{steps:,}"])
        table(["method", "searched", "trials done", "to do", "steps at most"], rows)
        for method in tuning.methods:
            for sentence in method.remarks:
                print(printable(f"{method.name}: {sentence}"))
        print(f"{tuning.name}: {total:,} steps to do at most, {tuning.at_once} trials in one program")
        if self.dry_run:
            return 0
        code = tune(tuning, console=console())
        with patience("drawing"):
            said = write_tuning(tuning)
        print(printable(said))
        return code
