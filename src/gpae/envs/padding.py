"""Agents that see and do different things, in arrays of one size: zeros behind the one, a mask over the other."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array


def padded(rows: Sequence[Array], size: int) -> Array:
    """Arrays of any shapes as rows of `size` numbers, zeros behind them: [N, size] float32."""
    flat = [jnp.ravel(row).astype(jnp.float32) for row in rows]
    return jnp.stack([jnp.pad(row, (0, size - row.shape[0])) for row in flat])


def first_actions(sizes: Sequence[int]) -> np.ndarray:
    """Which actions are whose, where agent i has the first `sizes[i]`: [N, max(sizes)] bool."""
    return np.arange(max(sizes)) < np.asarray(sizes)[:, None]
