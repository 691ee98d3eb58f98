"""Where in the checkpoints of a run its parameters stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpae.errors import UserError
from gpae.runs.directory import read_config
from gpae.runs.shared import is_shared, read_shared
from gpae.training import version_0_1


def item_of(run: str | Path, *, best: bool, whole: bool) -> str:
    """The item of a checkpoint that holds a run's parameters.

    Args:
      run: the run directory.
      best: those with the best evaluation, instead of the last.
      whole: of both networks; else the actor's.

    Raises:
      UserError: not a run directory, or it does not hold them.
    """
    if is_shared(run):
        if best:
            held = read_shared(run)["parameters"]
            raise UserError(f"{run} is a shared policy, which holds the {held} parameters alone: leave out best")
        return "params" if whole else "params.actor"
    if whole and not best and version_0_1.made(read_config(run)):
        raise UserError(f"{run} was made by gpae 0.1, which kept the best critic alone: add --best")
    return ("best" if best else "params") if whole else ("best_actor" if best else "actor")


def check_evaluated(run: str | Path, info: Mapping[str, Any], *, best: bool) -> None:
    """Before a first evaluation the best parameters are those that training began with: nobody means these.

    Args:
      run: what the error names.
      info: what the checkpoint says of itself.
      best: whether they are asked for.

    Raises:
      UserError: they are, and there are none.
    """
    if best and not any(map(math.isfinite, info.get("best_scores") or [0.0])):
        raise UserError(f"{run} has evaluated nothing yet, so that none of its parameters are the best")
