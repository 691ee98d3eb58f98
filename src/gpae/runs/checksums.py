"""Checksums of arrays, also of those that lie in pieces on the devices of several processes."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def checksum(x: np.ndarray, pieces: Sequence[int] | None = None) -> int:
    """CRC-32 of an array's bytes; with `pieces`, so many along each axis, of the pieces' checksums in order.

    It is -1 where the array cannot be cut like that.
    """
    if pieces is None:
        return _of_bytes(x)
    if len(pieces) != x.ndim or any(size % number for size, number in zip(x.shape, pieces, strict=True)):
        return -1
    steps = [range(0, size, size // number) for size, number in zip(x.shape, pieces, strict=True)]
    sizes = [size // number for size, number in zip(x.shape, pieces, strict=True)]
    corners = itertools.product(*steps)
    found = [_of_bytes(x[tuple(slice(a, a + n) for a, n in zip(at, sizes, strict=True))]) for at in corners]
    return _of_bytes(np.array(found, "<u4"))


def checksums(arrays: Sequence[Any]) -> list[dict[str, Any]]:
    """Of each array "crc32", and "pieces" where it is in several: NumPy arrays, or JAX arrays that all processes have.

    All processes call this, and get the same.
    """
    if jax.process_count() == 1:
        return [{"crc32": checksum(x)} for x in arrays]
    grids = [_pieces(x) for x in arrays]
    found = [np.zeros(grid, np.uint32) for grid in grids]
    for x, sums in zip(arrays, found, strict=True):
        if isinstance(x, jax.Array):
            size = x.sharding.shard_shape(x.shape)
            for shard in x.addressable_shards:
                at = tuple((part.start or 0) // max(n, 1) for part, n in zip(shard.index, size, strict=True))
                sums[at] = _of_bytes(np.asarray(shard.data))
        else:
            sums[...] = _of_bytes(x)
    mine = np.concatenate([sums.reshape(-1) for sums in found])
    # A process that has not a piece says 0 of it.
    every = np.asarray(multihost_utils.process_allgather(mine)).max(axis=0)
    notes: list[dict[str, Any]] = []
    for grid, sums in zip(grids, np.split(every, np.cumsum([s.size for s in found])[:-1]), strict=True):
        if sums.size == 1:
            notes.append({"crc32": int(sums[0])})
        else:
            notes.append({"crc32": _of_bytes(sums.astype("<u4")), "pieces": list(grid)})
    return notes


def _pieces(x: Any) -> tuple[int, ...]:
    """How many pieces an array is in, along each axis."""
    if not isinstance(x, jax.Array):
        return (1,) * x.ndim
    return tuple(max(whole, 1) // max(n, 1) for whole, n in zip(x.shape, x.sharding.shard_shape(x.shape), strict=True))


def _of_bytes(x: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
