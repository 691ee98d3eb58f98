"""One seed or several at once: the one place that knows which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclass(frozen=True)
class Seeds:
    """The seeds of an experiment.

    With one seed nothing has a seed axis; with several, states, metrics and episodes have one in front. A seed trained
    alone and the same one trained beside others differ in the last bits.
    """

    start: int
    count: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self.count))

    def over(
        self, function: Callable[..., Any], in_axes: Any = 0, *, spread_over: str | None = None
    ) -> Callable[..., Any]:
        """`function` of one seed, for all of them; what it lays over devices is laid over that axis of theirs too."""
        return function if self.count == 1 else jax.vmap(function, in_axes, spmd_axis_name=spread_over)

    def one_by_one(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`function` of one seed, for one after the other in a program."""
        return function if self.count == 1 else lambda xs: jax.lax.map(function, xs)

    def keys(self, purpose: int, number: int = 0) -> Array:
        """A key per seed for a purpose and a number in [0, 2^32) of it.

        Purposes: 0 training, 1 evaluations during it, 2 the absolute one, 3 those afterwards, 4 replays, 5 credit,
        6 the critic, 7 the gradient.
        """
        keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(s), purpose), number) for s in self]
        return keys[0] if self.count == 1 else jnp.stack(keys)

    def of(self, tree: Any, place: int = 0) -> Any:
        """What belongs to one of the seeds, by its place among them."""
        return tree if self.count == 1 else jax.tree.map(lambda x: x[place], tree)

    def choose(self, flags: list[bool], new: Any, old: Any) -> Any:
        """`new` for the seeds whose flag is set, `old` for the others."""
        where = np.asarray(flags)

        def of_leaf(new: Array, old: Array) -> Array:
            return jnp.where(where[0] if self.count == 1 else where.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(of_leaf, new, old)
