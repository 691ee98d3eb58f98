"""A run directory that is shared: the parameters of one seed, and no state of training.

config.json        as of the run, with this seed alone
versions.json      what the run was made with
shared.json        which of the run's parameters these are, and how its seeds did
evaluation.json    new episodes that were played with them, one value per episode
README.md          the card: all of this in words
checkpoints/       one, whose only item is "params"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpae.runs import schema
from gpae.runs.files import exists, read_json

SHARED = "shared.json"
EVALUATION = "evaluation.json"
CARD = "README.md"
FILM, CURVE = "replay.gif", "curve.png"
"""Pictures in any run directory; who shares one gives the film alone."""


def is_shared(run: str | Path) -> bool:
    """Whether a run directory holds parameters alone."""
    return exists(Path(run) / SHARED)


def read_shared(run: str | Path) -> dict[str, Any]:
    """What shared.json holds.

    Raises:
      UserError: it is not there, or damaged.
    """
    file = Path(run) / SHARED
    return schema.shared(read_json(file), file)


def read_evaluation(run: str | Path) -> dict[str, Any] | None:
    """What evaluation.json holds; None where no episode was played.

    Raises:
      UserError: it is damaged.
    """
    file = Path(run) / EVALUATION
    return schema.evaluation(read_json(file), file) if exists(file) else None
