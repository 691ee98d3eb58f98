"""Sums and gradients where a batch is shared out among groups of environments: those of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms.groups import summed_over, total, total_of_rows, whole_gradient
from gpae.algorithms.losses import masked_mean

pytestmark = pytest.mark.usefixtures("strict")

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32))
MASK = jnp.asarray(np.random.default_rng(1).random((3, 4, 5)) < 0.7)


def in_groups(f, *arrays):
    def of_group(*arrays):
        with summed_over("groups"):
            return f(*arrays)

    return jax.vmap(of_group, axis_name="groups")(*arrays)


@pytest.mark.parametrize("added", [total, total_of_rows])
def test_sums_are_of_all_groups(added):
    for found in in_groups(added, ROWS):
        np.testing.assert_allclose(found, added(ROWS), rtol=1e-6)


def test_the_gradient_of_a_loss_is_that_of_the_whole_batch_in_every_group():
    """Neither the groups' sum nor a group's part: gradients are clipped by their size, and Adam hides a factor."""

    def gradient(rows, mask):
        return whole_gradient(jax.grad(lambda w: masked_mean(jnp.square(rows - w), mask))(jnp.float32(0.5)))

    whole = gradient(ROWS, MASK)
    assert abs(whole) > 0.1
    for found in in_groups(gradient, ROWS, MASK):
        np.testing.assert_allclose(found, whole, rtol=1e-6)
