r"""Teams whose reward is the mean of what each achieves: exact values, and the signal-to-noise ratio of every gradient.

The environment is `gpae.envs.teamwork`; docs/credit-ladder.md derives what stands here. Agent i is right, h^i = 1, with
probability p^i; x^i = h^i - p^i. One number per policy is enough for a law: all p equal, no interaction, on-policy.

    advantage of agent i at step 0 = c (x^i_0 + sum_{l>0} u_l x^i_l + sum_l w_l sum_{j != i} x^j_l) + reward noise

with c = gamma^delay / (N L). What an estimator leaves of the others is in w, of the agent's own future in u.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Literal, get_args

import numpy as np

from gpae.errors import unknown_name
from gpae.exact.games import Floats

Estimator = Literal["state", "others", "others-expected", "one-step", "action-values", "individual"]
"""Whose gradient:

    state             V(s) for all: MAPPO, and IPPO where observations tell as much of the value
    others            EQ^i(s, a^-i), the actions taken bootstrap: GPAE as published
    others-expected   EQ^i(s, a^-i) before, V(s) after a step: GPAE with the expected bootstrap
    one-step          others with lambda 0: COMA in the form of the paper
    action-values     Q^i(s, a^-i, .) alone, no reward at all: COMA of 2018
    individual        V^i of the agent's own reward, h^i / L: IPPO with individual rewards
"""


def worth(achieved: Floats, interaction: float = 0.0) -> Floats:
    """f(h) = mean_i h^i (1 - k + k h^(i+1)); `achieved` [..., N], probabilities of being right give its mean."""
    return np.mean(achieved * (1 - interaction + interaction * np.roll(achieved, -1, axis=-1)), axis=-1)


@dataclass(frozen=True)
class Team:
    """What the values depend on."""

    agents: int = 8
    """N."""
    length: int = 8
    """L, steps at which a task is done."""
    cues: int = 2
    """Tasks of an agent."""
    actions: int = 4
    """A."""
    alike: bool = False
    """Whether all agents have the same tasks."""
    shared: bool = True
    """Whether agents share parameters: then those with the same task share the policy for it. Tasks of one's own have a
    policy each in either case."""
    noise: float = 0.0
    """Standard deviation of the reward's noise, in units of f / L."""
    delay: int = 0
    """Steps from an action to its reward."""
    interaction: float = 0.0
    """k, the share of an achievement that needs the neighbour's."""
    gamma: float = 0.99
    """Discount."""

    @property
    def sharers(self) -> float:
        """G: agents whose present task is learnt by the same logit, on average."""
        return max(self.agents / self.cues, 1.0) if self.alike and self.shared else 1.0

    @property
    def practice(self) -> float:
        """How much of the experience a logit learns from."""
        return 1.0 if self.alike and self.shared else 1.0 / self.cues


def pending_value(team: Team, pending: Floats) -> float:
    """What is done and not paid yet, [N, delay], the oldest last: the oldest is paid by the step that comes."""
    delays = np.arange(team.delay)[::-1]
    return float(team.gamma**delays @ worth(np.moveaxis(pending, -1, 0), team.interaction)) / team.length


def values(
    team: Team, right: Floats, cues: np.ndarray, achieved: Floats, time: int, pending: Floats
) -> tuple[float, float, Floats, Floats]:
    """Q, V, EQ^i and A^i in closed form, at one of the L steps.

    f is linear in every h^i, so a mean over independent agents is f of their means.

    Args:
      team: its options.
      right: probability of being right, [N, cues].
      cues: present tasks, [N].
      achieved: h of the actions taken, [N], each 0 or 1.
      time: steps made, below L.
      pending: not paid yet, [N, delay].

    Returns:
      Q(s, a), V(s), EQ^i(s, a^-i) [N], A^i(s, a) [N].
    """
    k, agents = team.interaction, np.arange(team.agents)
    left = team.gamma ** np.arange(1, team.length - time)
    later = pending_value(team, pending) + team.gamma**team.delay / team.length * left.sum() * worth(right.mean(1), k)
    now = right[agents, cues]
    scale = team.gamma**team.delay / team.length

    def value(h: Floats) -> Floats:
        return later + scale * worth(h, k)

    own_out = np.where(np.eye(team.agents, dtype=bool), now, achieved)  # row i: h^i replaced by its mean
    q, eq = value(achieved), value(own_out)
    return float(q), float(value(now)), eq, q - eq


# -- signal and noise ----------------------------------------------------------------------------------------------


def coefficients(
    estimator: Estimator, rows: int, *, gamma: float, lambda_: float, fit: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """What an estimator's advantage is made of, over `rows` steps, the present one first.

    Args:
      estimator: which.
      rows: steps that are left, at least 1.
      gamma: discount.
      lambda_: as in GAE.
      fit: rho, how much of the others' effect the critic knows: 1 exact, 0 no better than V(s). Of "action-values" that
        of the own effect as well.

    Returns:
      u: coefficient of the agent's own x_l; w: of each other's x_l; e: of the reward's noise. Each [rows].

    Raises:
      UserError: an unknown estimator.
    """
    if estimator not in get_args(Estimator):
        raise unknown_name("estimator", estimator, get_args(Estimator))
    first = np.eye(1, rows)[0]
    if estimator == "action-values":
        return fit * first, 0 * first, 0 * first
    far: Floats = np.power(gamma * (0.0 if estimator == "one-step" else lambda_), np.arange(rows), dtype=np.float64)
    if estimator == "individual":
        return far, 0 * far, far
    known = {"state": 0.0}.get(estimator, fit)
    others: Floats = (1 - known) * far
    if estimator in ("others", "one-step"):
        # The actions taken bootstrap: what the baseline removes from step l comes back through the value before it.
        others[1:] += known * gamma * far[:-1]
    return far, others, far


def error_coefficients(estimator: Estimator, rows: int, *, gamma: float, lambda_: float) -> Floats:
    """How an error of the critic at step l, drawn anew for each joint action, comes into the present advantage, [rows].

    With the actions taken as bootstrap the same error stands behind one step and before the next, and all but
    gamma (1 - lambda) of it cancels. An expected bootstrap has no such luck: what it takes from the others' noise it
    gives back in the critic's errors. Of "state" and "individual" there is no error that depends on actions.
    """
    first = np.eye(1, rows)[0]
    if estimator in ("state", "individual"):
        return 0 * first
    if estimator in ("one-step", "others"):
        lambda_ = 0.0 if estimator == "one-step" else lambda_
        far = np.power(gamma * lambda_, np.arange(rows), dtype=np.float64)
        return np.concatenate([first[:1], gamma * (1 - lambda_) * far[:-1]])
    return first if estimator == "action-values" else np.power(gamma * lambda_, np.arange(rows), dtype=np.float64)


def error_growth(estimator: Estimator, rows: int, *, gamma: float, lambda_: float) -> float:
    """Error of a critic's targets over the error of the critic that made them (standard deviations).

    Above 1, a critic that fits its targets one by one gets worse from update to update, without end.
    """
    return float(np.sqrt(np.sum(error_coefficients(estimator, rows, gamma=gamma, lambda_=lambda_)[1:] ** 2)))


@dataclass(frozen=True)
class Gradient:
    """Mean and variance, over rollouts, of one sample of the gradient in the logit of the right action."""

    signal: float
    """Mean."""
    variance: float
    """Variance."""

    def ratio(self, samples: float) -> float:
        """Signal over standard deviation of the mean of so many independent samples; infinite without noise."""
        return abs(self.signal) * sqrt(samples / self.variance) if self.variance > 0 else float("inf")


@dataclass(frozen=True)
class Law:
    """Signal and noise of one estimator in one team, as functions of p, the probability that an agent is right.

    Raises:
      UserError: an unknown estimator.
      ValueError: a team with interaction, for which this is no law.
    """

    team: Team
    """Its options."""
    estimator: Estimator
    """Whose gradient."""
    lambda_: float
    """As in GAE."""
    fit: float = 1.0
    """How much of the others' effect the critic knows, see `coefficients`."""
    error: float = 0.0
    """Standard deviation of the critic's error, drawn anew for each joint action, in units of the reward."""
    rows: int | None = None
    """Steps that are left; None: all L."""

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise unknown_name("estimator", self.estimator, get_args(Estimator))
        if self.team.interaction:
            raise ValueError("the law of the gradient is for teams without interaction")

    @property
    def scale(self) -> float:
        """The scale c: what one agent's achievement adds to the return, the team's or, of "individual", its own."""
        parts = 1 if self.estimator == "individual" else self.team.agents
        return self.team.gamma**self.team.delay / (parts * self.team.length)

    @property
    def _coefficients(self) -> tuple[Floats, Floats, Floats]:
        rows, gamma = self.rows or self.team.length, self.team.gamma
        return coefficients(self.estimator, rows, gamma=gamma, lambda_=self.lambda_, fit=self.fit)

    @property
    def _noise(self) -> float:
        """Variance that comes into an advantage from the reward's noise and from the critic's error."""
        rows, gamma = self.rows or self.team.length, self.team.gamma
        errors = error_coefficients(self.estimator, rows, gamma=gamma, lambda_=self.lambda_)
        of_rewards = (self.team.noise / self.team.length) ** 2 * np.sum(self._coefficients[2] ** 2)
        return float(of_rewards + self.error**2 * np.sum(errors**2))

    def gradient(self, p: float) -> Gradient:
        """Mean and variance of sum_i x^i_0 A^i_0, over the G agents that share the logit (`Team.sharers`)."""
        n, group, c = self.team.agents, self.team.sharers, self.scale
        u, w, _ = self._coefficients
        s2, m4 = moments(p)
        later = s2 * c**2 * (np.sum(u[1:] ** 2) + (n - 1) * np.sum(w[1:] ** 2))
        own = group * u[0] ** 2 * (m4 - s2**2)
        others = w[0] ** 2 * s2**2 * group * (2 * (group - 1) + (n - group))
        variance = c**2 * (own + others) + group * s2 * (later + self._noise)
        return Gradient(signal=float(group * c * u[0] * s2), variance=float(variance))

    def advantage_variance(self, p: float) -> float:
        """Variance of one agent's advantage."""
        u, w, _ = self._coefficients
        s2, _ = moments(p)
        others = (self.team.agents - 1) * np.sum(w**2)
        return float(self.scale**2 * s2 * (np.sum(u**2) + others) + self._noise)


def moments(p: float) -> tuple[float, float]:
    """Second and fourth moment of x = h - p."""
    return p * (1 - p), p * (1 - p) * ((1 - p) ** 3 + p**3)


# -- from gradients to steps ---------------------------------------------------------------------------------------


def predicted_steps(law: Law, *, batch: int, speed: float, goal: float = 0.9, most: int = 10_000_000) -> float:
    r"""Environment steps until an agent is right with probability `goal`, from even play.

    Adam divides a gradient by its root mean square, so an update moves a logit by `speed` r / sqrt(1 + r^2), where r is
    the signal-to-noise ratio of the batch's gradient: all of it where r is large, in proportion to r where it is small.
    The law knows nothing of networks, of clipping, or of what a critic has yet to learn: `speed` is fitted to one cell.

    Args:
      law: of the gradient.
      batch: environment steps of an update.
      speed: logits per update without noise.
      goal: of the optimum.
      most: the answer is infinite beyond.
    """
    team, steps = law.team, 0
    logit, end = -log(team.actions - 1), log(goal / (1 - goal))
    while logit < end:
        r = law.gradient(1 / (1 + exp(-logit))).ratio(batch * team.practice)
        logit += speed * (1.0 if r == float("inf") else r / sqrt(1 + r * r))
        steps += batch
        if steps > most:
            return float("inf")
    return float(steps)
