"""Tables of what is left biased, and of what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpae.estimators import BOOTSTRAPS, OWN_WEIGHTS
from gpae.exact.cases import CORRECTED, EXACT, PAPER, Case, make_case
from gpae.exact.games import GAMES, Floats, TeamGame, random_game, uniform_policy
from gpae.exact.operators import (
    TRACES,
    Form,
    advantage_variance,
    expected_advantage,
    operator,
    surrogate_gradient,
)
from gpae.exact.solve import (
    discounted_states,
    expected_return,
    joint,
    policy_gradient,
    solve,
    stationary_states,
)

MIXES = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Weights of a random policy in the behaviour."""


@dataclass(frozen=True)
class Table:
    """Figures to look at; the first column names the row."""

    key: str
    """What programs call it."""
    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]


def named_table(cases: Iterable[Case]) -> Table:
    """What the paper's form and a corrected one converge to on the named games."""
    rows: list[list[Any]] = []
    for case in cases:
        eq = solve(case.game, case.policy).eq
        paper, corrected = _measure(case, PAPER), _measure(case, CORRECTED)
        value = expected_return(case.game, case.policy)
        rows.append([case.game.name, value, np.abs(eq).max(), *paper[[0, 2]], *corrected[[0, 2]]])
    forms = ("paper: distance", "paper: modulus", "corrected: distance", "corrected: modulus")
    columns = ("game", "return", "largest |EQ|", *forms)
    return Table("named", "Named games: distance of the fixed point from EQ^i, max-norm modulus", columns, rows)


def bias_table(seed: int, mix: float = 0.4) -> Table:
    """Every trace, mean of bootstrap and own weight: fixed point, advantages, moduli."""
    rows: list[list[Any]] = []
    cases = _study(seed, mix)
    for bootstrap in ("sampled", "weighted"):
        for own_weight in OWN_WEIGHTS:
            for trace in TRACES:
                form = Form(trace, bootstrap, own_weight)
                figures = np.median([_measure(case, form, spectral=True) for case in cases], axis=0)
                rows.append([trace, _bootstrap_name(bootstrap), own_weight, *figures])
    size = np.median([np.abs(solve(case.game, case.policy).eq).max() for case in cases])
    title = (
        f"Where training ends: medians over {len(cases)} random games (4 states, 3 agents, 3 actions, gamma 0.9, "
        f"lambda 0.8, eta 1.05, behaviour {1 - mix:g} pi + {mix:g} random; largest |EQ^i| {size:.2f})"
    )
    columns = ("trace", "bootstrap", "own weight", "distance", "advantages off", "max-norm", "spectral radius")
    return Table("bias", title, columns, rows)


def distance_table(seed: int) -> Table:
    """The bias as the behaviour moves away from the policy."""
    studies = [_study(seed, mix) for mix in MIXES]
    rows: list[list[Any]] = []
    for bootstrap in ("sampled", "weighted"):
        for own_weight in OWN_WEIGHTS:
            for trace in TRACES:
                form = Form(trace, bootstrap, own_weight)
                medians = [float(np.median([_relative_distance(case, form) for case in cases])) for cases in studies]
                rows.append([trace, _bootstrap_name(bootstrap), own_weight, *medians])
    columns = ("trace", "bootstrap", "own weight", *(f"mix {mix:g}" for mix in MIXES))
    return Table(
        "distance",
        "Distance of the fixed point from EQ^i, over the largest |EQ^i|, by off-policyness (agent 0)",
        columns,
        rows,
    )


def spread_table(seed: int) -> Table:
    """Standard deviation of one sample."""
    studies = [_study(seed, mix) for mix in MIXES]
    rows: list[list[Any]] = []
    for bootstrap in BOOTSTRAPS:
        for trace in TRACES:
            form = Form(trace, bootstrap)
            medians = [float(np.median([_spread(case, form) for case in cases])) for cases in studies]
            rows.append([trace, bootstrap, *medians])
    columns = ("trace", "bootstrap", *(f"mix {mix:g}" for mix in MIXES))
    return Table(
        "spread",
        "Standard deviation of one advantage with the exact critic, over the root mean square of A^i (agent 0)",
        columns,
        rows,
    )


def actor_table(seed: int) -> Table:
    """The surrogate's gradient with exact advantages and exact state weights."""
    rows: list[list[Any]] = []
    weights = {"own ratio": None, "and min(1, others')": 1.0, "and min(1.05, others')": 1.05, "and others'": math.inf}
    for name, cap in weights.items():
        row: list[Any] = [name]
        for mix in MIXES:
            figures = []
            for case in _study(seed, mix):
                states = discounted_states(case.game, case.policy)
                exact = policy_gradient(case.game, case.policy)
                found = surrogate_gradient(case.game, case.policy, case.behaviour, states, others_cap=cap)
                cosine = (found * exact).sum() / (np.linalg.norm(found) * np.linalg.norm(exact))
                figures.append((np.linalg.norm(found - exact) / np.linalg.norm(exact), cosine))
            off, cosine = np.median(figures, axis=0)
            row.append(f"{100 * off:.0f} %, {cosine:.2f}")
        rows.append(row)
    columns = ("actor weight", *(f"mix {mix:g}" for mix in MIXES))
    return Table("actor", "Gradient of the surrogate: relative error and cosine with the exact one", columns, rows)


def team_table(seed: int, mix: float = 0.4, games: int = 12) -> Table:
    """Bias and spread against the size of the team."""
    forms = {
        "paper": PAPER,
        "weighted": CORRECTED,
        "resampled": replace(CORRECTED, bootstrap="resampled"),
        "expected": replace(CORRECTED, bootstrap="expected"),
    }
    rows: list[list[Any]] = []
    for agents in range(2, 9):
        cases = _study(seed, mix, games=games, states=3, agents=agents, actions=2)
        figures = [np.median([_relative_distance(case, form) for case in cases]) for form in (PAPER, CORRECTED)]
        figures += [np.median([_spread(case, form) for case in cases]) for form in forms.values()]
        rows.append([str(agents), *map(float, figures)])
    title = (
        f"By team size ({games} random games: 3 states, 2 actions, mix {mix:g}; corrected: others, own weight exact)"
    )
    columns = ("agents", "paper: distance", "corrected: distance", *(f"{name}: deviation" for name in forms))
    return Table("team", title, columns, rows)


def gap_table(seed: int, probability: float = 0.05, passes: int = 3) -> Table:
    """The paper's diagnostic where the truth is known: how much worse is a stopped agent's advantage than the others'?

    Agent 0 is made to take the action that is worst for it on average, in 5 % of its steps, under a policy that is
    better than random. GAE has one advantage for all. The others see the exact critic, or their own after a few
    passes of training from zero, where one-step targets have hardly begun to look ahead.
    """
    estimators = {
        "COMA (one step)": Form(trace="none", lambda_=0.0),
        "GPAE": Form(lambda_=0.95),
        "GPAE corrected": replace(CORRECTED, lambda_=0.95),
    }
    columns = ["game", "exact", "GAE", *(f"{name}, exact critic" for name in estimators)]
    columns += [f"{name}, {passes} passes" for name in estimators]
    rng = np.random.default_rng((seed, 6))
    games = [make() for make in GAMES.values()]
    games += [random_game(rng, states=4, agents=n, actions=2 if n == 4 else 3) for n in (2, 3, 4)]
    names = [*GAMES, *(f"random, {n} agents" for n in (2, 3, 4))]
    rows: list[list[Any]] = []
    for name, game in zip(names, games, strict=True):
        policy = improved_policy(game)
        truth = solve(game, policy)
        stop = worst_action(game, policy, 0)
        behaviour = policy.copy()
        behaviour[0] *= 1 - probability
        behaviour[0, :, stop] += probability
        exact = stopped_gap(game, behaviour, truth.advantages, 0, stop)
        row: list[Any] = [name, exact, 0.0]
        for trained in (False, True):
            for form in estimators.values():
                advantages = []
                for agent in range(game.agents):
                    table = truth.eq[agent].reshape(-1)
                    if trained:
                        table, target = np.zeros_like(table), operator(game, policy, behaviour, agent, form)
                        for _ in range(passes):
                            table = target(table).reshape(-1)
                    table = table.reshape(truth.eq[agent].shape)
                    advantages.append(expected_advantage(game, policy, behaviour, agent, table, form))
                row.append(stopped_gap(game, behaviour, np.stack(advantages), 0, stop))
        rows.append(row)
    title = f"Advantage gap dA where agent 0 is made to take its worst action in {probability:.0%} of its steps"
    return Table("gap", title, tuple(columns), rows)


def stopped_gap(game: TeamGame, behaviour: Floats, advantages: Floats, agent: int, stop: int) -> float:
    """The mean over the others of A^j, minus A^i, where agent i takes `stop`; advantages are [N, S, A^N]."""
    weights = stationary_states(game, behaviour)[:, None] * joint(game, behaviour)
    weights = weights * (game.joint_actions[:, agent] == stop) * ~game.terminal[:, None]
    gap = np.delete(advantages, agent, axis=0).mean(0) - advantages[agent]
    return float((weights * gap).sum() / weights.sum())


def improved_policy(game: TeamGame, rounds: int = 10, temperature: float = 0.3) -> Floats:
    """A policy better than the uniform one: every agent's softmax of its advantages, a few times over, [N, S, A]."""
    policy = uniform_policy(game)
    for _ in range(rounds):
        means = np.stack([own_action_advantages(game, policy, agent) for agent in range(game.agents)])
        logits = means / (temperature * max(np.abs(means).max(), EXACT))
        policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return policy


def own_action_advantages(game: TeamGame, policy: Floats, agent: int) -> Floats:
    """A^i averaged over the others' actions, [S, A]."""
    weights, advantages = joint(game, policy), solve(game, policy).advantages[agent]
    chosen = np.eye(game.actions)[game.joint_actions[:, agent]]
    return (weights * advantages) @ chosen / np.maximum(weights @ chosen, EXACT)


def worst_action(game: TeamGame, policy: Floats, agent: int) -> int:
    """The action with the lowest advantage, averaged over the states that the policy visits."""
    return int(np.argmin(stationary_states(game, policy) @ own_action_advantages(game, policy, agent)))


def _study(seed: int, mix: float, *, games: int = 12, **sizes: int) -> list[Case]:
    """The same games, policies and deviations for every mix."""
    cases = []
    for k in range(games):
        rng = np.random.default_rng((seed, k))
        cases.append(make_case(random_game(rng, **sizes), rng, mix))
    return cases


def _measure(case: Case, form: Form, spectral: bool = False) -> Floats:
    """Worst over agents: distance of the fixed point, relative error of the advantages, max-norm, spectral radius."""
    game, truth = case.game, solve(case.game, case.policy)
    figures = []
    for agent in range(game.agents):
        found = operator(game, case.policy, case.behaviour, agent, form)
        table = found.fixed_point
        advantages = expected_advantage(game, case.policy, case.behaviour, agent, table, form)
        error = np.abs(advantages - truth.advantages[agent]).max() / np.abs(truth.advantages[agent]).max(initial=EXACT)
        distance = np.abs(table - truth.eq[agent].reshape(-1)).max()
        figures.append((distance, error, found.max_norm, found.spectral_radius if spectral else 0.0))
    return np.max(figures, axis=0)


def _relative_distance(case: Case, form: Form) -> float:
    """Of agent 0, over its largest |EQ|."""
    eq = solve(case.game, case.policy).eq[0].reshape(-1)
    table = operator(case.game, case.policy, case.behaviour, 0, form).fixed_point
    return float(np.abs(table - eq).max() / np.abs(eq).max())


def _spread(case: Case, form: Form) -> float:
    game, truth = case.game, solve(case.game, case.policy)
    weights = stationary_states(game, case.behaviour)[:, None] * joint(game, case.behaviour)
    variance = advantage_variance(game, case.policy, case.behaviour, 0, truth.eq[0], form)
    return math.sqrt((weights * variance).sum() / (weights * truth.advantages[0] ** 2).sum())


def _bootstrap_name(bootstrap: str) -> str:
    return "corrected" if bootstrap == "weighted" else bootstrap
