"""What a run that exists already decides, or forbids, of a training that is to continue it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpae.envs.registry import outside_jax
from gpae.errors import UserError
from gpae.runs.directory import is_run, read_config
from gpae.runs.shared import is_shared
from gpae.training import version_0_1
from gpae.training.config import ExperimentConfig, RunOptions, as_dict, from_dict
from gpae.training.device import groups_of, require_device


def settled(config: ExperimentConfig, options: RunOptions, devices: int | None) -> ExperimentConfig:
    """The configuration with what it leaves to the machine: of a run that is resumed, as that has it."""
    if config.groups is not None:
        return config
    path = options.path(config)
    if options.resume and is_run(path):
        return config.replace(groups=from_dict(read_config(path)).groups)
    require_device()
    if outside_jax(config.env):
        return config.replace(groups=1)
    return config.replace(groups=groups_of(config.validate(), devices))


def check_resumable(path: Path, config: ExperimentConfig) -> None:
    """Refuses to continue a run of version 0.1, or one for fewer steps than it was to make."""
    if not is_run(path):
        return  # what it is instead, `RunDirectory.resume` says
    before = read_config(path)
    if is_shared(path):
        raise UserError(
            f"{path} is a shared policy, without the state that a training needs to go on; begin one from what it has"
            f" learnt: gpae train --from {path} --env {config.env} --algorithm {config.algorithm.name}"
        )
    if version_0_1.made(before):
        raise UserError(
            f"{path} was made by gpae 0.1: its policy can be evaluated, played and loaded, but its training cannot be"
            " continued; train anew under another --name"
        )
    if config.total_steps < before.get("total_steps", 0):
        raise UserError(
            f"--total-steps {config.total_steps}: {path} was to run {before['total_steps']} steps; it can be given more"
        )


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run with those that gpae did not have when it was made; as they are where they are no run's."""
    try:
        return as_dict(from_dict(values))
    except UserError:
        return values
