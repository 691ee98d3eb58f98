"""`gpae share`: a run's policy as a small folder with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gpae.cli.loaded import OfRun
from gpae.cli.parse import in_range


@dataclass
class Share(OfRun):
    """Writes what a run has learnt as a small folder with a card that says what it is and what it can do.

    load_policy and every command about a run take such a folder; trainings begin from it with --from.
    """

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The folder to make; None: policies/NAME, the name being that of the run."""
    seed: int | None = None
    """Which seed of a run of several; None: the one that did best in the run's own evaluations."""
    episodes: int = 1000
    """New episodes to play for the card, greedy and sampled alike; 0: none, and no film."""
    license: str | None = None
    """Under which others may use it, as Hugging Face names licences, such as apache-2.0."""
    overwrite: bool = False
    """Replace the shared policy that is there."""

    def run(self) -> int:
        """Plays, writes, says what it holds."""
        in_range("--episodes", self.episodes, 0, 10**7)
        from gpae.cli.show import patience
        from gpae.report.share import share

        folder = self.output or Path("policies") / self.run_directory.resolve().name
        with patience("compiling and playing"):
            share(
                self.run_directory,
                folder,
                best=self.best,
                seed=self.seed,
                episodes=self.episodes,
                license=self.license,
                overwrite=self.overwrite,
            )
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}: {size:,} bytes; see {folder / 'README.md'}")
        return 0
