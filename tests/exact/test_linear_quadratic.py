"""Linear-quadratic team games: their values, their best policy, and what the estimator says of them."""

from dataclasses import replace

import numpy as np
import pytest

from gpae.exact import (
    best_policy,
    random_linear_policy,
    random_linear_quadratic_game,
    solve_linear_quadratic,
    statements,
)
from gpae.exact.linear_quadratic import linear_quadratic_arguments


@pytest.fixture(scope="module")
def game():
    return random_linear_quadratic_game(np.random.default_rng(0))


@pytest.fixture(scope="module")
def policy(game):
    return random_linear_policy(np.random.default_rng(1), game)


def all_actions(policy, state, nodes=3):
    """Joint actions and weights of a Gauss-Hermite rule, exact for a quadratic function of them."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    size = policy.scales.size
    grid = np.stack(np.meshgrid(*[points] * size, indexing="ij"), -1).reshape(-1, *policy.scales.shape)
    mass = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * size, indexing="ij"), -1).reshape(-1, size), -1)
    return policy.means(state) + policy.scales * grid, mass


def test_values_are_means_over_actions(game, policy):
    """V of Q over everybody's actions, EQ^i of Q over the agent's own, and A^i has mean 0 over them."""
    solution, state = solve_linear_quadratic(game, policy), np.array([0.7, -1.2, 0.4])
    actions, mass = all_actions(policy, state)
    states = np.broadcast_to(state, (len(actions), 3))
    np.testing.assert_allclose(mass @ solution.q(states, actions), solution.v(state), rtol=1e-10)
    fixed = np.array([[1.0, -0.5], [0.3, 2.0], [-1.0, 0.1]])
    for agent in range(3):
        own = np.where((np.arange(3) == agent)[:, None], actions, fixed)
        np.testing.assert_allclose(mass @ solution.q(states, own), solution.eq(state, fixed)[agent], rtol=1e-10)
        np.testing.assert_allclose(mass @ solution.advantages(states, own)[:, agent], 0, atol=1e-10)


def test_the_value_is_the_discounted_sum_of_rewards(game, policy):
    """Of the mean state and its covariance, step by step."""
    solution, mean = solve_linear_quadratic(game, policy), np.array([0.7, -1.2, 0.4])
    closed = game.dynamics + game.control @ policy.gains
    cost = game.state_cost + policy.gains.T @ game.action_cost @ policy.gains
    spread = np.diag(policy.scales.reshape(-1) ** 2)
    covariance, value = np.zeros((3, 3)), 0.0
    for t in range(2000):
        value -= game.discount**t * (
            mean @ cost @ mean + np.trace(cost @ covariance) + np.trace(game.action_cost @ spread)
        )
        mean, covariance = (
            closed @ mean,
            closed @ covariance @ closed.T + game.control @ spread @ game.control.T + game.noise,
        )
    np.testing.assert_allclose(solution.v(np.array([0.7, -1.2, 0.4])), value, rtol=1e-9)


def test_no_action_is_better_than_the_best_policys_and_no_gains_are(game, policy):
    best = best_policy(game, policy.scales)
    solution, rng = solve_linear_quadratic(game, best), np.random.default_rng(2)
    states = rng.normal(size=(50, 3))
    here = solution.q(states, best.means(states))
    assert (solution.q(states, best.means(states) + 0.3 * rng.normal(size=(50, 3, 2))) < here).all()
    for _ in range(20):
        other = replace(best, gains=best.gains + 0.05 * rng.normal(size=best.gains.shape))
        assert (solve_linear_quadratic(game, other).v(states) < solution.v(states)).all()
    assert (solve_linear_quadratic(game, policy).v(states) < solution.v(states)).all()


def test_values_that_are_infinite_are_refused(game, policy):
    with pytest.raises(ValueError, match="infinite"):
        solve_linear_quadratic(replace(game, dynamics=3 * np.eye(3)), replace(policy, gains=np.zeros((6, 3))))


def test_the_estimator_gives_the_analytic_advantages():
    found = statements.linear_quadratic_tested(np.random.default_rng(3), pairs=3)
    assert found.checks == 36
    assert found.holds, found


def test_the_test_would_see_a_wrong_critic_and_uncorrected_traces(game, policy):
    """One that is not told of the own spread is off by what it costs; and the paper's form off-policy is biased."""
    rng = np.random.default_rng(4)
    solution, state = solve_linear_quadratic(game, policy), np.array([0.7, -1.2, 0.4])
    action = policy.draw(state, rng)
    exact = solution.advantages(state, action)
    far = replace(policy, gains=policy.gains + 0.2 * rng.normal(size=(6, 3)), scales=1.3 * policy.scales)

    def worst(behaviour, form, change=0.0):
        arguments = linear_quadratic_arguments(
            solution, behaviour, state, action, "sampled", rng, steps=4, environments=20_000
        )
        arguments["values"] = arguments["values"] + change
        sample, _ = statements._first_row(game.discount, statements._chunks(arguments), 20_000, form)
        return (np.abs(sample.mean(0) - exact) / (sample.std(0) / np.sqrt(20_000))).max()

    assert worst(policy, statements.Form()) < 4.5
    assert worst(policy, statements.Form(), change=0.1) > 6
    assert worst(far, statements.Form()) > 6
