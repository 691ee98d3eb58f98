"""A finished or running training, loaded for commands that look into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gpae.cli.parse import Command


@dataclass
class OfRun(Command):
    """A command about one run."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    best: bool = False
    """The parameters with the best evaluation instead of the last ones."""

    def experiment(self) -> Any:
        """The run's experiment.

        Raises:
          UserError: it is no run directory, or was made with settings that this version does not know.
        """
        from gpae.cli.show import patience

        with patience("loading"):
            from gpae.training.experiment import Experiment
            from gpae.training.run import Run

            return Experiment(Run(self.run_directory).config, only_played=True)

    def actor(self, experiment: Any) -> tuple[Any, dict[str, Any]]:
        """The actor's parameters, and what the checkpoint says of them: "env_steps", "seconds", ..."""
        return self._restored(False, experiment.shapes.params.actor)

    def params(self, experiment: Any) -> Any:
        """The parameters of both networks."""
        return self._restored(True, experiment.shapes.params)[0]

    def _restored(self, whole: bool, shapes: Any) -> tuple[Any, dict[str, Any]]:
        from gpae.runs.checkpoint import Checkpoints
        from gpae.training.items import check_evaluated, item_of

        item = item_of(self.run_directory, best=self.best, whole=whole)
        with Checkpoints(self.run_directory / "checkpoints", read_only=True) as checkpoints:
            check_evaluated(self.run_directory, checkpoints.info(), best=self.best)
            items, info = checkpoints.restore({item: shapes})
        return items[item], info
