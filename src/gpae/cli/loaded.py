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
        from gpae.training.experiment import Experiment
        from gpae.training.trainer import Run

        return Experiment(Run(self.run_directory).config)

    def actor(self, experiment: Any) -> tuple[Any, float]:
        """The actor's parameters, and how long they were trained."""
        item = "best_actor" if self.best else "actor"
        return self._restored(item, experiment.shapes.params.actor)

    def params(self, experiment: Any) -> Any:
        """The parameters of both networks."""
        return self._restored("best" if self.best else "params", experiment.shapes.params)[0]

    def _restored(self, item: str, shapes: Any) -> tuple[Any, float]:
        from gpae.runs.checkpoint import Checkpoints

        with Checkpoints(self.run_directory / "checkpoints", read_only=True) as checkpoints:
            items, info = checkpoints.restore({item: shapes})
        return items[item], info["seconds"]
