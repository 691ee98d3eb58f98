"""A finished or running training, loaded for commands that look into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gpae.cli.parse import Command
from gpae.errors import UserError


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
        item = "best_actor" if self.best else "actor"
        return self._restored(item, experiment.shapes.params.actor)

    def params(self, experiment: Any) -> Any:
        """The parameters of both networks."""
        return self._restored("best" if self.best else "params", experiment.shapes.params)[0]

    def _restored(self, item: str, shapes: Any) -> tuple[Any, dict[str, Any]]:
        from gpae.runs.checkpoint import Checkpoints
        from gpae.runs.directory import read_config
        from gpae.training import version_0_1

        if item == "params" and version_0_1.made(read_config(self.run_directory)):
            raise UserError(f"{self.run_directory} was made by gpae 0.1, which kept the best critic alone: add --best")
        with Checkpoints(self.run_directory / "checkpoints", read_only=True) as checkpoints:
            items, info = checkpoints.restore({item: shapes})
        return items[item], info
