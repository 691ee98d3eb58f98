"""Gradients computed block by block are those of the whole minibatch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import blocks
from gpae.algorithms.blocks import block_by_block, block_size, gradient_of_mean
from gpae.algorithms.groups import summed_over
from gpae.algorithms.losses import masked_mean
from gpae.algorithms.replay import to_chunks
from gpae.networks.gru import GRU

ROWS, SEQUENCES, AGENTS, FEATURES, HIDDEN = 6, 12, 3, 4, 5


def loss(params, batch, carry):
    """Of a GRU: a mean over what the mask selects, and two means that are measured."""
    inputs, is_first, mask = batch
    error = jnp.square(GRU(HIDDEN).apply(params, inputs, is_first, carry).sum(-1) - 1.0)
    found = masked_mean(error, mask)
    return found, {"error": found, "of each": masked_mean(jnp.abs(error), mask)}


@pytest.fixture(scope="module")
def given():
    """Parameters, a batch in whose last sequences nothing counts, and the carry before it."""
    keys = jax.random.split(jax.random.key(0), 5)
    inputs = jax.random.normal(keys[0], (ROWS, SEQUENCES, AGENTS, FEATURES))
    is_first = jax.random.bernoulli(keys[1], 0.2, (ROWS, SEQUENCES))
    mask = jax.random.bernoulli(keys[2], 0.6, (ROWS, SEQUENCES, AGENTS)).at[:, -4:].set(False)
    carry = jax.random.normal(keys[3], (SEQUENCES, AGENTS, HIDDEN))
    return GRU(HIDDEN).init(keys[4], inputs, is_first, carry), (inputs, is_first, mask), carry


def close(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6 * np.abs(y).max())


@pytest.mark.parametrize("columns", [1, 6, 1000])
def test_the_gradient_of_blocks_is_that_of_the_whole(given, columns, monkeypatch):
    monkeypatch.setattr(blocks, "COLUMNS", columns)
    params, batch, carry = given
    expected = jax.jit(jax.grad(loss, has_aux=True))(*given)
    close(jax.jit(lambda *x: gradient_of_mean(loss, *x))(*given, batch[2]), expected)
    pick = jnp.array([5, 0, 11, 2, 3, 7])
    rows = jax.tree.map(lambda x: x[:, pick], batch)
    of_picked = jax.jit(lambda *x: gradient_of_mean(loss, *x))(*given, batch[2], pick)
    close(of_picked, jax.jit(jax.grad(loss, has_aux=True))(params, rows, carry[pick]))
    # Two pieces of each sequence; the first twelve begin with the first rows.
    pieces, cut = jnp.array([5, 0, 23, 12]), to_chunks(batch, ROWS // 2)
    carries, rows = jnp.concatenate([carry, carry + 1.0]), jax.tree.map(lambda x: x[:, pieces], cut)
    of_pieces = gradient_of_mean(loss, params, batch, carries, batch[2], pieces, ROWS // 2)
    close(of_pieces, jax.jit(jax.grad(loss, has_aux=True))(params, rows, carries[pieces]))
    of_all = gradient_of_mean(loss, params, batch, carries, batch[2], length=ROWS // 2)
    close(of_all, jax.grad(loss, has_aux=True)(params, cut, carries))
    nothing = (*batch[:2], jnp.zeros_like(batch[2]))
    found = gradient_of_mean(loss, params, nothing, carry, nothing[2])
    assert all((x == 0).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("columns", [1, 6, 1000])
def test_what_is_said_of_blocks_is_said_of_the_whole(given, columns, monkeypatch):
    monkeypatch.setattr(blocks, "COLUMNS", columns)
    params, (inputs, is_first, mask), carry = given

    def evaluate(rows, carry, number):
        carries = GRU(HIDDEN).apply(params, rows[0], rows[1], carry)
        which = jnp.full((1, len(carry)), number)
        return {"carries": carries, "counted": rows[2].sum(0, keepdims=True), "number": which}

    found = jax.jit(lambda *x: block_by_block(evaluate, *x, AGENTS))((inputs, is_first, mask), carry)
    np.testing.assert_allclose(found["carries"], GRU(HIDDEN).apply(params, inputs, is_first, carry), atol=1e-6)
    np.testing.assert_array_equal(found["counted"], mask.sum(0, keepdims=True))
    size = block_size(SEQUENCES, AGENTS)
    np.testing.assert_array_equal(found["number"][0], np.arange(SEQUENCES) // size)


def test_groups_have_the_gradient_of_all_their_samples(given, monkeypatch):
    monkeypatch.setattr(blocks, "COLUMNS", 2 * AGENTS)
    params, batch, carry = given
    expected = jax.jit(jax.grad(loss, has_aux=True))(*given)
    split = jax.tree.map(lambda x: x.reshape(ROWS, 3, SEQUENCES // 3, *x.shape[2:]), batch)
    carries = carry.reshape(3, SEQUENCES // 3, AGENTS, HIDDEN)

    def of_group(batch, carry):
        with summed_over("group"):
            return gradient_of_mean(loss, params, batch, carry, batch[2])

    # That nothing is mapped over comes out the same in every group, or `vmap` refuses.
    found = jax.jit(jax.vmap(of_group, in_axes=(1, 0), out_axes=None, axis_name="group"))(split, carries)
    close(found, expected)


def test_a_block_divides_the_sequences_and_has_about_as_many_columns_as_are_wanted():
    assert block_size(64, 5) == 32
    assert block_size(64, 27) == 4
    assert block_size(61, 5) == 61  # a prime number: one block of all is nearer than 61 of one
    assert block_size(4, 200) == 1
