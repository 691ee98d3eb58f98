r"""Team games of real-valued states and actions whose values are known: linear dynamics, quadratic rewards.

    s' = F s + G a + w      w ~ N(0, C)      r = -(s' Q s + a' R a)      a^i ~ N(K^i s, diag(scale^i)^2)

with a all agents' actions in one vector, so that R couples them. Under linear policies the value is quadratic, and so
are Q, EQ^i and A^i: with P the solution of P = Q + K' R K + gamma (F + G K)' P (F + G K) and H = R + gamma G' P G,

    V(s)         = -s' P s - c      c = [ sum_d H_dd scale_d^2 + gamma tr(P C) ] / (1 - gamma)
    Q(s, a)      = r + gamma E V(F s + G a + w)
    EQ^i(s,a^-i) = Q(s, a with a^i = K^i s) - sum_{d of i} H_dd (scale^i_d)^2
    A^i(s, a)    = Q(s, a) - EQ^i(s, a^-i)

The best gains are those of the discounted Riccati equation, K = -H^-1 gamma G' P F, whatever the scales are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpae.estimators import Bootstrap
from gpae.exact.games import Floats


@dataclass(frozen=True)
class LinearQuadraticGame:
    """N agents with D numbers each, S numbers of state."""

    dynamics: Floats
    """F, [S, S]."""
    control: Floats
    """G, [S, N D]."""
    state_cost: Floats
    """Q, [S, S], symmetric and positive semidefinite."""
    action_cost: Floats
    """R, [N D, N D], symmetric and positive definite."""
    noise: Floats
    """C, [S, S], a covariance."""
    discount: float
    agents: int

    def reward(self, states: Floats, actions: Floats) -> Floats:
        """r, [...], of states [..., S] and actions [..., N, D]."""
        flat = _flat(actions)
        return -_form(self.state_cost, states) - _form(self.action_cost, flat)

    def mean_step(self, states: Floats, actions: Floats) -> Floats:
        """F s + G a, [..., S]."""
        return states @ self.dynamics.T + _flat(actions) @ self.control.T


@dataclass(frozen=True)
class LinearPolicy:
    """Every agent's normal distribution around a linear function of the state."""

    gains: Floats
    """K, [N D, S]."""
    scales: Floats
    """Standard deviations, [N, D]."""

    def means(self, states: Floats) -> Floats:
        """[..., N, D] of states [..., S]."""
        return (states @ self.gains.T).reshape(*states.shape[:-1], *self.scales.shape)

    def draw(self, states: Floats, rng: np.random.Generator) -> Floats:
        """Actions [..., N, D] in states [..., S]."""
        means = self.means(states)
        return means + self.scales * rng.normal(size=means.shape)

    def log_densities(self, states: Floats, actions: Floats) -> Floats:
        """Each agent's log pi^i(a^i | s), [..., N]."""
        standard = (actions - self.means(states)) / self.scales
        return np.sum(-0.5 * standard**2 - np.log(self.scales * np.sqrt(2 * np.pi)), axis=-1)


@dataclass(frozen=True)
class LinearQuadraticSolution:
    """The values of a policy."""

    game: LinearQuadraticGame
    policy: LinearPolicy
    matrix: Floats
    """P, [S, S]."""
    constant: float
    """c."""

    @property
    def curvature(self) -> Floats:
        """H, [N D, N D]: Q(s, a) is -a' H a and terms of lower order."""
        game = self.game
        return game.action_cost + game.discount * game.control.T @ self.matrix @ game.control

    def v(self, states: Floats) -> Floats:
        """V, [...]."""
        return -_form(self.matrix, states) - self.constant

    def q(self, states: Floats, actions: Floats) -> Floats:
        """Q, [...], of states [..., S] and actions [..., N, D]."""
        game = self.game
        following = self.v(game.mean_step(states, actions)) - np.trace(self.matrix @ game.noise)
        return game.reward(states, actions) + game.discount * following

    def eq(self, states: Floats, actions: Floats) -> Floats:
        """EQ^i of every agent, [..., N]; its own action in `actions` does not matter."""
        means, scales = self.policy.means(states), self.policy.scales
        spent = np.sum(np.diag(self.curvature).reshape(scales.shape) * scales**2, axis=-1)
        own = np.arange(self.game.agents)
        values = []
        for agent in own:
            here = np.where((own == agent)[:, None], means, actions)
            values.append(self.q(states, here) - spent[agent])
        return np.stack(values, axis=-1)

    def advantages(self, states: Floats, actions: Floats) -> Floats:
        """A^i of every agent, [..., N]."""
        return self.q(states, actions)[..., None] - self.eq(states, actions)


def solve_linear_quadratic(game: LinearQuadraticGame, policy: LinearPolicy) -> LinearQuadraticSolution:
    """The values of a policy.

    Raises:
      ValueError: they are infinite, since sqrt(gamma) (F + G K) has a spectral radius of 1 or more.
    """
    root = np.sqrt(game.discount) * (game.dynamics + game.control @ policy.gains)
    if not _contracts(root):
        raise ValueError("the policy's values are infinite: its closed loop grows faster than the discount shrinks")
    cost = game.state_cost + policy.gains.T @ game.action_cost @ policy.gains
    size = len(cost)
    stacked = np.eye(size * size) - np.kron(root.T, root.T)
    matrix = np.linalg.solve(stacked, cost.reshape(-1)).reshape(size, size)
    found = LinearQuadraticSolution(game, policy, np.asarray(matrix, np.float64), 0.0)
    spent = np.sum(np.diag(found.curvature) * policy.scales.reshape(-1) ** 2)
    constant = (spent + game.discount * np.trace(matrix @ game.noise)) / (1 - game.discount)
    return replace(found, constant=float(constant))


def best_policy(game: LinearQuadraticGame, scales: Floats, iterations: int = 500) -> LinearPolicy:
    """The best gains for these scales, by policy iteration from gains of 0 as values come to be.

    Args:
      game: one whose uncontrolled state grows more slowly than the discount shrinks.
      scales: [N, D].
      iterations: at most.
    """
    policy = LinearPolicy(np.zeros((scales.size, len(game.dynamics))), scales)
    for _ in range(iterations):
        found = solve_linear_quadratic(game, policy)
        gains = -game.discount * np.linalg.solve(found.curvature, game.control.T @ found.matrix @ game.dynamics)
        if np.abs(gains - policy.gains).max() < 1e-14:
            break
        policy = LinearPolicy(np.asarray(gains, np.float64), scales)
    return policy


def random_linear_quadratic_game(
    rng: np.random.Generator, *, agents: int = 3, numbers: int = 2, states: int = 3
) -> LinearQuadraticGame:
    """A game with coupled actions whose uncontrolled state stays bounded."""
    dynamics = rng.normal(size=(states, states))
    dynamics *= 0.9 / np.abs(np.linalg.eigvals(dynamics)).max()
    width = agents * numbers
    return LinearQuadraticGame(
        dynamics=dynamics,
        control=0.4 * rng.normal(size=(states, width)),
        state_cost=_positive(rng, states),
        action_cost=_positive(rng, width) + 0.2 * np.eye(width),
        noise=0.05 * _positive(rng, states),
        discount=0.9,
        agents=agents,
    )


def random_linear_policy(rng: np.random.Generator, game: LinearQuadraticGame) -> LinearPolicy:
    """Random gains, made smaller until the values are finite, and random scales."""
    width = game.control.shape[1]
    gains = 0.2 * rng.normal(size=(width, len(game.dynamics)))
    scales = rng.uniform(0.3, 0.6, size=(game.agents, width // game.agents))
    while not _contracts(game.dynamics + game.control @ gains):
        gains = gains / 2
    return LinearPolicy(gains, scales)


def linear_quadratic_arguments(
    solution: LinearQuadraticSolution,
    behaviour: LinearPolicy,
    state: Floats,
    action: Floats,
    bootstrap: Bootstrap,
    rng: np.random.Generator,
    *,
    steps: int,
    environments: int,
) -> dict[str, Any]:
    """What `gpae.estimators.gpae` is given: E rollouts of T rows from one state and joint action, exact critic values.

    Args:
      solution: of the policy that is evaluated.
      behaviour: draws all actions but the first.
      state: [S].
      action: [N, D].
      bootstrap: what stands for the value of what follows.
      rng: draws actions and noise.
      steps: T.
      environments: E.
    """
    game, policy = solution.game, solution.policy
    root = np.linalg.cholesky(game.noise)
    states = [np.broadcast_to(state, (environments, len(state)))]
    actions = [np.broadcast_to(action, (environments, *action.shape))]
    for _ in range(steps):
        noise = rng.normal(size=states[0].shape) @ root.T
        states.append(game.mean_step(states[-1], actions[-1]) + noise)
        actions.append(behaviour.draw(states[-1], rng))
    s, a = np.stack(states), np.stack(actions)
    log_ratios = policy.log_densities(s, a) - behaviour.log_densities(s, a)
    values = solution.eq(s, a)
    if bootstrap == "expected":
        following = np.broadcast_to(solution.v(s)[..., None], values.shape)
    elif bootstrap == "weighted":
        following = np.exp(log_ratios.sum(-1, keepdims=True) - log_ratios) * values
    else:
        following = values if bootstrap == "sampled" else solution.eq(s, policy.draw(s, rng))
    ends = np.zeros((steps, environments), bool)
    return {
        "rewards": game.reward(s[:-1], a[:-1]),
        "values": values[:-1],
        "next_values": following[1:],
        "terminated": ends,
        "truncated": ends,
        "log_ratios": log_ratios[:-1],
    }


def _contracts(matrix: Floats) -> bool:
    return bool(np.abs(np.linalg.eigvals(matrix)).max() < 1)


def _positive(rng: np.random.Generator, size: int) -> Floats:
    root = rng.normal(size=(size, size))
    return root @ root.T / size


def _flat(actions: Floats) -> Floats:
    return actions.reshape(*actions.shape[:-2], -1)


def _form(matrix: Floats, x: Floats) -> Floats:
    """The quadratic form x' M x, [...]."""
    return np.sum((x @ matrix) * x, axis=-1)
