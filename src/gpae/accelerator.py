"""Whether programs are made for an accelerator, where the launch of a kernel costs more than its arithmetic."""

from __future__ import annotations

import jax


def accelerated() -> bool:
    """Whether JAX's default device is no CPU. Loops are written otherwise there; the numbers are equal to rounding."""
    return jax.default_backend() != "cpu"
