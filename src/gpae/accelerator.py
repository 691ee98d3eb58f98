"""What programs are made for: an accelerator, where a launch costs more than arithmetic, or a single run."""

from __future__ import annotations

import os

import jax


def accelerated() -> bool:
    """Whether JAX's default device is no CPU. Loops are written otherwise there; the numbers are equal to rounding."""
    return jax.default_backend() != "cpu"


def runs_once(level: int = 1) -> dict[str, int] | None:
    """Options for `jax.jit` of a program that runs once: it is compiled in two thirds of the time, or less, on a CPU.

    Args:
      level: how far XLA optimises, 0 to 3. The numbers of 1 are those of 3, as far as is seen; 0 moves the last bits.

    Who has chosen a level in XLA_FLAGS keeps it.
    """
    chosen = "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
    return None if accelerated() or chosen else {"xla_backend_optimization_level": level}
