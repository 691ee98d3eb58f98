"""A run directory as a process sees it that does not write it: another process of the same training does."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Elsewhere:
    """What `RunDirectory` is to the trainer, without any effect."""

    lines = 0

    def __init__(self, path: str | Path):
        """Of a run directory that all processes see under this path."""
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go: of those every process writes its own part."""
        return self.path / "checkpoints"

    def commit(self) -> None:
        """Nothing."""

    def log_metrics(self, **what: Any) -> None:
        """Nothing."""

    def log_evaluation(self, **what: Any) -> None:
        """Nothing."""

    def log_absolute(self, **what: Any) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""
