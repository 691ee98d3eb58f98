"""The statements that the estimators rest on, each checked on finite games that are solved exactly.

1 to 4 are about the operators of `gpae.exact.operators`; 5 says that `gpae.estimators` has those operators as its mean;
6 is about real-valued actions.
The derivations are in `docs/theory.md` and `docs/theory-off-policy.md`; the theorems are those of Kim et al. 2026
(arXiv 2603.02654).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from gpae import estimators
from gpae.estimators import BOOTSTRAPS, Bootstrap, OwnWeight, Trace
from gpae.exact.cases import CORRECTED, EXACT, Case, make_case
from gpae.exact.games import Floats, random_game
from gpae.exact.linear_quadratic import (
    linear_quadratic_arguments,
    random_linear_policy,
    random_linear_quadratic_game,
    solve_linear_quadratic,
)
from gpae.exact.operators import TRACES, Form, expected_advantage, operator
from gpae.exact.solve import discounted_states, joint, policy_gradient, score_average, solve
from gpae.exact.trajectories import (
    Rollout,
    draw_actions,
    enumerate_trajectories,
    estimator_arguments,
    sample_trajectories,
)
from gpae.types import Targets

FLOAT32 = 1e-5
"""Tolerance, relative to the largest value, of sums of the estimators' float32 results."""
FALSE_ALARMS = 1e-3
"""How often the whole z-test would fail a correct estimator, over seeds."""
CHUNK = 32_768
"""Environments that the sample estimators are given at once."""
BIASED_TRACES: tuple[Trace, ...] = ("none", "st", "it", "dt")
"""Traces of at most lambda, which move the fixed point off-policy."""


@dataclass(frozen=True)
class Statement:
    """Something that should hold, and by how much it does."""

    number: str
    claim: str
    checks: int
    """How many comparisons were made."""
    worst: float
    """The largest deviation, or excess over a bound, seen."""
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the worst deviation is a number within the tolerance."""
        return self.checks > 0 and bool(self.worst <= self.tolerance)


def on_policy_contraction(cases: Iterable[Case], lambda_: float = 0.8) -> Statement:
    """On-policy the fixed point is EQ^i (Theorem 4.1), and the modulus gamma (1 - lambda) / (1 - gamma lambda).

    The theorem claims a contraction by gamma. The modulus checked here is this project's and sharper: with
    T = (1 - lambda) sum_n lambda^n T_n, T_n the target over n + 1 steps, which contracts by gamma^(n + 1), the sum is
    gamma (1 - lambda) / (1 - gamma lambda). It is reached in the max-norm where no episode ends; where some do, it is
    a bound.

    Args:
      cases: games and policies; the behaviour is not used.
      lambda_: in [0, 1].
    """
    errors = []
    for case in cases:
        game, eq = case.game, solve(case.game, case.policy).eq
        modulus = game.discount * (1 - lambda_) / (1 - game.discount * lambda_)
        for agent in range(game.agents):
            for trace in TRACES:
                form = Form(trace=trace, lambda_=lambda_)
                on_policy = operator(game, case.policy, case.policy, agent, form)
                errors.append(np.abs(on_policy.fixed_point - eq[agent].reshape(-1)).max())
                excess = on_policy.max_norm - modulus
                errors.append(max(excess, 0) if game.terminal.any() else abs(excess))
    claim = "on-policy: fixed point EQ^i, modulus g(1-l)/(1-gl) in the max-norm (at most, where episodes end)"
    return Statement("1", claim, len(errors), float(max(errors)), EXACT)


def on_policy_policy_gradient(cases: Iterable[Case], rng: np.random.Generator) -> Statement:
    """Theorem 4.2: with lambda = 1 and any table f, E[A | s, a] = Q - f and the policy gradient is exact."""
    errors = []
    for case in cases:
        game, policy = case.game, case.policy
        q = solve(game, policy).q
        tables = rng.normal(size=(game.agents, game.states, game.actions ** (game.agents - 1)))
        weights = discounted_states(game, policy)[:, None] * joint(game, policy)
        for trace in TRACES:
            form = Form(trace=trace, lambda_=1.0)
            advantages = np.stack(
                [expected_advantage(game, policy, policy, i, tables[i], form) for i in range(game.agents)]
            )
            read = np.stack([tables[i][:, game.others[i]] for i in range(game.agents)])
            lives = ~game.terminal
            errors.append(np.abs(advantages - (q - read))[:, lives].max())
            gradient = score_average(game, policy, weights, advantages)
            errors.append(np.abs(gradient - policy_gradient(game, policy)).max())
    claim = "on-policy, lambda 1, any table f: E[A|s,a] = Q - f, and the policy gradient is exact"
    return Statement("2", claim, len(errors), float(max(errors)), EXACT)


def off_policy_bounds(cases: Iterable[Case], own_weight: OwnWeight) -> Statement:
    """Max-norm moduli with the sampled bootstrap: Theorem 4.3 as far as it goes.

    The theorem claims gamma. That holds for the own weight "exact"; for the paper's "truncated" one only the larger
    bound 1 - (1 - gamma) min_s sum_a min(pi^i, mu^i) does (`docs/theory-off-policy.md`).
    """
    excesses = []
    for case in cases:
        game = case.game
        for agent in range(game.agents):
            overlap = np.minimum(case.policy[agent], case.behaviour[agent]).sum(-1)[~game.terminal].min()
            bound = game.discount if own_weight == "exact" else 1 - (1 - game.discount) * overlap
            for trace in BIASED_TRACES:
                form = Form(trace=trace, own_weight=own_weight)
                excesses.append(operator(game, case.policy, case.behaviour, agent, form).max_norm - bound)
    bound_text = {"exact": "gamma", "truncated": "1 - (1 - gamma) min_s sum_a min(pi^i, mu^i)"}[own_weight]
    number = {"exact": "3a", "truncated": "3b"}[own_weight]
    claim = f"off-policy, none/st/it/dt, sampled bootstrap, own weight {own_weight}: modulus at most {bound_text}"
    return Statement(number, claim, len(excesses), float(max(excesses)), EXACT)


def corrected_forms() -> list[Form]:
    """Every form whose fixed point is EQ^i: lambda rho^i min(eta, rho^-i), own weight rho^i, a correct bootstrap."""
    forms = [replace(CORRECTED, eta=eta) for eta in (1.0, 1.05, 2.0)]
    forms += [replace(CORRECTED, bootstrap=bootstrap) for bootstrap in ("resampled", "expected")]
    return [*forms, replace(CORRECTED, trace="per-decision")]  # eta infinite


def corrected_fixed_point(cases: Iterable[Case], forms: Sequence[Form] | None = None) -> Statement:
    """The fixed point of the corrected forms is EQ^i, whatever the behaviour."""
    errors = []
    for case in cases:
        eq = solve(case.game, case.policy).eq
        for agent in range(case.game.agents):
            for form in corrected_forms() if forms is None else forms:
                found = operator(case.game, case.policy, case.behaviour, agent, form).fixed_point
                errors.append(np.abs(found - eq[agent].reshape(-1)).max())
    claim = "off-policy, others-truncated or per-decision, own weight rho^i, corrected bootstrap: fixed point EQ^i"
    return Statement("4a", claim, len(errors), float(max(errors)), EXACT)


def corrected_contraction(cases: Iterable[Case]) -> Statement:
    """The corrected forms contract by gamma in the max-norm."""
    excesses = [
        operator(case.game, case.policy, case.behaviour, agent, form).max_norm - case.game.discount
        for case in cases
        for agent in range(case.game.agents)
        for form in corrected_forms()
    ]
    return Statement("4b", "the same: modulus at most gamma", len(excesses), float(max(excesses)), EXACT)


def sample_estimators_enumerated(rng: np.random.Generator, steps: int = 3) -> Statement:
    """Probability-weighted sums of `gpae.estimators.gpae` over all trajectories, against the operators."""
    errors = []
    games = [
        random_game(rng, states=2, agents=2, actions=2),
        random_game(rng, states=3, agents=2, actions=2, terminal=1),
    ]
    for game in games:
        case = make_case(game, rng, 0.5)
        tables = rng.normal(size=(2, game.states, 2))
        for bootstrap in BOOTSTRAPS:
            if bootstrap == "resampled" and game.terminal.any():
                continue  # fresh draws beside episodes that begin anew: millions of trajectories
            fresh = case.policy if bootstrap == "resampled" else None
            rollout, weights, draws = enumerate_trajectories(game, case.behaviour, steps=steps, fresh=fresh)
            arguments = estimator_arguments(game, rollout, case.policy, case.behaviour, tables, bootstrap, draws)
            chunks = _chunks(arguments)
            for form in _sampled_forms(bootstrap):
                row = _first_row(game.discount, chunks, len(weights), form)
                for agent in range(2):
                    errors.append(_distance_from_operator(case, agent, tables[agent], form, rollout, weights, row))
    claim = f"gpae.estimators over all trajectories of {steps} steps: the mean is the {steps}-step operator"
    return Statement("5a", claim, len(errors), float(max(errors)), FLOAT32)


def sample_estimators_tested(rng: np.random.Generator, steps: int = 3, environments: int = 20_000) -> Statement:
    """A z-test of sampled advantages at every (s, a), for the bounded schemes; worst z over the largest allowed."""
    game = random_game(rng, states=2, agents=3, actions=2)
    case = make_case(game, rng, 0.5)
    tables = rng.normal(size=(3, game.states, 4))
    scores: list[float] = []
    for bootstrap in BOOTSTRAPS:
        rollout = sample_trajectories(game, case.behaviour, rng, steps=steps, environments=environments)
        fresh = draw_actions(game, case.policy, rollout.next_states, rng) if bootstrap == "resampled" else None
        arguments = estimator_arguments(game, rollout, case.policy, case.behaviour, tables, bootstrap, fresh)
        chunks = _chunks(arguments)
        pairs = rollout.states[0] * 8 + rollout.actions[0]
        for trace in BIASED_TRACES:
            form = Form(trace=trace, bootstrap=bootstrap)
            advantages, _ = _first_row(game.discount, chunks, environments, form)
            for agent in range(3):
                mean = expected_advantage(game, case.policy, case.behaviour, agent, tables[agent], form, steps)
                for pair in range(mean.size):
                    sample = advantages[pairs == pair, agent]
                    error = sample.std(ddof=1) / math.sqrt(len(sample))
                    scores.append(abs(sample.mean() - mean.reshape(-1)[pair]) / error)
    allowed = NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * len(scores)))
    claim = f"gpae.estimators, bounded, sampled: z-test over all (s, a), false alarms in {FALSE_ALARMS:g} of all runs"
    return Statement("5b", claim, len(scores), max(scores), allowed)


def linear_quadratic_tested(rng: np.random.Generator, pairs: int = 6, environments: int = 20_000) -> Statement:
    """A z-test of sampled advantages at some (s, a) of games of real numbers, against the analytic A^i.

    On-policy by the paper's form; off-policy by the corrected ones, whose mean is A^i where the critic is EQ^i.
    """
    scores: list[float] = []
    for _ in range(pairs):
        game = random_linear_quadratic_game(rng)
        policy = random_linear_policy(rng, game)
        moved = replace(policy, gains=policy.gains + 0.05 * rng.normal(size=(6, 3)), scales=1.1 * policy.scales)
        solution = solve_linear_quadratic(game, policy)
        state = rng.normal(size=3)
        action = policy.draw(state, rng)
        exact = solution.advantages(state, action)
        for bootstrap in BOOTSTRAPS:
            behaviour, form = (policy, Form()) if bootstrap == "sampled" else (moved, CORRECTED)
            arguments = linear_quadratic_arguments(
                solution, behaviour, state, action, bootstrap, rng, steps=4, environments=environments
            )
            sample, _ = _first_row(game.discount, _chunks(arguments), environments, form)
            error = sample.std(0, ddof=1) / math.sqrt(environments)
            scores += (np.abs(sample.mean(0) - exact) / error).tolist()
    allowed = NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * len(scores)))
    claim = (
        f"real actions, linear-quadratic games, on- and off-policy: z-test against A^i, false alarms {FALSE_ALARMS:g}"
    )
    return Statement("6", claim, len(scores), max(scores), allowed)


def _sampled_forms(bootstrap: Bootstrap) -> list[Form]:
    forms = [Form(trace=trace, bootstrap=bootstrap, eta=1.2) for trace in TRACES]
    forms += [replace(form, own_weight="exact") for form in forms]
    return [*forms, Form("others", bootstrap, "exact", eta=1.2, own_cap=1.5)]


def _chunks(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments in float32, `CHUNK` environments at a time: one size, one compiled program."""
    environments = arguments["rewards"].shape[1]
    picks = [np.arange(first, first + CHUNK) % environments for first in range(0, environments, CHUNK)]
    floats = {name: x if x.dtype == np.bool_ else x.astype(np.float32) for name, x in arguments.items()}
    return [{name: x[:, pick] for name, x in floats.items()} for pick in picks]


def _first_row(discount: float, chunks: list[dict[str, Any]], environments: int, form: Form) -> tuple[Floats, Floats]:
    """What the sample estimator says of row 0: advantages and critic targets, [E, N]."""
    per_decision = form.trace == "per-decision"
    options = {
        "gamma": discount,
        "lambda_": form.lambda_,
        "trace": "others" if per_decision else form.trace,
        "eta": math.inf if per_decision else form.eta,
        "own_weight": form.own_weight,
        "own_cap": form.own_cap,
    }
    found = [compiled_estimator()(**chunk, **options) for chunk in chunks]
    advantages = np.concatenate([targets.advantages[0] for targets in found])[:environments]
    critic_targets = np.concatenate([targets.critic_targets[0] for targets in found])[:environments]
    return advantages.astype(np.float64), critic_targets.astype(np.float64)


@cache
def compiled_estimator() -> Callable[..., Targets]:
    """`gpae.estimators.gpae`, compiled once for each shape, trace and own weight."""
    return jax.jit(estimators.gpae, static_argnames=("trace", "own_weight"))


def _distance_from_operator(
    case: Case, agent: int, table: Floats, form: Form, rollout: Rollout, weights: Floats, row: tuple[Floats, Floats]
) -> float:
    """Largest distance of the weighted means of row 0's advantages and targets from the operator's, relative."""
    game, steps = case.game, len(rollout.states)
    states, actions = rollout.states[0], rollout.actions[0]
    arguments = (game, case.policy, case.behaviour, agent)
    exact_advantages = expected_advantage(*arguments, table, form, steps).reshape(-1)
    exact_targets = operator(*arguments, form, steps)(table).reshape(-1)
    pairs = states * game.actions**game.agents + actions
    entries = states * table.shape[-1] + game.others[agent][actions]
    worst = 0.0
    for sampled, where, exact in ((row[0], pairs, exact_advantages), (row[1], entries, exact_targets)):
        mass = np.bincount(where, weights, minlength=exact.size)
        seen = mass > 0
        means = np.bincount(where, weights * sampled[:, agent], minlength=exact.size)[seen] / mass[seen]
        worst = max(worst, float(np.abs(means - exact[seen]).max() / np.abs(exact).max()))
    return worst
