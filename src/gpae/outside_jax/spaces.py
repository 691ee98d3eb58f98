"""Gymnasium's spaces as rows of numbers: how long, and how an element is written into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpae.errors import UserError

MASK = "action_mask"
"""The key of an observation, or of an agent's info, that says which actions are legal."""


class Misfit(Exception):
    """An element is not of its space; the message says how, and begins with a verb."""


@dataclass(frozen=True)
class Observed:
    """An observation space as a row of numbers."""

    size: int
    write: Callable[[Any, np.ndarray], None]
    """(element, row [size] float32): writes the element into the row; raises Misfit."""
    masked: bool = False
    """Whether the element is a dict with an action mask, which is no part of the row."""


def observed(space: Any, where: str) -> Observed:
    """How elements of `space` are observed: Box and MultiBinary as they are, Discrete and MultiDiscrete one-hot, those
    of Dict and Tuple one after the other.

    Args:
      space: of gymnasium.
      where: what errors call it.

    Raises:
      UserError: another kind of space.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return _array(tuple(space.shape))
    if isinstance(space, spaces.Discrete):
        return _one_hot((int(space.n),), (int(space.start),), ())
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = (tuple(int(n) for n in np.ravel(x)) for x in (space.nvec, space.start))
        return _one_hot(counts, starts, tuple(space.shape))
    if isinstance(space, spaces.Dict):
        parts = [(key, observed(part, f"{where}[{key!r}]")) for key, part in space.items() if key != MASK]
        return _joined(parts, masked=MASK in space.spaces)
    if isinstance(space, spaces.Tuple):
        return _joined([(i, observed(part, f"{where}[{i}]")) for i, part in enumerate(space)], masked=False)
    raise UserError(
        f"{where} is a {type(space).__name__} space; Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of"
        " these can be observed"
    )


def _array(shape: tuple[int, ...]) -> Observed:
    def write(element: Any, row: np.ndarray) -> None:
        found = np.asarray(element)
        if found.shape != shape:
            raise Misfit(f"has shape {list(found.shape)}, and its space has {list(shape)}")
        row[:] = found.reshape(-1)

    return Observed(int(np.prod(shape)), write)


def _one_hot(counts: tuple[int, ...], starts: tuple[int, ...], shape: tuple[int, ...]) -> Observed:
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)

    def write(element: Any, row: np.ndarray) -> None:
        found = np.asarray(element)
        if found.shape != shape:
            raise Misfit(f"has shape {list(found.shape)}, and its space has {list(shape)}")
        places = found.reshape(-1).astype(int) - starts
        if (places < 0).any() or (places >= counts).any():
            raise Misfit(f"is {found.tolist()}, which its space does not hold")
        row[:] = 0.0
        row[offsets + places] = 1.0

    return Observed(sum(counts), write)


def _joined(parts: list[tuple[Any, Observed]], *, masked: bool) -> Observed:
    def write(element: Any, row: np.ndarray) -> None:
        begin = 0
        for key, part in parts:
            try:
                inner = element[key]
            except (KeyError, IndexError, TypeError):
                raise Misfit(f"has no {key!r}, and its space has") from None
            part.write(inner, row[begin : begin + part.size])
            begin += part.size

    return Observed(sum(part.size for _, part in parts), write, masked)


@dataclass(frozen=True)
class Acted:
    """An action space: a list of `size` actions, or vectors of `size` numbers."""

    size: int
    continuous: bool
    read: Callable[[np.ndarray], Any]
    """From what the policy chose, [] int32 or [D] float32 with the box's bounds at -1 and 1, to an element."""


def acted(space: Any, where: str) -> Acted:
    """How actions of `space` are chosen.

    Raises:
      UserError: neither Discrete nor a Box with finite bounds.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Acted(int(space.n), False, lambda chosen: int(chosen) + start)
    if not isinstance(space, spaces.Box):
        raise UserError(f"{where} is a {type(space).__name__} space; actions are Discrete or a Box")
    low, high = np.asarray(space.low, np.float64).reshape(-1), np.asarray(space.high, np.float64).reshape(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(f"{where} is a Box whose bounds are not finite, low < high")
    middle, half, shape, dtype = (low + high) / 2, (high - low) / 2, space.shape, space.dtype

    def read(chosen: np.ndarray) -> np.ndarray:
        within = middle + half * np.clip(chosen[: len(middle)].astype(np.float64), -1.0, 1.0)
        # Rounding to the box's own type may lead out of it.
        return np.clip(within.reshape(shape).astype(dtype), space.low, space.high)

    return Acted(len(middle), True, read)
