"""The devices that JAX computes on: said in one line where there is none."""

from __future__ import annotations

import logging
from typing import Any

import jax
from jax.sharding import Mesh

from gpae.algorithms.sharding import mesh_of, of_group
from gpae.errors import UserError
from gpae.training.config import ExperimentConfig


def too_large(error: BaseException) -> str | None:
    """What to say of an error that says that memory has run out; None if it says something else."""
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
        return None
    words = " ".join((str(error).splitlines() or [""])[0][:200].split()) or "out of memory"
    return (
        f"{words}; fewer --seeds at once, fewer --num-envs, a shorter --rollout-length or more --minibatches need less"
    )


def problem() -> str | None:
    """Why JAX has no device to compute on, and what would do; None if it has one."""
    log = logging.getLogger("jax._src.xla_bridge")
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)  # a plugin for GPUs that finds none logs its whole traceback
        jax.devices()
    except Exception as error:  # an AssertionError without words where the platform's package is missing
        asked: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
        wanted = f"JAX_PLATFORMS={asked}" if asked else "this machine"
        words = (str(error).splitlines() or [""])[0][:200]
        reason = f" ({words})" if words else ""
        return (
            f"JAX finds no device for {wanted}{reason}; JAX_PLATFORMS=cpu computes on the processor; NVIDIA's GPUs need"
            " gpae[cuda] and their driver"
        )
    finally:
        log.setLevel(level)
    return None


def require_device() -> None:
    """Raises a UserError where JAX has no device to compute on."""
    if said := problem():
        raise UserError(said)


def usable() -> list[Any]:
    """The devices that train unless another number is asked for: all accelerators, or one CPU of each process.

    JAX's CPU computes with all cores; several of them exist only where somebody asked for them.
    """
    there: list[Any] = jax.devices()
    if there[0].platform != "cpu":
        return there
    return [next(device for device in there if device.process_index == i) for i in range(jax.process_count())]


def groups_of(config: ExperimentConfig, devices: int | None = None) -> int:
    """The groups of a new run whose settings leave them open: one for every device that shares its environments.

    Seeds are shared out first; with one device it is 1.

    Args:
      config: its settings.
      devices: how many are to train; None: the most of the `usable` that its settings allow.

    Raises:
      UserError: so many cannot share it evenly; the message says which setting is in the way.
    """

    def unfit(groups: int) -> UserError | None:
        try:
            of_group(config.algorithm, groups).validate()
        except UserError as error:
            return error
        return None

    numbers = range(1, len(usable()) + 1) if devices is None else [devices]
    shapes = [(n // rows, rows) for n in numbers if _even(n) for rows in range(1, n + 1) if n % rows == 0]
    found = [s for s in shapes if config.seeds % s[1] == 0 and not unfit(s[0])]
    if not found and devices is not None and (error := unfit(devices)):
        raise UserError(f"--devices {devices}: {error}")
    # Of equally many devices those with the fewest groups.
    return max(found, key=lambda s: (s[0] * s[1], s[1]), default=(1, 1))[0]


def mesh(groups: int, devices: int | None = None, seeds: int = 1) -> Mesh | None:
    """The devices that share seeds and groups of environments; None: one device trains alone.

    Seeds are shared out first, since they send each other nothing.

    Args:
      groups: of environments.
      devices: how many; None: the most of the `usable` that can share evenly.
      seeds: that are trained in one program.

    Raises:
      UserError: there are not so many, or seeds and groups cannot be shared evenly among them.
    """
    if devices == 1:
        return None
    there = usable() if devices is None else jax.devices()
    if devices is None:
        devices = shared_by(len(there), groups, seeds, jax.process_count()) or len(there)
        if devices == 1:
            return None
    if not 1 <= devices <= len(there):
        raise UserError(f"--devices {devices}: JAX finds {len(there)} of kind {there[0].platform}")
    if not _even(devices):
        raise UserError(f"--devices {devices}: {jax.process_count()} hosts must have the same number of them each")
    if not (rows := _rows(devices, groups, seeds)):
        alone = "" if seeds == 1 else f" of {seeds} seeds"
        raise UserError(
            f"--devices {devices}: devices share whole groups of environments{alone}, and this run has {groups};"
            f" --groups {devices} would do for a new run"
        )
    return mesh_of(_of_every_process(there, devices), rows)


def shared_by(most: int, groups: int, seeds: int, processes: int = 1) -> int:
    """How many devices of at most so many can share seeds and groups evenly; 0 where no number of them can.

    All processes have as many of them. JAX is not asked for anything.
    """
    return max((n for n in range(processes, most + 1, processes) if _rows(n, groups, seeds)), default=0)


def _even(devices: int) -> bool:
    """Whether every process would have as many."""
    return devices % jax.process_count() == 0


def _of_every_process(there: list[Any], devices: int) -> list[Any]:
    """So many of these devices, as many of each process, those of a process beside each other."""
    number = devices // jax.process_count()
    return [d for i in range(jax.process_count()) for d in [d for d in there if d.process_index == i][:number]]


def _rows(devices: int, groups: int, seeds: int) -> int:
    """Into how many rows of devices seeds are shared out, as many as can be; 0: it cannot be done evenly."""
    fit = (n for n in range(seeds, 0, -1) if seeds % n == 0 and devices % n == 0 and groups % (devices // n) == 0)
    return next(fit, 0)
