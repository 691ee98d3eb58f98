"""The arrays of a checkpoint as Orbax has laid them on the disk, read by TensorStore alone.

Orbax writes. To read what it wrote takes none of its managers and threads, so that a program that only acts with a
policy need not even have it installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def read_arrays(folder: Path, wanted: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """Name -> array, of those in `folder`.

    Args:
      folder: of one item.
      wanted: name -> shape and dtype. Nothing is read of an array that has others.

    Raises:
      ValueError, RuntimeError, OSError: something is missing, damaged or not to be read; TensorStore's words.
    """
    import tensorstore as ts

    context = ts.Context()
    opened = {name: ts.open(_place(folder, name), context=context, open=True, read=True) for name in wanted}
    stores = {name: store.result() for name, store in opened.items()}
    for name, store in stores.items():
        if (found := (tuple(store.shape), store.dtype.name)) != wanted[name]:
            raise ValueError(f"array {name} is {found[1]}{list(found[0])}")
    reading = {name: store.read() for name, store in stores.items()}
    return {name: np.asarray(array.result()) for name, array in reading.items()}


def _place(folder: Path, name: str) -> dict[str, Any]:
    base = {"driver": "file", "path": f"{folder}/"}
    # Zarr, of the version that Orbax has chosen, in a database of few files.
    return {"driver": "auto", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}}
