"""Initial weights other than those that the networks choose themselves."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import Array


def lecun(params: Any, key: Array) -> Any:
    """Parameters whose dense kernels are drawn anew, [..., F, H], as flax draws them where nothing else is said.

    Normal, cut off at two standard deviations, with variance 1 / F: the last layer of a policy begins as large as the
    others, and so less undecided. Biases, LayerNorms and the GRU stay as they are.

    Args:
      params: of a network, or of several with axes in front of each array.
      key: draws the kernels.

    Source: LeCun et al. 1998, "Efficient BackProp"; flax.linen.Dense.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)

    def drawn(number: int, path: Any, leaf: Array) -> Array:
        if getattr(path[-1], "key", None) != "kernel":
            return leaf
        several = tuple(range(leaf.ndim - 2))
        draw = nn.initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=several)
        return draw(jax.random.fold_in(key, number), leaf.shape, leaf.dtype)

    return jax.tree.unflatten(structure, [drawn(i, path, leaf) for i, (path, leaf) in enumerate(leaves)])
