"""Operators against slow backups written from the formulas, and the spread against samples."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from gpae import estimators
from gpae.estimators import BOOTSTRAPS, OWN_WEIGHTS
from gpae.exact import (
    Form,
    Operator,
    TeamGame,
    advantage_variance,
    discounted_states,
    draw_actions,
    estimator_arguments,
    expected_advantage,
    mixed_behaviour,
    operator,
    policy_gradient,
    random_game,
    random_policy,
    sample_trajectories,
    surrogate_gradient,
)
from gpae.exact.operators import TRACES
from gpae.exact.solve import lift
from gpae.exact.statements import compiled_estimator
from reference import exact as reference

STEPS = 40  # (gamma lambda)^40 = 2e-14 below


@pytest.fixture(scope="module", params=[0, 1], ids=["endless", "episodes"])
def case(request):
    rng = np.random.default_rng(10 + request.param)
    game = random_game(rng, states=3, agents=2, actions=2, discount=0.75, terminal=request.param)
    policy = random_policy(game, rng)
    return game, policy, mixed_behaviour(game, policy, rng, 0.5), rng.normal(size=(2, 3, 2))


@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
@pytest.mark.parametrize("trace", TRACES)
def test_means_and_targets_are_those_of_slow_backups(case, trace, bootstrap):
    game, policy, behaviour, tables = case
    agent = 1
    form = Form(trace, bootstrap, lambda_=0.6, eta=1.2, own_cap=1.5)
    read = lift(game, agent, tables[agent])
    joint = reference.actions_of(2, 2)

    def table(s, a):
        return read[s, joint.index(a)]

    for steps, exact_steps in ((3, 3), (STEPS, None)):
        slow = reference.advantages(game, policy, behaviour, agent, table, form, steps)
        found = expected_advantage(game, policy, behaviour, agent, tables[agent], form, exact_steps)
        for j, (s, a) in itertools.product(range(4), itertools.product(range(3), joint)):
            if joint[j] == a:
                assert found[s, j] == pytest.approx(slow[s, a], abs=1e-9)
        for own_weight in OWN_WEIGHTS:
            form = replace(form, own_weight=own_weight)
            targets = operator(game, policy, behaviour, agent, form, exact_steps)(tables[agent])
            for s, other in itertools.product(range(3), range(2)):
                expected = 0.0 if game.terminal[s] else table(s, (other, 0))
                for own in range(2):
                    rho = policy[agent, s, own] / behaviour[agent, s, own]
                    weight = min(1.0 if own_weight == "truncated" else form.own_cap, rho)
                    expected += behaviour[agent, s, own] * weight * slow[s, (other, own)]
                assert targets[s, other] == pytest.approx(expected, abs=1e-9)


def test_the_traces_are_those_of_the_estimators_and_the_untruncated_one():
    assert set(TRACES) == {*estimators.TRACES, "per-decision"}
    assert len(TRACES) == len(set(TRACES))


def test_fixed_point_and_moduli_of_a_known_map():
    known = Operator(matrix=np.array([[0.5, -0.25], [0.0, 0.25]]), offset=np.array([1.0, 3.0]))
    np.testing.assert_allclose(known.fixed_point, [0.0, 4.0])
    np.testing.assert_allclose(known(known.fixed_point), known.fixed_point)
    assert known.max_norm == 0.75
    assert known.spectral_radius == 0.5


@pytest.mark.parametrize("form", [Form(), Form("others", "weighted", "exact")])
def test_iterating_the_map_leads_to_its_fixed_point(case, form):
    game, policy, behaviour, tables = case
    found = operator(game, policy, behaviour, 0, form)
    table = tables[0].reshape(-1)
    for _ in range(200):
        table = found(table)
    np.testing.assert_allclose(table, found.fixed_point, atol=1e-9)


@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
@pytest.mark.parametrize("trace", ["dt", "others"])
def test_variance_is_that_of_samples(case, trace, bootstrap):
    """Sample variance at every (s, a) within five of its standard errors, 40 comparisons: false alarms 2e-5."""
    game, policy, behaviour, tables = case
    form = Form(trace, bootstrap, lambda_=0.6)
    rng = np.random.default_rng(0)
    rollout = sample_trajectories(game, behaviour, rng, steps=STEPS, environments=4000)
    fresh = draw_actions(game, policy, rollout.next_states, rng) if bootstrap == "resampled" else None
    arguments = estimator_arguments(game, rollout, policy, behaviour, tables, bootstrap, fresh)
    floats = {name: x if x.dtype == bool else x.astype(np.float32) for name, x in arguments.items()}
    options = {"gamma": game.discount, "lambda_": 0.6, "trace": trace, "eta": 1.05, "own_weight": "truncated"}
    sampled = np.asarray(compiled_estimator()(**floats, **options, own_cap=math.inf).advantages[0], np.float64)
    pairs = rollout.states[0] * 4 + rollout.actions[0]
    for agent in range(2):
        variance = advantage_variance(game, policy, behaviour, agent, tables[agent], form).reshape(-1)
        mean = expected_advantage(game, policy, behaviour, agent, tables[agent], form).reshape(-1)
        for pair in np.unique(pairs):
            squares = (sampled[pairs == pair, agent] - mean[pair]) ** 2
            assert abs(squares.mean() - variance[pair]) < 5 * squares.std() / math.sqrt(len(squares))


@pytest.fixture
def follows_the_other():
    """Two states, never an end; the next one is what the other agent does. Agent 0 plays evenly, under mu too."""
    next_state = np.eye(2)[[0, 1, 0, 1]]  # joint actions 00, 01, 10, 11
    game = TeamGame("other", 2, 2, np.stack([next_state] * 2), np.ones((2, 4)), 0.9, np.array([1.0, 0.0]))
    even = np.full((2, 2), 0.5)
    policy = np.stack([even, np.array([[0.1, 0.9], [0.9, 0.1]])])
    behaviour = np.stack([even, np.array([[0.9, 0.1], [0.1, 0.9]])])
    return game, policy, behaviour


@pytest.mark.parametrize(("trace", "diverges"), [("none", True), ("it", True), ("st", False), ("dt", False)])
def test_traces_that_are_blind_to_the_others_can_diverge_with_a_corrected_bootstrap(follows_the_other, trace, diverges):
    game, policy, behaviour = follows_the_other
    found = operator(game, policy, behaviour, 0, Form(trace, "expected", "exact", lambda_=0.8))
    assert (found.spectral_radius > 3) == diverges
    assert (found.max_norm <= game.discount + 1e-9) != diverges


def test_with_the_truncated_own_weight_gamma_is_no_modulus():
    """Where no episode ends and lambda is 0 the larger bound of statement 3b is reached."""
    rng = np.random.default_rng(3)
    game = random_game(rng, states=3, agents=2, actions=2, discount=0.9, terminal=0)
    policy = random_policy(game, rng)
    behaviour = mixed_behaviour(game, policy, rng, 0.5)
    found = operator(game, policy, behaviour, 0, Form(lambda_=0.0))
    bound = 1 - 0.1 * np.minimum(policy[0], behaviour[0]).sum(-1).min()
    assert found.max_norm == pytest.approx(bound)
    assert bound > 0.9 + 1e-3


def test_a_large_ratio_of_ones_own_makes_the_variance_of_others_infinite_and_a_cap_does_not():
    rng = np.random.default_rng(0)
    game = random_game(rng, states=2, agents=2, actions=2, discount=0.9, terminal=0)
    policy, behaviour = (np.stack([np.tile(own, (2, 1)), np.full((2, 2), 0.5)]) for own in ([0.9, 0.1], [0.1, 0.9]))
    table = np.zeros((2, 2))
    for cap, infinite in ((math.inf, True), (1.0, False)):
        form = Form("others", "expected", "exact", lambda_=0.8, own_cap=cap)
        assert np.isinf(advantage_variance(game, policy, behaviour, 0, table, form)).all() == infinite


def test_products_of_unbounded_ratios_have_infinite_variance():
    rng = np.random.default_rng(12)
    game = random_game(rng)
    policy, behaviour = random_policy(game, rng, 0.5), random_policy(game, rng, 0.5)
    table = np.zeros((4, 9))
    unbounded = advantage_variance(game, policy, behaviour, 0, table, Form("per-decision", lambda_=1.0))
    assert np.isinf(unbounded).all()
    assert np.isfinite(advantage_variance(game, policy, behaviour, 0, table, Form("dt", lambda_=1.0))).all()


def test_surrogate_gradient_is_exact_with_the_others_ratios_and_biased_without(case):
    game, policy, behaviour, _ = case
    states = discounted_states(game, policy)
    exact = policy_gradient(game, policy)
    full = surrogate_gradient(game, policy, behaviour, states, others_cap=math.inf)
    np.testing.assert_allclose(full, exact, atol=1e-12)
    np.testing.assert_allclose(surrogate_gradient(game, policy, policy, states), exact, atol=1e-12)
    for biased in (None, 1.05):
        found = surrogate_gradient(game, policy, behaviour, states, others_cap=biased)
        assert np.linalg.norm(found - exact) > 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"trace": "dtt"}, "unknown trace 'dtt'"),
        ({"bootstrap": "sample"}, "unknown bootstrap 'sample'; did you mean 'sampled'"),
        ({"own_weight": "exactly"}, "unknown own_weight 'exactly'"),
        ({"lambda_": 1.5}, r"lambda_ must be in \[0, 1\]"),
        ({"eta": 0.9}, "eta must be at least 1"),
        ({"own_cap": 0.5}, "own_cap must be at least 1"),
    ],
)
def test_wrong_forms_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        Form(**options)
