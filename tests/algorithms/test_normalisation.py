"""Running statistics: what NumPy makes of all rows, for every actor-critic algorithm, several seeds and groups."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import ALGORITHMS, losses
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Budget, algorithm_called
from gpae.algorithms.sharding import grouped
from gpae.algorithms.statistics import Moments, merged, moments, moments_where, shift_and_scale, with_moments
from gpae.envs.probes import Death, Team
from gpae.errors import UserError
from gpae.networks import STATISTICS, InputNormaliser, ValueScale
from gpae.settings import as_arrays, settings_of
from gpae.training.config import configure
from reference.stages import Learner, Programs

SMALL = {"num_envs": 8, "rollout_length": 6, "hidden_size": 8, "embedding_size": 8, "epochs": 1, "minibatches": 1}
ON = {"normalise_observations": True, "normalise_values": True}
ACTOR_CRITICS = [name for name, cls in ALGORITHMS.items() if issubclass(cls, ActorCritic)]


def small(algorithm="gpae", **settings):
    known = settings_of(algorithm_called(algorithm))
    asked = {name: value for name, value in SMALL.items() if name in known} | settings
    return configure(algorithm, env="probe/death", total_steps=1_000, **asked)


def as_numpy(statistics):
    return float(np.ravel(statistics["count"])[0]), np.asarray(statistics["mean"]), np.asarray(statistics["variance"])


def of_rows(rows):
    """Count, mean and variance of rows [..., F], by NumPy in double precision."""
    rows = np.concatenate([np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in rows])
    return len(rows), rows.mean(0), rows.var(0)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_moments_of_pieces_are_numpy_s_of_the_whole(strict):
    """Of numbers far from 0, where squares less squares would be lost in rounding."""
    draw = np.random.default_rng(0)
    pieces = [1e3 + draw.normal(size=(rows, 5, 3)).astype(np.float32) for rows in (4, 1, 40)]
    seen = Moments(jnp.zeros(3), jnp.zeros(3), jnp.ones(3))
    for piece in pieces:
        one = moments(jnp.asarray(piece))
        seen = merged(seen, replace(one, count=jnp.full(3, one.count)))
    count, mean, variance = of_rows(pieces)
    np.testing.assert_array_equal(seen.count, [count] * 3)
    np.testing.assert_allclose(seen.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(seen.variance, variance, rtol=1e-3)


def test_moments_of_selected_numbers(strict):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32))
    found = moments_where(x, x > 0)
    assert_same((found.count, found.mean, found.variance), of_rows([np.asarray(x)[np.asarray(x) > 0][:, None]]))
    none = moments_where(x, x > 100)
    assert (none.count, none.mean, none.variance) == (0.0, 0.0, 0.0)
    before = Moments(jnp.float32(3), jnp.float32(0.5), jnp.float32(2))
    assert merged(before, none) == before


def test_normalisers_do_nothing_before_anything_was_seen(strict):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32))
    for kind, shape in ((InputNormaliser(), (4,)), (ValueScale(), ())):
        variables = kind.init(jax.random.key(0), x)
        assert variables[STATISTICS]["mean"].shape == shape
        np.testing.assert_array_equal(kind.apply(variables, x), x)


def test_inputs_are_normalised_and_clipped_and_no_gradient_flows_into_statistics(strict):
    seen = {"count": jnp.ones(2), "mean": jnp.array([1.0, 2.0]), "variance": jnp.array([4.0, 0.0])}
    variables = {STATISTICS: seen}
    x = jnp.array([[3.0, 2.0], [1.0, 2.5]])
    shown = InputNormaliser().apply(variables, x)
    np.testing.assert_allclose(shown, [[1.0, 0.0], [0.0, 10.0]], rtol=1e-6)
    for kind, values in ((InputNormaliser(), x), (ValueScale(), x[0])):
        if isinstance(kind, ValueScale):
            variables = {STATISTICS: jax.tree.map(lambda x: x[0], seen)}
            np.testing.assert_allclose(kind.apply(variables, values), [7.0, 5.0], rtol=1e-6)
        slopes = jax.grad(lambda v, kind=kind, values=values: kind.apply(v, values).sum())(variables)
        assert not any(np.any(x) for x in jax.tree.leaves(slopes))


def statistics_in(tree, at=()):
    """Every place of a normaliser, as a path."""
    if not isinstance(tree, dict):
        return []
    if tree.keys() == {"count", "mean", "variance"}:
        return [at]
    return [place for name, inner in tree.items() for place in statistics_in(inner, (*at, name))]


def places(algorithm, **settings):
    """Of normalisers, in the actor and in the critic."""
    chosen = small(algorithm, **settings).algorithm
    state = jax.eval_shape(lambda key: chosen.init(Death(), key), jax.random.key(0))
    return statistics_in(state.params.actor), statistics_in(state.params.critic)


@pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
def test_every_actor_critic_keeps_statistics_where_asked_and_none_otherwise(algorithm):
    """That updates of them can be traced, `test_settings` sees."""
    for settings in ({}, ON):
        actor, critic = places(algorithm, **settings)
        if not settings:
            assert (actor, critic) == ([], [])
            continue
        assert actor == [(STATISTICS, "observations")]
        names = {place[-1] for place in critic}
        shown = {"ippo": {"observations"}, "dop": {"observations", "state"}}.get(algorithm.split("-")[0], {"state"})
        assert names == shown | {"values"}
        assert sum(place[-1] == "values" for place in critic) == 1  # reward models have none


@pytest.mark.parametrize("algorithm", [name for name in ACTOR_CRITICS if name != "ippo"])
def test_the_state_is_normalised_alone_where_that_is_asked_for(algorithm):
    actor, critic = places(algorithm, normalise_state=True)
    assert actor == []
    assert {place[-1] for place in critic} == {"state"}


def test_a_critic_of_what_agents_see_has_no_state_to_normalise():
    with pytest.raises(UserError, match=r"--normalise-state belongs to .*; ippo has nothing that it would change"):
        small("ippo", normalise_state=True)


def test_the_state_alone_counts_every_row_that_an_update_saw():
    programs = Programs(small(window=2, normalise_state=True), Death())
    state, _ = programs.update(programs.init(jax.random.key(3)))
    view = jax.device_get(jax.tree.map(lambda x: x[-1], state.window.segments.trajectory.view))
    assert_same(as_numpy(state.params.critic[STATISTICS]["state"]), of_rows([view.state]))
    assert STATISTICS not in state.params.actor


def test_a_value_based_learner_counts_what_agents_and_mixer_saw_and_its_targets_do_so_when_copied():
    """Three updates, with a copy after the second."""
    env, sizes = Death(), {"replay_segments": 2, "replay_sequences": 4, "hypernet_size": 8}
    config = small("qmix", target_period=2, normalise_observations=True, **sizes)
    algorithm, budget = as_arrays(config.algorithm), Budget(updates=10, gradient_steps=jnp.float32(100))

    @jax.jit
    def update(state, key):
        state, newest = algorithm.collect(env, state, jnp.float32(0.5), key)
        return algorithm.learn(env.spec, state, newest, budget, key)[0], newest.trajectory.view

    state, views = jax.jit(lambda key: algorithm.init(env, key))(jax.random.key(0)), []
    for i in range(3):
        state, view = update(state, jax.random.key(i))
        views.append(jax.device_get(view))
    for networks, seen in ((state.params, views), (state.target, views[:2])):
        assert_same(as_numpy(networks.actor[STATISTICS]["observations"]), of_rows([v.observations for v in seen]))
        assert_same(as_numpy(networks.critic[STATISTICS]["state"]), of_rows([v.state for v in seen]))


def test_of_value_based_learners_those_with_a_mixer_of_the_state_normalise_it():
    for algorithm, shown in (("qmix", [(STATISTICS, "state")]), ("vdn", []), ("iql", [])):
        for settings, found in (({}, []), ({"normalise_observations": True}, shown)):
            actor, mixer = places(algorithm, **settings)
            assert actor == ([(STATISTICS, "observations")] if settings else [])
            assert mixer == found
    assert places("qmix", normalise_state=True) == ([], [(STATISTICS, "state")])
    with pytest.raises(UserError, match="--normalise-state belongs to"):
        small("vdn", normalise_state=True)


def test_statistics_are_those_of_all_rows_and_targets_so_far():
    """Of dae, whose critic is a dict of networks, one of them an ensemble."""
    programs = Programs(small("dae", window=2, **ON), Death())
    state, views, targets = programs.init(jax.random.key(0)), [], []
    for _ in range(3):
        _, data = programs.experience(state)
        _, mask = programs.algorithm.masks(data.segment.trajectory)
        targets.append(np.asarray(data.targets.critic_targets)[np.asarray(mask)][:, None])
        state, _ = programs.update(state)
        # The newest rollout is the last segment of the next update's window.
        views.append(jax.device_get(jax.tree.map(lambda x: x[-1], state.window.segments.trajectory.view)))
    shown = {"observations": [v.observations for v in views], "state": [v.state for v in views], "values": targets}
    for tree in (state.params.actor, state.params.critic):
        for place in statistics_in(tree):
            found = tree
            for name in place:
                found = found[name]
            count, mean, variance = of_rows(shown[place[-1]])
            if place[-1] == "values":
                mean, variance = mean[0], variance[0]
            for one in range(found["mean"].shape[0] if found["mean"].ndim == 2 else 1):  # of an ensemble
                part = jax.tree.map(lambda x, one=one: x[one], found) if found["mean"].ndim == 2 else found
                assert_same(as_numpy(part), (count, mean, variance))


@pytest.fixture(scope="module")
def trained():
    """Two updates, on-policy: the programs and the state."""
    programs = Programs(small(**ON, clip=0.5), Death())
    state = programs.init(jax.random.key(1))
    for _ in range(2):
        state, _ = programs.update(state)
    return programs, state


def test_on_policy_ratios_stay_one_while_statistics_move(trained):
    """The policy that acted is the policy at the start of the update."""
    programs, state = trained
    learner = programs.learner
    assert state.params.actor[STATISTICS]["observations"]["count"][0] > 0

    @jax.jit
    def again(state, key):
        """What the actor says of its own experience, asked once more."""
        state, segment, last = learner.collect(state, key)
        return learner.reevaluate(state.params, segment, replace(last, acting=None), key)

    evaluation = again(state, jax.random.key(2))
    np.testing.assert_allclose(evaluation.log_ratios, 0.0, atol=1e-5)
    assert np.ptp(evaluation.log_probs) > 0.01


def test_old_values_move_with_the_scale_and_errors_are_in_its_units(trained):
    programs, state = trained
    learner = Learner(programs.config.algorithm, programs.env, None)
    before, data = programs.experience(state)

    @jax.jit
    def stages(state, data):
        batch, carries = learner.batch(data)
        after, moved = learner.algorithm.rescale_values(state, batch)
        found = learner.criticise(after.params.critic, moved.inputs, moved.trajectory.is_first, carries.critic)
        return batch, after, moved, found.values, learner.algorithm.squared_error(found.values + 0.3, moved)

    batch, after, moved, values, loss = stages(before, data)
    shift, scale = shift_and_scale(after.params.critic, "values")
    assert scale != shift_and_scale(state.params.critic, "values")[1]
    np.testing.assert_allclose(moved.evaluation.critic.values, values, rtol=1e-4, atol=1e-5)
    assert not np.allclose(batch.evaluation.critic.values, values)
    units = (moved.evaluation.critic.values, values + 0.3, batch.targets.critic_targets)
    old, new, targets = ((x - shift) / scale for x in units)
    expected = losses.masked_mean(losses.value_error(new, old, targets, 0.5), batch.value_mask)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_every_seed_counts_by_itself_and_its_groups_together():
    env, algorithm = Team(), small(window=2, **ON).algorithm
    traced, budget = as_arrays(algorithm), Budget(updates=5, gradient_steps=jnp.float32(100))

    @jax.jit
    @jax.vmap
    def one_update(key):
        return grouped(env, 2)(algorithm.init(env, key), traced, budget)[0]

    states = one_update(jax.random.split(jax.random.key(0), 2))
    for seed in range(2):
        params, view = jax.device_get(
            jax.tree.map(lambda x, seed=seed: x[seed], (states.params, states.window.segments.trajectory.view))
        )
        assert_same(as_numpy(params.actor[STATISTICS]["observations"]), of_rows([view.observations]))
        assert_same(as_numpy(params.critic[STATISTICS]["state"]), of_rows([view.state]))
        # Four environments of a window of two, whose first segment is still empty.
        assert params.critic[STATISTICS]["values"]["count"] == 8 * 6 * env.spec.num_agents / 2
    means = states.params.actor[STATISTICS]["observations"]["mean"]
    assert not np.array_equal(means[0], means[1])


def test_several_networks_keep_the_same_and_leave_what_stands_behind():
    """Statistics of two networks, [2, ...], that are shown an index of one number behind two of an observation."""
    kept = {"count": jnp.zeros((2, 3)), "mean": jnp.zeros((2, 3)), "variance": jnp.ones((2, 3))}
    scale = jax.tree.map(lambda x: x[:, 0], kept)
    tree = {STATISTICS: {"observations": kept, "values": scale}}
    rows = jnp.array([[1.0, 4.0], [3.0, 8.0]])
    tree = with_moments(tree, "observations", moments(rows))
    tree = with_moments(tree, "values", moments_where(rows, rows < 8.0))
    found = tree[STATISTICS]["observations"]
    np.testing.assert_array_equal(found["mean"], [[2.0, 6.0, 0.0]] * 2)
    np.testing.assert_array_equal(found["variance"], [[1.0, 4.0, 1.0]] * 2)
    shift, deviation = shift_and_scale(tree, "values")
    np.testing.assert_allclose([shift, deviation], [8 / 3, np.std([1.0, 4.0, 3.0])], rtol=1e-6)


def test_what_has_no_statistics_is_left_as_it_is():
    tree = {"params": {"observations": {"kernel": jnp.ones(2)}}, "other": (jnp.zeros(1),)}
    seen = moments(jnp.ones((3, 2)))
    assert with_moments(tree, "observations", seen) == tree
    assert shift_and_scale(tree, "observations") is None
