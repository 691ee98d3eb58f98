"""Games: what they are worth, and what is refused."""

import numpy as np
import pytest

from gpae.exact import (
    GAMES,
    TeamGame,
    climbing_game,
    expected_return,
    gridworld,
    lottery,
    matrix_game,
    mixed_behaviour,
    penalty_game,
    random_game,
    random_policy,
    solve,
    two_step_game,
    uniform_policy,
)
from gpae.exact.games import MAX_TABLE


def pure(game, choices):
    """The policy that plays `choices[i]` in every state."""
    return np.stack([np.tile(np.eye(game.actions)[choice], (game.states, 1)) for choice in choices])


def test_numbers_of_joint_actions():
    game = random_game(np.random.default_rng(0), agents=3, actions=2)
    assert game.joint_actions[6].tolist() == [1, 1, 0]
    # (1, 1, 0) seen without each agent in turn: (1, 0), (1, 0), (1, 1).
    assert game.others[:, 6].tolist() == [2, 2, 3]


def test_matrix_games_pay_what_their_papers_say():
    assert expected_return(climbing_game(), pure(climbing_game(), (0, 0))) == 11
    assert expected_return(climbing_game(), pure(climbing_game(), (0, 1))) == -30
    assert expected_return(climbing_game(), pure(climbing_game(), (1, 2))) == 6
    assert expected_return(penalty_game(-7), pure(penalty_game(), (0, 2))) == -7
    assert expected_return(penalty_game(), pure(penalty_game(), (1, 1))) == 2


def test_two_step_game():
    game = two_step_game(discount=0.5)
    second = pure(game, (1, 1))
    assert expected_return(game, second) == 0.5 * 8
    second[0, 0] = [1, 0]  # the first agent chooses the matrix that always pays 7
    assert expected_return(game, second) == 0.5 * 7


def test_nothing_the_lazy_agent_does_matters_in_the_lottery():
    game = lottery(agents=4)
    advantages = solve(game, random_policy(game, np.random.default_rng(1))).advantages
    np.testing.assert_allclose(advantages[3], 0, atol=1e-12)
    assert all(np.abs(advantages[i]).max() > 0.1 for i in range(3))


def test_gridworld_is_won_by_walking():
    game = gridworld(width=2, height=1, slip=0.0, discount=0.5)
    # One row of two cells: the first agent must enter the goal, then the second; both go right.
    assert expected_return(game, pure(game, (2, 2))) == pytest.approx(1.0)
    assert expected_return(game, pure(game, (0, 2))) == 0
    game = gridworld(slip=0.0, discount=0.5)
    first, second = pure(game, (2, 2)), None  # right, right from (0, 0); the other needs right, right, down
    second = uniform_policy(game)
    optimum = best_return(game)
    assert expected_return(game, first) == 0
    assert 0 < expected_return(game, second) < optimum
    assert optimum == pytest.approx(0.5**2)


def best_return(game):
    """By value iteration over joint actions."""
    v = np.zeros(game.states)
    for _ in range(200):
        v = np.where(game.terminal, 0, (game.rewards + game.discount * game.continues @ v).max(1))
    return game.start @ v


@pytest.mark.parametrize("name", GAMES)
def test_named_games_are_solvable(name):
    game = GAMES[name]()
    assert np.isfinite(solve(game, uniform_policy(game)).q).all()
    np.testing.assert_allclose(game.transitions.sum(-1), 1)


def test_behaviours_mix():
    game = random_game(np.random.default_rng(2))
    policy = uniform_policy(game)
    np.testing.assert_array_equal(mixed_behaviour(game, policy, np.random.default_rng(0), 0.0), policy)
    far = mixed_behaviour(game, policy, np.random.default_rng(0), 1.0)
    half = mixed_behaviour(game, policy, np.random.default_rng(0), 0.5)
    np.testing.assert_allclose(half, (policy + far) / 2)
    np.testing.assert_allclose(far.sum(-1), 1)


VALID = {
    "name": "test",
    "agents": 1,
    "actions": 2,
    "transitions": np.full((2, 2, 2), 0.5),
    "rewards": np.zeros((2, 2)),
    "discount": 0.9,
    "start": np.array([1.0, 0.0]),
}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"transitions": np.full((2, 2, 2), 0.6)}, "transitions must be a distribution"),
        ({"transitions": np.array([[[1.5, -0.5]] * 2] * 2)}, "transitions must be a distribution"),
        ({"transitions": np.full((2, 2, 2), np.nan)}, "transitions must be a distribution"),
        ({"transitions": np.full((2, 4, 2), 0.5)}, "transitions must have shape"),
        ({"rewards": np.zeros((2, 3))}, "rewards must have shape"),
        ({"rewards": np.full((2, 2), np.inf)}, "rewards must be finite"),
        ({"start": np.array([0.7, 0.0])}, "start must be a distribution"),
        ({"terminal": np.array([True, False])}, "start must give no probability to a terminal state"),
        ({"terminal": np.array([True])}, "terminal must have shape"),
        ({"discount": 1.0}, r"discount must be in \[0, 1\), got 1.0"),
        ({"agents": 0}, "a game needs states, agents and actions"),
    ],
)
def test_wrong_games_are_refused(changed, named):
    assert TeamGame(**VALID).states == 2
    with pytest.raises(ValueError, match=named):
        TeamGame(**(VALID | changed))


def test_games_too_large_say_what_would_fit():
    with pytest.raises(ValueError, match=rf"100 states, 6 agents .*at most {MAX_TABLE}.*3 agents would fit"):
        random_game(np.random.default_rng(0), states=100, agents=6, actions=5)
    with pytest.raises(ValueError, match="not even one agent fits"):
        random_game(np.random.default_rng(0), states=10_000, agents=2, actions=5)
    with pytest.raises(ValueError, match="too large"):
        gridworld(width=20, height=20)


def test_other_arguments_are_named():
    with pytest.raises(ValueError, match="payoffs must be a square matrix"):
        matrix_game("tall", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="lottery with a lazy agent needs at least 2 agents"):
        lottery(agents=1)
