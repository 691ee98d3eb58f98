"""`gpae verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpae.cli.parse import Command, in_range


@dataclass
class Verify(Command):
    """Checks the theory on games that are solved exactly."""

    json: Path | None = None
    """Write the tables there too."""
    plot: Path | None = None
    """Draw bias and spread there, as PNG."""
    games: int = 50
    """Random games, besides the named ones."""
    seed: int = 0
    """Seed of the random games."""

    def run(self) -> int:
        """Solves, writes, prints; 1 where a statement does not hold."""
        in_range("--games", self.games, 0, 10**6)
        in_range("--seed", self.seed, 0)
        from gpae.cli.show import console, patience
        from gpae.exact.verify import run

        with patience("solving games"):
            report = run(games=self.games, seed=self.seed, json_path=self.json, plot_path=self.plot)
        report.print(console())
        return 0 if report.holds else 1
