"""The policy's gradient from packed rows is that of all rows."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import algorithm_called, packing
from gpae.algorithms.batch import PolicySamples
from gpae.algorithms.blocks import gradient_of_mean
from gpae.algorithms.groups import summed_over
from gpae.algorithms.packing import pack
from gpae.algorithms.ppo import SequenceOptimisation
from gpae.envs import make
from gpae.networks import CriticSizes
from gpae.settings import as_arrays

ROWS, SEQUENCES, CHUNK = 24, 6, 12


def pieces_of(column):
    """Runs of consecutive rows of one sequence: lists of (row, sequence)."""
    found = []
    for row, sequence in column:
        if found and found[-1][-1] == (row - 1, sequence):
            found[-1].append((row, sequence))
        else:
            found.append([(row, sequence)])
    return found


def test_rows_are_packed_by_hand():
    o, x = False, True
    # Three sequences of four rows: one dies after two; one is dead, then a new episode of two rows begins; one lives.
    learns = jnp.array([[x, o, x], [x, o, x], [o, x, x], [o, x, x]])
    is_first = jnp.array([[o, o, o], [o, o, o], [o, x, o], [o, o, o]])
    found = pack(learns, is_first, remembers=True)
    assert found.columns == 2
    np.testing.assert_array_equal(found.first[:2], [2, 0])  # the longest first
    number = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(found.source[:, 0], number[:, 2])
    np.testing.assert_array_equal(found.source[:, 1], [*number[:2, 0], *number[2:, 1]])
    assert (found.source[:, 2] == -1).all()


def test_a_row_stays_where_its_agent_chooses_later_in_the_episode_and_remembers():
    o, x = False, True
    learns, is_first = jnp.array([[o], [x], [o], [o], [x], [o]]), jnp.array([[x], [o], [o], [x], [o], [o]])
    remembering, forgetting = (pack(learns, is_first, remembers=r).source for r in (True, False))
    assert sorted(x for x in remembering[:, 0].tolist() if x >= 0) == [0, 1, 3, 4]
    assert sorted(x for x in forgetting[:, 0].tolist() if x >= 0) == [1, 4]


@pytest.mark.parametrize(("rows", "alive", "ends"), [(16, 0.7, 0.1), (16, 0.05, 0.5), (5, 0.5, 0.9), (70, 0.9, 0.04)])
def test_every_needed_row_is_packed_once_and_each_piece_stays_together(rows, alive, ends):
    keys = jax.random.split(jax.random.key(rows), 2)
    learns = np.asarray(jax.random.bernoulli(keys[0], alive, (rows, 40)))
    is_first = np.asarray(jax.random.bernoulli(keys[1], ends, (rows, 40)))
    found = jax.jit(pack, static_argnums=2)(jnp.asarray(learns), jnp.asarray(is_first), True)
    needed, later = np.zeros_like(learns), np.zeros(40, bool)
    for t in reversed(range(rows)):
        needed[t] = learns[t] | later
        later = needed[t] & ~is_first[t]
    source = np.asarray(found.source)
    held = source[source >= 0]
    np.testing.assert_array_equal(np.sort(held), np.flatnonzero(needed))
    assert (source[:, found.columns :] == -1).all()
    # No worse than one column in ten, and one, above what fits at best.
    carried = (needed[0] & ~is_first[0]).sum()
    assert found.columns <= max(carried, needed.sum() / rows) * 1.1 + 1
    for c in range(int(found.columns)):
        column = [divmod(int(x), 40) for x in source[:, c] if x >= 0]
        for i, piece in enumerate(pieces_of(column)):
            row, sequence = piece[0]
            if not is_first[row, sequence]:  # its memory is the one before the column
                assert (i, row) == (0, 0)
                assert found.first[c] == sequence
            # What follows within the episode, if it is needed, follows here.
            row, sequence = piece[-1]
            assert row == rows - 1 or is_first[row + 1, sequence] or not needed[row + 1, sequence]


def test_where_there_is_no_room_everything_stays_in_its_place():
    # All rows are needed, so that every column must be full: first fit does not find out how.
    is_first = jax.random.bernoulli(jax.random.key(0), 0.04, (128, 6))
    found = pack(jnp.ones((128, 6), bool), is_first, remembers=True)
    assert found.columns == 6
    np.testing.assert_array_equal(found.source, np.arange(128 * 6).reshape(128, 6))
    np.testing.assert_array_equal(found.first, np.arange(6))


def given(env, dead, **settings):
    """An algorithm, its actor's parameters and samples in which agents die, and some come back."""
    spec = dataclasses.replace(make(env).spec, agents_die=True)
    algorithm = as_arrays(
        dataclasses.replace(
            algorithm_called("mappo")(),
            optimisation=SequenceOptimisation(chunk_length=CHUNK),
            **{"entropy": 0.03, "networks": CriticSizes(hidden_size=8)} | settings,
        )
    )
    keys = jax.random.split(jax.random.key(1), 10)
    shape = (ROWS, SEQUENCES, spec.num_agents)
    choose = jax.random.bernoulli(keys[0], 1.0 - dead, shape)
    size = spec.actions.size if spec.continuous else spec.num_actions
    action_mask = choose[..., None] | jnp.broadcast_to(jnp.arange(size) == 0, (*shape, size))
    actor = algorithm.actor(spec)
    observations = jax.random.normal(keys[1], (*shape, spec.observation_size))
    is_first = jnp.broadcast_to(jax.random.bernoulli(keys[2], 0.2, shape[:2])[..., None], shape)
    carry = actor.initial_carry(SEQUENCES, spec.num_agents)
    carry = jax.tree.map(lambda x: jax.random.normal(keys[3], (2 * SEQUENCES, *x.shape[1:])), carry)
    start = jax.tree.map(lambda x: x[:SEQUENCES], carry)

    @jax.jit
    def acted():
        params = actor.init(keys[4], observations, action_mask, is_first, start)
        pi, _ = actor.apply(params, observations, action_mask, is_first, start)
        actions = pi.sample(keys[5])
        return params, actions, pi.log_prob(actions)

    params, actions, old = acted()
    samples = PolicySamples(
        observations=observations,
        action_mask=action_mask,
        is_first=is_first,
        actions=actions,
        behaviour_log_probs=jnp.where(choose, old + 0.2 * jax.random.normal(keys[6], shape), old),
        old_log_probs=old,
        advantages=jax.random.normal(keys[7], shape),
        mask=choose if algorithm.mask_dead else jnp.ones_like(choose),
        weights=jnp.abs(jax.random.normal(keys[8], shape)),
    )
    moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(keys[9], x.shape), params)
    return algorithm, spec, moved, samples, carry


def both(algorithm, spec, params, samples, carry, pick):
    """The gradient and what is measured, packed and not."""
    loss = partial(algorithm.policy_loss, spec)
    packed = algorithm.policy_gradient(spec, params, samples, carry, pick)
    return packed, gradient_of_mean(loss, params, samples, carry, samples.mask, pick, CHUNK)


def close(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5 * max(1e-3, np.abs(y).max()))


@pytest.mark.parametrize(
    ("dead", "settings"),
    [
        (0.4, {}),
        (0.4, {"mask_dead": False}),
        (0.0, {"mask_dead": False}),
        (0.97, {"mask_dead": False}),
        (0.4, {"networks": CriticSizes(hidden_size=8, recurrent=False)}),
    ],
)
def test_the_gradient_of_packed_rows_is_that_of_all(dead, settings, monkeypatch):
    monkeypatch.setattr(packing, "COLUMNS", 4)
    *problem, samples, carry = given("probe/death", dead, **settings)
    compare = jax.jit(lambda s, c, p: both(*problem, s, c, p))
    for pick in (jnp.array([7, 2, 11, 0]), None):
        close(*compare(samples, carry, pick))
    nothing = dataclasses.replace(samples, mask=jnp.zeros_like(samples.mask))
    found, _ = compare(nothing, carry, None)
    assert all((x == 0).all() for x in jax.tree.leaves(found))


def test_the_dead_are_not_evaluated():
    """What they see may be anything, but for the first row: that is what a place without a row looks at."""
    *problem, samples, carry = given("probe/death", 0.4, networks=CriticSizes(hidden_size=8, recurrent=False))
    seen = jnp.where(samples.learns[..., None], samples.observations, jnp.nan).at[0, 0].set(0.0)
    samples = dataclasses.replace(samples, observations=seen)
    found = jax.jit(lambda s, c: problem[0].policy_gradient(*problem[1:], s, c, None))(samples, carry)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_continuous_policies_are_packed_where_agents_have_no_component():
    algorithm, spec, params, samples, carry = given("probe/aim", 0.0)
    alive = jax.random.bernoulli(jax.random.key(3), 0.6, samples.mask.shape)
    samples = dataclasses.replace(samples, mask=alive, action_mask=samples.action_mask & alive[..., None])
    np.testing.assert_array_equal(samples.learns, alive)
    close(*jax.jit(lambda s, c: both(algorithm, spec, params, s, c, None))(samples, carry))


def test_groups_have_the_packed_gradient_of_all_their_samples(monkeypatch):
    monkeypatch.setattr(packing, "COLUMNS", 4)
    algorithm, spec, params, samples, carry = given("probe/death", 0.4)
    loss = partial(algorithm.policy_loss, spec)
    whole = jax.jit(lambda s, c: gradient_of_mean(loss, params, s, c, s.mask, None, CHUNK))
    expected = whole(samples, carry)
    split = jax.tree.map(lambda x: x.reshape(ROWS, 2, SEQUENCES // 2, *x.shape[2:]), samples)
    pieces = jax.tree.map(lambda x: x.reshape(2, 2, SEQUENCES // 2, *x.shape[1:]), carry)
    pieces = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(2, SEQUENCES, *x.shape[3:]), pieces)

    def of_group(samples, carry):
        with summed_over("group"):
            return algorithm.policy_gradient(spec, params, samples, carry, None)

    mapped = jax.vmap(of_group, in_axes=(1, 0), out_axes=None, axis_name="group")
    close(jax.jit(mapped)(split, pieces), expected)


@pytest.mark.parametrize(("name", "packed"), [("probe/death", True), ("smax/3m", True), ("teamwork/4", False)])
def test_rows_are_packed_where_agents_die(name, packed, monkeypatch):
    spec = make(name).spec
    assert spec.agents_die == packed
    monkeypatch.setattr("gpae.algorithms.ppo.gradient_of_living", lambda *_: ("packed", {}))
    monkeypatch.setattr("gpae.algorithms.ppo.gradient_of_mean", lambda *_: ("whole", {}))
    for settings, expected in (({}, "packed" if packed else "whole"), ({"actor_identity": True}, "whole")):
        algorithm = dataclasses.replace(algorithm_called("gpae")(), networks=CriticSizes(**settings))
        samples = PolicySamples(*[jnp.ones(1)] * 9)
        assert algorithm.policy_gradient(spec, None, samples, None, None)[0] == expected
