"""Whom a run tells besides its own directory: TensorBoard and Weights & Biases."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gpae.errors import UserError


class Sink(Protocol):
    """Someone who is told of metrics, besides metrics.jsonl."""

    def log(self, env_steps: int, seed: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one seed after `env_steps` environment steps."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class TensorBoard:
    """Event files in `path`/seed_k, one folder per seed, so that their curves lie over each other."""

    def __init__(self, path: str | Path, *, start_steps: int = 0):
        """What an earlier run logged after `start_steps` is struck out.

        Raises:
          UserError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise _missing("TensorBoard", "tensorboard") from error
        self._path, self._start, self._make = Path(path), start_steps, SummaryWriter
        self._writers: dict[int, Any] = {}

    def log(self, env_steps: int, seed: int, metrics: Mapping[str, float]) -> None:
        """See `Sink`."""
        if seed not in self._writers:
            purge = self._start + 1 if self._start else None
            self._writers[seed] = self._make(str(self._path / f"seed_{seed}"), purge_step=purge)
        for name, value in metrics.items():
            self._writers[seed].add_scalar(name, value, env_steps)

    def close(self) -> None:
        """See `Sink`."""
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """One W&B run; with several seeds, metrics are named metric/seed_k. Its mode (offline, ...) is taken from W&B's
    own settings, such as WANDB_MODE.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        config: Mapping[str, Any],
        project: str = "gpae",
        seeds: int = 1,
        resume: bool = False,
    ):
        """Starts a W&B run, whose files go to `path`/wandb.

        Args:
          path: the run directory; its name is the run's name.
          config: the settings.
          project: W&B's name for a group of runs.
          seeds: how many seeds train at once.
          resume: continue the W&B run of the same run directory.

        Raises:
          UserError: wandb is not installed, or cannot log in.
        """
        try:
            import wandb
        except ImportError as error:
            raise _missing("Weights & Biases", "wandb") from error
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        identity = path / "wandb" / "id.txt"
        if not (resume and identity.exists()):
            identity.parent.mkdir(exist_ok=True)
            identity.write_text(secrets.token_hex(8))
        try:
            self._run = wandb.init(
                project=project,
                name=path.name,
                id=identity.read_text(),
                resume="allow" if resume else None,
                dir=str(path),
                config=dict(config),
                settings=wandb.Settings(console="off"),  # capturing the output would break the live line
            )
        except wandb.Error as error:
            raise UserError(f"Weights & Biases: {error}; WANDB_MODE=offline does without its server") from error
        # Steps of its own would refuse what a resumed run logs again.
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")
        self._seeds = seeds

    def log(self, env_steps: int, seed: int, metrics: Mapping[str, float]) -> None:
        """See `Sink`."""
        suffix = f"/seed_{seed}" if self._seeds > 1 else ""
        self._run.log({f"{name}{suffix}": value for name, value in metrics.items()} | {"env_steps": env_steps})

    def close(self) -> None:
        """See `Sink`."""
        self._run.finish()


def _missing(what: str, extra: str) -> UserError:
    return UserError(f"{what} is not installed; it comes with `pip install -e '.[{extra}]'`")
