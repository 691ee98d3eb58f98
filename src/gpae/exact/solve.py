"""Exact values, advantages, state distributions and policy gradients of a `TeamGame`, by linear solves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpae.exact.games import Floats, TeamGame, check_distribution


@dataclass(frozen=True)
class Solution:
    """What a joint policy is worth."""

    q: Floats
    """Q(s, a), [S, J]."""
    v: Floats
    """V(s), [S]."""
    eq: Floats
    """EQ^i(s, a^-i) = sum_{a^i} pi^i(a^i | s) Q(s, a), [N, S, A^(N-1)]."""
    advantages: Floats
    """A^i(s, a) = Q(s, a) - EQ^i(s, a^-i), [N, S, J]."""


def joint(game: TeamGame, policy: Floats) -> Floats:
    """Probability of each joint action, [S, J].

    Raises:
      ValueError: the policy is not [N, S, A], or its rows are no distributions.
    """
    return np.prod(by_agent(game, policy), axis=0)


def by_agent(game: TeamGame, policy: Floats) -> Floats:
    """pi^i(a^i | s) at every joint action, [N, S, J]; the factors of `joint`, and its errors."""
    shape = (game.agents, game.states, game.actions)
    if np.shape(policy) != shape:
        raise ValueError(f"policy must have shape {shape}, got {np.shape(policy)}")
    check_distribution("policy", policy)
    return policy @ game.own_sums.transpose(0, 2, 1)


def log_ratios(game: TeamGame, policy: Floats, behaviour: Floats) -> Floats:
    """The logs of pi^i / mu^i at every joint action, [N, S, J]; -inf where only pi^i is 0.

    Raises:
      ValueError: the behaviour gives no probability to an action that the policy takes.
    """
    new, old = by_agent(game, policy), by_agent(game, behaviour)
    if ((new > 0) & (old == 0)).any():
        agent, state, action = np.argwhere((np.asarray(policy) > 0) & (np.asarray(behaviour) == 0))[0]
        never = f"agent {agent} never takes action {action} in state {state}"
        raise ValueError(f"behaviour must support the policy: {never}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(old > 0, np.log(new) - np.log(old), 0.0)  # where mu is 0, nothing is ever sampled


def lift(game: TeamGame, agent: int, table: Floats) -> Floats:
    """A table on (s, a^-i), [S, A^(N-1)] or flat, read at every (s, a), [S, J]."""
    return table.reshape(game.states, -1)[:, game.others[agent]]


def average_own(game: TeamGame, agent: int, weights: Floats, x: Floats) -> Floats:
    """sum_{a^i} weights(s, a) x(s, a) as a table on (s, a^-i), [S, A^(N-1)]."""
    return (weights * x) @ game.others_sums[agent]


def solve(game: TeamGame, policy: Floats) -> Solution:
    r"""Q, V, EQ^i and A^i of a joint policy.

        V = (I - gamma P_pi)^-1 r_pi,   Q = r + gamma P V

    Terminal states have value 0.

    Raises:
      ValueError: the policy has the wrong shape or its rows are no distributions.
    """
    factors = by_agent(game, policy)
    pi = np.prod(factors, axis=0)
    rewards = np.where(game.terminal[:, None], 0.0, game.rewards)
    chain = np.einsum("sj,sjt->st", pi, game.continues)
    v = np.linalg.solve(np.eye(game.states) - game.discount * chain, (pi * rewards).sum(1))
    q = rewards + game.discount * game.continues @ v
    eq = np.stack([average_own(game, i, factors[i], q) for i in range(game.agents)])
    advantages = np.stack([q - lift(game, i, eq[i]) for i in range(game.agents)])
    return Solution(q=q, v=v, eq=eq, advantages=advantages)


def expected_return(game: TeamGame, policy: Floats) -> float:
    """Mean of V over the start distribution."""
    return float(game.start @ solve(game, policy).v)


def discounted_states(game: TeamGame, policy: Floats) -> Floats:
    """sum_t gamma^t P(s_t = s), not normalised, [S]."""
    chain = np.einsum("sj,sjt->st", joint(game, policy), game.continues)
    return np.linalg.solve(np.eye(game.states) - game.discount * chain.T, game.start)


def stationary_states(game: TeamGame, policy: Floats) -> Floats:
    """Long-run frequency of each state where an ended episode is followed by a new one, [S]; 0 for terminal states."""
    chain = np.einsum("sj,sjt->st", joint(game, policy), game.continues)
    chain = chain + np.outer(1 - chain.sum(1), game.start)
    # One equation of the balance is redundant; the sum takes its place.
    equations = np.vstack([(chain.T - np.eye(game.states)), np.ones(game.states)])
    frequencies = np.linalg.lstsq(equations, np.append(np.zeros(game.states), 1.0))[0]
    return np.where(game.terminal, 0.0, np.maximum(frequencies, 0.0))


def policy_gradient(game: TeamGame, policy: Floats) -> Floats:
    r"""Gradient of the expected return in the logits of softmax policies, [N, S, A].

        dJ / dtheta^i_{s,a} = d(s) pi^i(a | s) (E[Q | s, a^i = a] - V(s)),   d = `discounted_states`

    The advantages A^i serve as well as Q: they differ by what the agent's own action does not change.
    """
    weights = discounted_states(game, policy)[:, None] * joint(game, policy)
    return score_average(game, policy, weights, solve(game, policy).advantages)


def score_average(game: TeamGame, policy: Floats, weights: Floats, advantages: Floats) -> Floats:
    r"""sum_{s,a} weights(s, a) grad_theta log pi^i(a^i | s) advantages^i(s, a), softmax logits, [N, S, A].

    Args:
      game: the game.
      policy: [N, S, A].
      weights: [S, J], or [N, S, J].
      advantages: [N, S, J].
    """
    credit = (weights * advantages) @ game.own_sums
    return credit - policy * credit.sum(-1, keepdims=True)
