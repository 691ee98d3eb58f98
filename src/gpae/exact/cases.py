"""Games with a policy that is evaluated and one that plays: what statements are checked on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpae.exact.games import GAMES, Floats, TeamGame, mixed_behaviour, random_game, random_policy
from gpae.exact.operators import Form

EXACT = 1e-9
"""Tolerance of statements about float64 solves, and what is added to divisors that may be 0."""
PAPER = Form()
"""The paper's estimator."""
CORRECTED = Form(trace="others", bootstrap="weighted", own_weight="exact")
"""One whose critic ends at EQ^i whatever the behaviour (statement 4a)."""


@dataclass(frozen=True)
class Case:
    """A game, the policy that is evaluated, and the one that plays."""

    game: TeamGame
    policy: Floats
    behaviour: Floats


def named_cases(rng: np.random.Generator) -> list[Case]:
    """The named games, each with a random policy and a behaviour that is 0.4 another one."""
    return [make_case(make(), rng, 0.4) for make in GAMES.values()]


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
        cases.append(make_case(game, rng, float(rng.uniform(0.05, 1))))
    return cases


def make_case(game: TeamGame, rng: np.random.Generator, mix: float) -> Case:
    """A random policy in `game`, and a behaviour that is `mix` another one."""
    policy = random_policy(game, rng)
    return Case(game, policy, mixed_behaviour(game, policy, rng, mix))
