"""Our random numbers are those of `jax.random`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae import threefry

NUMBERS = jnp.array([0, 1, 2**31 - 1], jnp.int32)


def draw(split, fold_in, gumbel, key):
    """Keys and numbers as training draws them: of one key, and of each of several."""
    keys = split(key, 5)
    return {
        "split": keys,
        "two": jax.vmap(split)(keys),
        "fold_in": jax.vmap(fold_in, (None, 0))(key, NUMBERS),
        "gumbel": gumbel(key, (3, 4, 2)),
        "of each": jax.vmap(lambda key: gumbel(key, (7,)))(keys),
    }


OURS = partial(draw, threefry.split, threefry.fold_in, threefry.gumbel)
THEIRS = partial(draw, jax.random.split, jax.random.fold_in, partial(jax.random.gumbel, mode="low"))


def bits(tree):
    typed = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if typed(x) else x), tree)


@pytest.mark.parametrize("key", [jax.random.key(7), jax.random.PRNGKey(7)], ids=["typed", "plain"])
def test_draws_are_jaxs(key, strict):
    ours, theirs = OURS(key), THEIRS(key)
    for name, found in bits(ours).items():
        assert (ours[name].dtype, ours[name].shape) == (theirs[name].dtype, theirs[name].shape)
        np.testing.assert_array_equal(found, bits(theirs)[name], err_msg=name)


def test_other_keys_are_left_to_jax(strict):
    key = jax.random.key(7, impl="unsafe_rbg")
    jax.tree.map(np.testing.assert_array_equal, bits(OURS(key)), bits(THEIRS(key)))


def test_without_partitionable_threefry_draws_are_left_to_jax(strict):
    with jax.threefry_partitionable(False):
        ours, theirs = bits(OURS(jax.random.key(7))), bits(THEIRS(jax.random.key(7)))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
