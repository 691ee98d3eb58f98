"""The statements that the estimators rest on, checked on finite games, and tables of what is left biased.

`run` does all of it; the derivations are in `docs/theory.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from gpae.exact.games import GAMES, Floats, TeamGame, mixed_behaviour, random_game, random_policy, uniform_policy
from gpae.exact.operators import (
    BOOTSTRAPS,
    OWN_WEIGHTS,
    TRACES,
    Bootstrap,
    Form,
    OwnWeight,
    Trace,
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

EXACT = 1e-9
"""Tolerance of statements about float64 solves."""
FLOAT32 = 1e-5
"""Tolerance, relative to the largest value, of sums of the estimators' float32 results."""
FALSE_ALARMS = 1e-3
"""How often the whole z-test would fail a correct estimator, over seeds."""
CHUNK = 32_768
"""Environments that the sample estimators are given at once."""
BIASED_TRACES: tuple[Trace, ...] = ("none", "st", "it", "dt")
MIXES = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Weights of a random policy in the behaviour."""
PAPER = Form()
CORRECTED = Form(trace="others", bootstrap="weighted", own_weight="exact")


@dataclass(frozen=True)
class Case:
    """A game, the policy that is evaluated, and the one that plays."""

    game: TeamGame
    policy: Floats
    behaviour: Floats


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


@dataclass(frozen=True)
class Table:
    """Figures to look at; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Report:
    """What `run` found."""

    statements: list[Statement]
    tables: list[Table]

    @property
    def holds(self) -> bool:
        """Whether every statement does."""
        return all(statement.holds for statement in self.statements)

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite figure is the string "inf"."""

        def plain(x: Any) -> Any:
            if isinstance(x, float) and not math.isfinite(x):
                return str(x)
            if isinstance(x, dict):
                return {key: plain(value) for key, value in x.items()}
            return [plain(value) for value in x] if isinstance(x, list | tuple) else x

        statements = [asdict(statement) | {"holds": statement.holds} for statement in self.statements]
        return {
            "holds": self.holds,
            "statements": plain(statements),
            "tables": [plain(asdict(table)) for table in self.tables],
        }

    def print(self, console: Console) -> None:
        """All tables."""
        verdict = RichTable(title="Statements", title_justify="left")
        for column in ("", "statement", "checks", "worst", "allowed", "holds"):
            verdict.add_column(column, justify="right" if column in ("checks", "worst", "allowed") else "left")
        for s in self.statements:
            holds = "[green]yes[/green]" if s.holds else "[bold red]NO[/bold red]"
            verdict.add_row(s.number, s.claim, str(s.checks), f"{s.worst:.1e}", f"{s.tolerance:.1e}", holds)
        console.print(verdict)
        for table in self.tables:
            shown = RichTable(title=table.title, title_justify="left")
            for k, column in enumerate(table.columns):
                shown.add_column(column, justify="right" if k else "left")
            for row in table.rows:
                shown.add_row(*(_figure(x) for x in row))
            console.print(shown)


def run(
    *,
    games: int = 50,
    seed: int = 0,
    json_path: Path | None = None,
    plot_path: Path | None = None,
    console: Console | None = None,
) -> Report:
    """Checks every statement on named and random games and prints what it found.

    Args:
      games: number of random games, with 2 to 4 agents in turn.
      seed: of the games, policies and samples.
      json_path: file for the figures.
      plot_path: file for a picture of bias and spread against off-policyness and team size.
      console: where to print; None prints nothing.

    Returns:
      The report; `report.holds` says whether every statement holds.
    """
    rng = np.random.default_rng(seed)
    cases = [*named_cases(rng), *random_cases(rng, games)]
    report = Report(
        statements=[
            on_policy_contraction(cases),
            on_policy_policy_gradient(cases, rng),
            off_policy_bounds(cases, "exact"),
            off_policy_bounds(cases, "truncated"),
            corrected_fixed_point(cases),
            corrected_contraction(cases),
            sample_estimators_enumerated(rng),
            sample_estimators_tested(rng),
        ],
        tables=[
            named_table(cases[: len(GAMES)]),
            bias_table(seed),
            distance_table(seed),
            spread_table(seed),
            actor_table(seed),
            team_table(seed),
            gap_table(seed),
        ],
    )
    if console is not None:
        report.print(console)
    if json_path is not None:
        json_path.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    if plot_path is not None:
        plot(report, plot_path)
    return report


# ---- games ---------------------------------------------------------------------------------------------------------


def named_cases(rng: np.random.Generator) -> list[Case]:
    """The named games, each with a random policy and a behaviour that is 0.4 another one."""
    return [_case(make(), rng, 0.4) for make in GAMES.values()]


def random_cases(rng: np.random.Generator, count: int) -> list[Case]:
    """Games with 2, 3, 4 agents in turn, one in three with a terminal state, near and far behaviours."""
    cases = []
    for k in range(count):
        agents = 2 + k % 3
        game = random_game(
            rng,
            states=int(rng.integers(2, 5)) + 1,
            agents=agents,
            actions=2 if agents == 4 else 3,
            discount=float(rng.uniform(0.5, 0.95)),
            terminal=int(rng.random() < 1 / 3),
        )
        cases.append(_case(game, rng, float(rng.uniform(0.05, 1))))
    return cases


def _case(game: TeamGame, rng: np.random.Generator, mix: float) -> Case:
    policy = random_policy(game, rng)
    return Case(game, policy, mixed_behaviour(game, policy, rng, mix))


# ---- statements ----------------------------------------------------------------------------------------------------


def on_policy_contraction(cases: Iterable[Case], lambda_: float = 0.8) -> Statement:
    """Theorem 4.1: fixed point EQ^i and modulus gamma (1 - lambda) / (1 - gamma lambda) on-policy."""
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
    """Theorem 4.3 as far as it goes: max-norm moduli with the sampled bootstrap."""
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
        case = _case(game, rng, 0.5)
        tables = rng.normal(size=(2, game.states, 2))
        for bootstrap in BOOTSTRAPS:
            if bootstrap == "resampled" and game.terminal.any():
                continue  # fresh draws beside episodes that begin anew: millions of trajectories
            fresh = case.policy if bootstrap == "resampled" else None
            rollout, weights, draws = enumerate_trajectories(game, case.behaviour, steps=steps, fresh=fresh)
            arguments = estimator_arguments(game, rollout, case.policy, case.behaviour, tables, bootstrap, draws)
            chunks = _chunks(arguments)
            for form in _sampled_forms(bootstrap):
                row = _first_row(game, chunks, len(weights), form)
                for agent in range(2):
                    errors.append(_distance_from_operator(case, agent, tables[agent], form, rollout, weights, row))
    claim = f"gpae.estimators over all trajectories of {steps} steps: the mean is the {steps}-step operator"
    return Statement("5a", claim, len(errors), float(max(errors)), FLOAT32)


def sample_estimators_tested(rng: np.random.Generator, steps: int = 3, environments: int = 20_000) -> Statement:
    """A z-test of sampled advantages at every (s, a), for the bounded schemes; worst z over the largest allowed."""
    game = random_game(rng, states=2, agents=3, actions=2)
    case = _case(game, rng, 0.5)
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
            advantages, _ = _first_row(game, chunks, environments, form)
            for agent in range(3):
                mean = expected_advantage(game, case.policy, case.behaviour, agent, tables[agent], form, steps)
                for pair in range(mean.size):
                    sample = advantages[pairs == pair, agent]
                    error = sample.std(ddof=1) / math.sqrt(len(sample))
                    scores.append(abs(sample.mean() - mean.reshape(-1)[pair]) / error)
    allowed = NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * len(scores)))
    claim = f"gpae.estimators, bounded, sampled: z-test over all (s, a), false alarms in {FALSE_ALARMS:g} of all runs"
    return Statement("5b", claim, len(scores), max(scores), allowed)


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


def _first_row(game: TeamGame, chunks: list[dict[str, Any]], environments: int, form: Form) -> tuple[Floats, Floats]:
    """What the sample estimator says of row 0: advantages and critic targets, [E, N]."""
    per_decision = form.trace == "per-decision"
    options = {
        "gamma": game.discount,
        "lambda_": form.lambda_,
        "trace": "others" if per_decision else form.trace,
        "eta": math.inf if per_decision else form.eta,
        "own_weight": form.own_weight,
        "own_cap": form.own_cap,
    }
    found = [_compiled_estimator()(**chunk, **options) for chunk in chunks]
    advantages = np.concatenate([targets.advantages[0] for targets in found])[:environments]
    critic_targets = np.concatenate([targets.critic_targets[0] for targets in found])[:environments]
    return advantages.astype(np.float64), critic_targets.astype(np.float64)


@cache
def _compiled_estimator() -> Callable[..., Any]:
    import jax  # needed here alone

    from gpae.estimators import gpae

    return jax.jit(gpae, static_argnames=("trace", "own_weight"))


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


# ---- tables --------------------------------------------------------------------------------------------------------


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
    return Table("Named games: distance of the fixed point from EQ^i, max-norm modulus", columns, rows)


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
    return Table(title, columns, rows)


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
        "Distance of the fixed point from EQ^i, over the largest |EQ^i|, by off-policyness (agent 0)", columns, rows
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
    return Table("Gradient of the surrogate: relative error and cosine with the exact one", columns, rows)


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
    return Table(title, columns, rows)


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
    return Table(title, tuple(columns), rows)


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
        cases.append(_case(random_game(rng, **sizes), rng, mix))
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


def _figure(x: Any) -> str:
    if isinstance(x, str):
        return x
    if not math.isfinite(x):
        return "inf"
    return f"{x:.1e}" if 0 < abs(x) < 1e-3 else f"{x:.3f}"


# ---- picture -------------------------------------------------------------------------------------------------------


def plot(report: Report, path: Path) -> None:
    """Bias and spread against off-policyness and team size, from the tables of a report."""
    from matplotlib.figure import Figure

    tables = {table.columns[0:3]: table for table in report.tables}
    by_mix = {columns: table for columns, table in tables.items() if columns[0] == "trace"}
    distances = next(t for t in by_mix.values() if "over the largest" in t.title)
    spreads = next(t for t in by_mix.values() if t.title.startswith("Standard deviation"))
    team = next(t for t in report.tables if t.columns[0] == "agents")
    figure = Figure(figsize=(11, 7), layout="constrained")
    (bias, spread), (team_bias, team_spread) = figure.subplots(2, 2)

    chosen = {
        ("none", "sampled", "truncated"): "none",
        ("st", "sampled", "truncated"): "ST",
        ("it", "sampled", "truncated"): "IT",
        ("dt", "sampled", "truncated"): "DT (the paper's)",
        ("dt", "corrected", "exact"): "DT, corrected bootstrap and own weight",
        ("others", "corrected", "exact"): "others-truncated, corrected",
    }
    for row in distances.rows:
        if tuple(row[:3]) in chosen:
            bias.plot(MIXES, row[3:], marker="o", label=chosen[tuple(row[:3])])
    bias.set(title="bias by off-policyness", xlabel="weight of a random policy in the behaviour")
    bias.set_ylabel("distance from EQ, over largest |EQ|")
    spread_chosen = {
        ("dt", "sampled"): "DT (the paper's)",
        ("others", "weighted"): "others-truncated, weighted",
        ("others", "resampled"): "others-truncated, resampled",
        ("others", "expected"): "others-truncated, expected",
    }
    for row in spreads.rows:
        if tuple(row[:2]) in spread_chosen:
            spread.plot(MIXES, row[2:], marker="o", label=spread_chosen[tuple(row[:2])])
    spread.set(title="spread by off-policyness", xlabel="weight of a random policy in the behaviour")
    spread.set_ylabel("deviation of one advantage, over rms A")

    sizes = [int(row[0]) for row in team.rows]
    for k, column in enumerate(team.columns[1:], start=1):
        name, _, kind = column.partition(": ")
        axes = team_bias if kind == "distance" else team_spread
        axes.plot(sizes, [row[k] for row in team.rows], marker="o", label=name)
    team_bias.set(title="bias by team size", xlabel="agents", ylabel="distance from EQ, over largest |EQ|")
    team_spread.set(title="spread by team size", xlabel="agents", ylabel="deviation of one advantage, over rms A")
    for axes in (bias, spread, team_bias, team_spread):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
