"""Generalized per-agent advantage estimation for cooperative multi-agent reinforcement learning, in JAX."""

from gpae._version import __version__

__all__ = ["__version__"]
