"""Exact values against slow backups, gradients against finite differences."""

import numpy as np
import pytest

from gpae.exact import (
    discounted_states,
    expected_return,
    policy_gradient,
    random_game,
    random_policy,
    solve,
    stationary_states,
    uniform_policy,
)
from gpae.exact.solve import joint, lift, log_ratios
from reference import exact as reference


@pytest.fixture(params=[0, 1], ids=["endless", "episodes"])
def case(request):
    rng = np.random.default_rng(request.param)
    game = random_game(rng, states=3, agents=3, actions=2, terminal=request.param)
    return game, random_policy(game, rng), rng


def test_values_are_those_of_slow_backups(case):
    game, policy, _ = case
    found = solve(game, policy)
    q = reference.q_values(game, policy)
    for s in range(game.states):
        for j, a in enumerate(reference.actions_of(3, 2)):
            assert found.q[s, j] == pytest.approx(q[s, a], abs=1e-9)
            for i in range(3):
                eq = reference.own_average(game, policy, q, i, s, a)
                assert lift(game, i, found.eq[i])[s, j] == pytest.approx(eq, abs=1e-9)
                assert found.advantages[i, s, j] == pytest.approx(q[s, a] - eq, abs=1e-9)
    np.testing.assert_allclose(found.v, (joint(game, policy) * found.q).sum(1), atol=1e-12)


def test_alone_the_counterfactual_value_is_the_value():
    rng = np.random.default_rng(2)
    game = random_game(rng, agents=1)
    found = solve(game, random_policy(game, rng))
    np.testing.assert_allclose(found.eq[0][:, 0], found.v, atol=1e-12)


def test_state_distributions_are_those_of_long_play(case):
    game, policy, _ = case
    chain = np.einsum("sj,sjt->st", joint(game, policy), game.transitions)
    chain[game.terminal] = np.eye(game.states)[game.terminal]
    state, discounted = game.start, np.zeros(game.states)
    for t in range(500):
        discounted += game.discount**t * np.where(game.terminal, 0, state)
        state = state @ chain
    np.testing.assert_allclose(discounted_states(game, policy), discounted, atol=1e-9)

    restarted = np.where(game.terminal[:, None], 0, chain)
    restarted = restarted * ~game.terminal + np.outer(restarted @ game.terminal, game.start)
    state = game.start
    for _ in range(2000):
        state = state @ restarted
    np.testing.assert_allclose(stationary_states(game, policy), state, atol=1e-9)


def test_policy_gradient_is_that_of_finite_differences(case):
    game, _, rng = case
    logits = rng.normal(size=(3, game.states, 2))

    def returned(logits):
        weights = np.exp(logits)
        return expected_return(game, weights / weights.sum(-1, keepdims=True))

    gradient = np.zeros_like(logits)
    for where in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[where] = 1e-5
        gradient[where] = (returned(logits + step) - returned(logits - step)) / 2e-5
    policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.abs(gradient).max() > 0.01
    np.testing.assert_allclose(policy_gradient(game, policy), gradient, atol=1e-8)


def test_wrong_policies_are_named():
    game = random_game(np.random.default_rng(3))
    policy = uniform_policy(game)
    with pytest.raises(ValueError, match="policy must have shape"):
        solve(game, policy[:2])
    with pytest.raises(ValueError, match="policy must be a distribution"):
        solve(game, policy * 1.01)
    with pytest.raises(ValueError, match="policy must be a distribution"):
        solve(game, np.stack([[[1.5, -0.5, 0.0]] * game.states] * game.agents))


def test_behaviour_must_have_support():
    game = random_game(np.random.default_rng(4))
    policy, narrow = uniform_policy(game), uniform_policy(game)
    narrow[1, 2] = [0.5, 0.5, 0]
    with pytest.raises(ValueError, match="behaviour must support the policy: agent 1 never takes action 2 in state 2"):
        log_ratios(game, policy, narrow)
    # The other way round is fine: an action that the policy never takes has ratio 0.
    ratios = np.exp(log_ratios(game, narrow, policy))
    np.testing.assert_allclose(np.unique(ratios[1, 2]), [0, 1.5])
