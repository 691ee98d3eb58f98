"""The device that JAX computes on: said in one line where there is none."""

from __future__ import annotations

import jax

from gpae.errors import UserError


def problem() -> str | None:
    """Why JAX has no device to compute on, and what would do; None if it has one."""
    try:
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
    return None


def require_device() -> None:
    """Raises a UserError where JAX has no device to compute on."""
    if said := problem():
        raise UserError(said)
