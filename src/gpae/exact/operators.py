r"""What the estimators aim at: the expected target as an affine map on tables EQ^i(s, a^-i).

Data are collected by mu, the tables are about pi. With f an agent's table, at a joint step (s, a) the estimator's mean
solves

    A(s, a) = r(s, a) + gamma E[b(s')] - f(s, a^-i) + gamma E_{s', a' ~ mu}[c(s', a') A(s', a')]

with c the trace and b(s') the mean of the bootstrap. The critic is drawn towards

    (T f)(s, a^-i) = f(s, a^-i) + sum_{a^i} mu^i(a^i | s) w(s, a) A(s, a)

with w the weight of the own action. T is affine, T f = M f + h: `operator` builds M and h, its fixed point is where
training ends, and `advantage_variance` is how far one sample is from the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias

import numpy as np

from gpae.errors import unknown_name
from gpae.estimators import BOOTSTRAPS, OWN_WEIGHTS, Bootstrap, OwnWeight, Trace
from gpae.exact.games import Floats, TeamGame
from gpae.exact.solve import average_own, by_agent, joint, lift, log_ratios, score_average, solve

ExactTrace: TypeAlias = Trace | Literal["per-decision"]
"""The estimators' traces, and the untruncated one, lambda rho, which they make of others with eta infinite."""
TRACES: tuple[ExactTrace, ...] = ("none", "st", "it", "dt", "per-decision", "others")


@dataclass(frozen=True)
class Form:
    """One form of the estimator. The defaults are the paper's."""

    trace: ExactTrace = "dt"
    """none: lambda; st: lambda min(1, rho); it: lambda min(1, rho^i); dt: lambda min(1, rho^i min(eta, rho^-i));
    per-decision: lambda rho; others: lambda min(own_cap, rho^i) min(eta, rho^-i)."""
    bootstrap: Bootstrap = "sampled"
    """What follows a step. sampled: f(s', a'^-i) with the a' that was taken; weighted: rho^-i times that; resampled:
    f(s', a^-i) with a fresh draw from pi; expected: its mean over pi^-i. The last three have the same mean."""
    own_weight: OwnWeight = "truncated"
    """Weight of the advantage in the critic's target. truncated: min(1, rho^i); exact: min(own_cap, rho^i)."""
    lambda_: float = 0.8
    eta: float = 1.05
    own_cap: float = inf

    def __post_init__(self):
        for kind, known in (("trace", TRACES), ("bootstrap", BOOTSTRAPS), ("own_weight", OWN_WEIGHTS)):
            if getattr(self, kind) not in known:
                raise unknown_name(kind, getattr(self, kind), known)
        if not 0 <= self.lambda_ <= 1:
            raise ValueError(f"lambda_ must be in [0, 1], got {self.lambda_}")
        for name in ("eta", "own_cap"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Operator:
    """The affine map T f = matrix f + offset on flat tables of S A^(N-1) entries."""

    matrix: Floats
    offset: Floats

    def __call__(self, table: Floats) -> Floats:
        """T applied to a table of any shape."""
        return (self.matrix @ table.reshape(-1) + self.offset).reshape(table.shape)

    @property
    def fixed_point(self) -> Floats:
        """The flat table with T f = f."""
        return np.asarray(np.linalg.solve(np.eye(len(self.offset)) - self.matrix, self.offset))

    @property
    def max_norm(self) -> float:
        """Contraction modulus in the maximum norm: the largest absolute row sum."""
        return float(np.abs(self.matrix).sum(1).max())

    @property
    def spectral_radius(self) -> float:
        """Asymptotic contraction modulus in any norm: the largest absolute eigenvalue."""
        return float(np.abs(np.linalg.eigvals(self.matrix)).max())


class Estimator:
    """The means that `operator`, `expected_advantage` and `advantage_variance` are made of, for one agent."""

    def __init__(self, game: TeamGame, policy: Floats, behaviour: Floats, agent: int, form: Form):
        self.game, self.agent, self.form = game, agent, form
        ratios = np.exp(log_ratios(game, policy, behaviour))
        own, others = ratios[agent], np.prod(np.delete(ratios, agent, axis=0), axis=0)
        self.own_behaviour = by_agent(game, behaviour)[agent]
        self.behaviour = joint(game, behaviour)
        self.policy = joint(game, policy)
        self.ratio_of_others = others
        self.traces = trace(own, others, form)
        self.weights = np.minimum(own, 1.0 if form.own_weight == "truncated" else form.own_cap)

    def bootstrap(self, table: Floats) -> Floats:
        """Mean of the bootstrap in each state, [S]; `table` on (s, a^-i)."""
        lifted = lift(self.game, self.agent, table)
        weights = self.behaviour if self.form.bootstrap == "sampled" else self.policy
        return (weights * lifted).sum(1)

    def future(self, errors: Floats, bootstrap: Floats, steps: int | None) -> Floats:
        """Mean of bootstrap and traced advantage in each state, f' with A = r - f + gamma P f', [S, ...].

        The traced part solves l = E_mu[c (r - f)] + gamma E_mu[c P (b + l)].

        Args:
          errors: E_mu[c (r - f)], [S, ...].
          bootstrap: b, [S, ...].
          steps: length of the window; None for an endless one.
        """
        step = self.game.discount * np.einsum("sj,sjt->st", self.behaviour * self.traces, self.game.continues)
        if steps is None:
            return bootstrap + np.linalg.solve(np.eye(len(step)) - step, errors + step @ bootstrap)
        traced = np.zeros_like(bootstrap)
        for _ in range(steps - 1):
            traced = errors + step @ (bootstrap + traced)
        return bootstrap + traced


def trace(own: Floats, others: Floats, form: Form) -> Floats:
    """Trace coefficients from the own ratio and the product of the others'."""
    team = own * others
    return (
        form.lambda_
        * {
            "none": lambda: np.ones_like(team),
            "st": lambda: np.minimum(1, team),
            "it": lambda: np.minimum(1, own),
            "dt": lambda: np.minimum(1, own * np.minimum(form.eta, others)),
            "per-decision": lambda: team,
            "others": lambda: np.minimum(form.own_cap, own) * np.minimum(form.eta, others),
        }[form.trace]()
    )


def expected_advantage(
    game: TeamGame,
    policy: Floats,
    behaviour: Floats,
    agent: int,
    table: Floats,
    form: Form,
    steps: int | None = None,
) -> Floats:
    """Mean of the estimator at every (s, a) with `table` in the critic's place, [S, J]; 0 in terminal states.

    Args:
      game: the game.
      policy: pi, [N, S, A].
      behaviour: mu, [N, S, A].
      agent: i.
      table: f(s, a^-i), [S, A^(N-1)] or flat.
      form: which estimator.
      steps: length of the window; None for an endless one.
    """
    estimator = Estimator(game, policy, behaviour, agent, form)
    known = np.where(game.terminal[:, None], 0.0, game.rewards - lift(game, agent, table))
    errors = (estimator.behaviour * estimator.traces * known).sum(1)
    future = estimator.future(errors, estimator.bootstrap(table), steps)
    return known + game.discount * game.continues @ future


def operator(
    game: TeamGame, policy: Floats, behaviour: Floats, agent: int, form: Form, steps: int | None = None
) -> Operator:
    """The expected target of an agent's critic, as a map on its tables (formula at the head of this module).

    Args:
      game: the game.
      policy: pi, [N, S, A].
      behaviour: mu, [N, S, A], with support where pi has it.
      agent: i.
      form: which estimator.
      steps: length of the window; None for an endless one.
    """
    estimator = Estimator(game, policy, behaviour, agent, form)
    states, columns = game.states, game.actions ** (game.agents - 1)
    rewards = np.where(game.terminal[:, None], 0.0, game.rewards)
    lives = np.repeat(~game.terminal, columns)

    def reads(weights: Floats) -> Floats:
        """The matrix of f -> sum_a weights(s, a) f(s, a^-i), [S, S A^(N-1)]."""
        matrix = np.zeros((states, states, columns))
        matrix[np.arange(states), np.arange(states)] = weights @ game.others_sums[agent]
        return matrix.reshape(states, -1)

    def with_offset(matrix: Floats, offset: Floats) -> Floats:
        return np.concatenate([matrix, offset[:, None]], axis=1)

    # Affine maps of f, one row per state; the last column is what does not depend on f.
    traced = estimator.behaviour * estimator.traces
    errors = with_offset(-reads(traced), (traced * rewards).sum(1))
    bootstrap = with_offset(
        reads(estimator.behaviour if form.bootstrap == "sampled" else estimator.policy), np.zeros(states)
    )
    future = estimator.future(errors, bootstrap, steps)

    own = estimator.own_behaviour * estimator.weights
    own_sums = (own @ game.others_sums[agent]).reshape(-1)
    onward = np.einsum("sj,sjt,jk->skt", own, game.continues, game.others_sums[agent], optimize=True)
    targets = game.discount * onward.reshape(-1, states) @ future
    offset = targets[:, -1] + average_own(game, agent, own, rewards).reshape(-1)
    # A terminal state is never visited: its entries are 0 and stay so.
    return Operator(matrix=targets[:, :-1] + np.diag(lives * (1 - own_sums)), offset=offset)


def advantage_variance(
    game: TeamGame, policy: Floats, behaviour: Floats, agent: int, table: Floats, form: Form
) -> Floats:
    r"""Variance of one sample of the estimator over an endless window, given (s, a), [S, J].

    From the second moment, which satisfies a linear recursion of its own. Where that does not converge from some state,
    as products of unbounded ratios may, it is infinite for all that are not terminal.
    """
    estimator = Estimator(game, policy, behaviour, agent, form)
    gamma, chain = game.discount, game.continues
    mean = expected_advantage(game, policy, behaviour, agent, table, form)
    mu, c, read = estimator.behaviour, estimator.traces, lift(game, agent, table)
    known = np.where(game.terminal[:, None], 0.0, game.rewards - read)  # what (s, a) fixes

    first = estimator.bootstrap(table)
    traced = (mu * c * mean).sum(1)
    if form.bootstrap in ("sampled", "weighted"):  # drawn with the action whose trace stands beside it
        draw = read * estimator.ratio_of_others if form.bootstrap == "weighted" else read
        second, cross = (mu * draw**2).sum(1), (mu * draw * c * mean).sum(1)
    else:
        second = (estimator.policy * read**2).sum(1) if form.bootstrap == "resampled" else first**2
        cross = first * traced
    moment = known**2 + 2 * gamma * known * (chain @ (first + traced)) + gamma**2 * chain @ (second + 2 * cross)

    weights = mu * c**2
    step = gamma**2 * np.einsum("sj,sjt->st", weights, chain)
    if np.abs(np.linalg.eigvals(step)).max() >= 1:
        return np.where(game.terminal[:, None], 0.0, inf) * np.ones_like(mean)
    later = np.linalg.solve(np.eye(game.states) - step, (weights * moment).sum(1))
    return np.maximum(moment + gamma**2 * chain @ later - mean**2, 0.0)


def surrogate_gradient(
    game: TeamGame, policy: Floats, behaviour: Floats, states: Floats, *, others_cap: float | None = None
) -> Floats:
    r"""Gradient of the actor's surrogate at theta = theta_old with exact advantages, in softmax logits, [N, S, A].

        sum_s states(s) E_{a ~ mu}[rho^i grad log pi^i(a^i | s) A^i(s, a) weight],   weight 1 or min(others_cap, rho^-i)

    Args:
      game: the game.
      policy: pi, [N, S, A].
      behaviour: mu, [N, S, A].
      states: weight of each state, [S].
      others_cap: cap on the others' product of ratios, infinite for none; None leaves their product out.
    """
    ratios = np.exp(log_ratios(game, policy, behaviour))
    weights = states[:, None] * joint(game, behaviour) * ratios
    if others_cap is not None:
        others = np.stack([np.prod(np.delete(ratios, i, axis=0), axis=0) for i in range(game.agents)])
        weights = weights * np.minimum(others_cap, others)
    return score_average(game, policy, weights, solve(game, policy).advantages)
