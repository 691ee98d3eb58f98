"""Team games solved exactly, finite ones and linear-quadratic ones, and the estimators as maps on tables.

What the estimators are proved against.
NumPy in float64 throughout; only `gpae.exact.statements` calls `gpae.estimators`, to compare. `gpae.exact.verify.run`
checks everything and writes the report (`gpae verify`).
"""

from gpae.exact.games import (
    GAMES,
    TeamGame,
    climbing_game,
    gridworld,
    lottery,
    matrix_game,
    mixed_behaviour,
    penalty_game,
    random_game,
    random_policy,
    two_step_game,
    uniform_policy,
)
from gpae.exact.linear_quadratic import (
    LinearPolicy,
    LinearQuadraticGame,
    LinearQuadraticSolution,
    best_policy,
    random_linear_policy,
    random_linear_quadratic_game,
    solve_linear_quadratic,
)
from gpae.exact.operators import (
    Form,
    Operator,
    advantage_variance,
    expected_advantage,
    operator,
    surrogate_gradient,
)
from gpae.exact.solve import (
    Solution,
    discounted_states,
    expected_return,
    policy_gradient,
    score_average,
    solve,
    stationary_states,
)
from gpae.exact.trajectories import (
    Rollout,
    draw_actions,
    enumerate_trajectories,
    estimator_arguments,
    sample_trajectories,
)

__all__ = [
    "GAMES",
    "Form",
    "LinearPolicy",
    "LinearQuadraticGame",
    "LinearQuadraticSolution",
    "Operator",
    "Rollout",
    "Solution",
    "TeamGame",
    "advantage_variance",
    "best_policy",
    "climbing_game",
    "discounted_states",
    "draw_actions",
    "enumerate_trajectories",
    "estimator_arguments",
    "expected_advantage",
    "expected_return",
    "gridworld",
    "lottery",
    "matrix_game",
    "mixed_behaviour",
    "operator",
    "penalty_game",
    "policy_gradient",
    "random_game",
    "random_linear_policy",
    "random_linear_quadratic_game",
    "random_policy",
    "sample_trajectories",
    "score_average",
    "solve",
    "solve_linear_quadratic",
    "stationary_states",
    "surrogate_gradient",
    "two_step_game",
    "uniform_policy",
]
