"""The device that JAX computes on: said in one line where there is none."""

from __future__ import annotations

import logging
from typing import Any

import jax
from jax.sharding import Mesh

from gpae.algorithms.sharding import mesh_of
from gpae.errors import UserError


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


def mesh(groups: int, devices: int | None = None) -> Mesh | None:
    """The devices that share the groups of environments; None: one device trains alone.

    Args:
      groups: of environments.
      devices: how many; None: the most that there are and that divide `groups`.

    Raises:
      UserError: there are not so many, or they do not divide `groups`.
    """
    there: list[Any] = jax.devices()
    if devices is None:
        devices = max(n for n in range(1, len(there) + 1) if groups % n == 0)
    if not 1 <= devices <= len(there):
        raise UserError(f"--devices {devices}: JAX finds {len(there)} of kind {there[0].platform}")
    if groups % devices:
        raise UserError(
            f"--devices {devices}: devices share whole groups of environments, and this run has {groups};"
            f" --groups {devices} would do for a new run"
        )
    return None if devices == 1 else mesh_of(there[:devices])
