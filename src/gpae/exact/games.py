"""Finite cooperative games small enough to be solved exactly."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAX_TABLE = 4096
"""Largest number of entries of an agent's table EQ^i(s, a^-i): operators are dense matrices on it."""
MAX_TRANSITIONS = 20_000_000
"""Largest number of entries of the transition table."""
TOLERANCE = 1e-9
"""How far a distribution's sum may be from 1."""


@dataclass(frozen=True)
class TeamGame:
    """N agents who see the state, act at once and share one reward.

    The J = A^N joint actions are numbered as in `joint_actions`, the last agent's action counting fastest. A terminal
    state ends the episode on arrival and is worth 0. A joint policy is an array [N, S, A] of pi^i(a | s).
    """

    name: str
    agents: int
    """N."""
    actions: int
    """A, the same for every agent."""
    transitions: Floats
    """P(s' | s, a), [S, J, S]; what leaves a terminal state is never used."""
    rewards: Floats
    """r(s, a), [S, J]."""
    discount: float
    """gamma, in [0, 1)."""
    start: Floats
    """Distribution of an episode's first state, [S]; no terminal state among them."""
    terminal: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """States that end an episode, [S]; none where left out."""

    def __post_init__(self):
        def store(name: str, value: ArrayLike, dtype: type) -> None:
            object.__setattr__(self, name, np.asarray(value, dtype))

        store("transitions", self.transitions, np.float64)
        store("rewards", self.rewards, np.float64)
        store("start", self.start, np.float64)
        states = len(self.start)
        store("terminal", self.terminal if np.size(self.terminal) else np.zeros(states), np.bool_)
        check_size(states, self.agents, self.actions)
        joint = self.actions**self.agents
        shapes = {"transitions": (states, joint, states), "rewards": (states, joint), "terminal": (states,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        check_distribution("transitions", self.transitions)
        check_distribution("start", self.start)
        if not np.isfinite(self.rewards).all():
            raise ValueError("rewards must be finite")
        if self.start[self.terminal].any():
            raise ValueError("start must give no probability to a terminal state")
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must be in [0, 1), got {self.discount}")

    @property
    def states(self) -> int:
        """S."""
        return len(self.start)

    @cached_property
    def joint_actions(self) -> NDArray[np.int64]:
        """The actions of the agents in each joint action, [J, N]."""
        return np.array(list(itertools.product(range(self.actions), repeat=self.agents)))

    @cached_property
    def others(self) -> NDArray[np.int64]:
        """The number of a^-i, among A^(N-1), in each joint action, [N, J]."""
        weights = self.actions ** np.arange(self.agents - 1)[::-1]
        return np.stack([np.delete(self.joint_actions, i, axis=1) @ weights for i in range(self.agents)])

    @cached_property
    def own_sums(self) -> Floats:
        """1 where joint action j has a^i = a, [N, J, A]: x @ own_sums[i] sums over the others' actions."""
        return np.stack([np.eye(self.actions)[self.joint_actions[:, i]] for i in range(self.agents)])

    @cached_property
    def others_sums(self) -> Floats:
        """1 where joint action j has a^-i = k, [N, J, A^(N-1)]: x @ others_sums[i] sums over the agent's own action."""
        return np.eye(self.actions ** (self.agents - 1))[self.others]

    @cached_property
    def continues(self) -> Floats:
        """P(s' | s, a) where s' has a future, 0 for terminal s' and from terminal s, [S, J, S]."""
        lives = ~self.terminal
        return self.transitions * lives[:, None, None] * lives


def check_size(states: int, agents: int, actions: int) -> None:
    """Raises where a game of this size could not be solved on dense tables."""
    table, joint = states * actions ** (agents - 1), actions**agents
    if min(states, agents, actions) < 1:
        raise ValueError(f"a game needs states, agents and actions, got {states}, {agents} and {actions}")
    if table > MAX_TABLE or states * joint * states > MAX_TRANSITIONS:
        fits = max((n for n in range(1, agents) if _fits(states, n, actions)), default=0)
        hint = f"{fits} agents would fit" if fits else "with so many states and actions not even one agent fits"
        raise ValueError(
            f"game too large to solve: {states} states, {agents} agents and {actions} actions make {table} entries "
            f"per agent's table (at most {MAX_TABLE}) and {states * joint * states} transitions "
            f"(at most {MAX_TRANSITIONS}); {hint}"
        )


def _fits(states: int, agents: int, actions: int) -> bool:
    return states * actions ** (agents - 1) <= MAX_TABLE and states**2 * actions**agents <= MAX_TRANSITIONS


def check_distribution(name: str, x: Floats) -> None:
    """Raises unless the last axis of `x` holds distributions."""
    if not np.isfinite(x).all() or (x < 0).any() or np.abs(x.sum(-1) - 1).max() > TOLERANCE:
        raise ValueError(f"{name} must be a distribution along its last axis: not negative, with sum 1")


def random_game(
    rng: np.random.Generator,
    *,
    states: int = 4,
    agents: int = 3,
    actions: int = 3,
    discount: float = 0.9,
    terminal: int = 0,
) -> TeamGame:
    """Rewards from the standard normal distribution, transitions uniform over all distributions.

    The last `terminal` states end the episode.
    """
    check_size(states, agents, actions)
    joint = actions**agents
    ends = np.arange(states) >= states - terminal
    return TeamGame(
        name=f"random, {states} states, {agents} agents, {actions} actions",
        agents=agents,
        actions=actions,
        transitions=rng.dirichlet(np.ones(states), size=(states, joint)),
        rewards=rng.normal(size=(states, joint)),
        discount=discount,
        start=~ends / (~ends).sum(),
        terminal=ends,
    )


def matrix_game(name: str, payoffs: ArrayLike, discount: float = 0.9) -> TeamGame:
    """One joint action of two agents, its payoff, and the end."""
    table = np.asarray(payoffs, np.float64)
    if table.ndim != 2 or len(set(table.shape)) != 1:
        raise ValueError(f"payoffs must be a square matrix, got shape {table.shape}")
    actions = len(table)
    rewards = np.zeros((2, actions**2))
    rewards[0] = table.reshape(-1)
    transitions = np.zeros((2, actions**2, 2))
    transitions[:, :, 1] = 1
    return TeamGame(name, 2, actions, transitions, rewards, discount, np.array([1.0, 0.0]), np.array([False, True]))


def climbing_game() -> TeamGame:
    """The climbing game of Claus and Boutilier 1998: the best joint action lies beside the worst."""
    return matrix_game("climbing", np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]))


def penalty_game(penalty: float = -30.0) -> TeamGame:
    """The penalty game of Claus and Boutilier 1998: two good joint actions, and a price for not agreeing on one."""
    return matrix_game("penalty", np.array([[10, 0, penalty], [0, 2, 0], [penalty, 0, 10]]))


def two_step_game(discount: float = 0.9) -> TeamGame:
    """The two-step game of Rashid et al. 2018: the first agent chooses which payoff matrix the second step has."""
    rewards = np.zeros((4, 4))
    rewards[1] = 7
    rewards[2] = [0, 1, 1, 8]
    transitions = np.zeros((4, 4, 4))
    transitions[0, :2, 1] = transitions[0, 2:, 2] = 1
    transitions[1:, :, 3] = 1
    return TeamGame("two-step", 2, 2, transitions, rewards, discount, np.eye(4)[0], np.arange(4) == 3)


def lottery(agents: int = 3, discount: float = 0.9) -> TeamGame:
    """A noisy team lottery with one lazy agent: the last one's action changes nothing.

    The more of the other agents choose action 1, the likelier the team holds a winning ticket (state 1) at the next
    step, which then pays 1.
    """
    if agents < 2:
        raise ValueError(f"a lottery with a lazy agent needs at least 2 agents, got {agents}")
    check_size(2, agents, 2)
    joint = np.array(list(itertools.product(range(2), repeat=agents)))
    wins = 0.1 + 0.8 * joint[:, :-1].mean(axis=1)
    transitions = np.broadcast_to(np.stack([1 - wins, wins], axis=-1), (2, 2**agents, 2))
    rewards = np.zeros((2, 2**agents))
    rewards[1] = 1
    return TeamGame("lottery", agents, 2, transitions, rewards, discount, np.array([1.0, 0.0]))


def gridworld(width: int = 3, height: int = 2, slip: float = 0.1, discount: float = 0.9) -> TeamGame:
    """Two agents meet at a goal: actions stay, left, right, up and down, each failing with probability `slip`.

    They start in the left corners and get 1, and the episode ends, once both stand in the lower right corner. Who would
    enter the other's cell, away from the goal, stays where it is, the second agent giving way.
    """
    cells = [(x, y) for y in range(height) for x in range(width)]
    check_size(len(cells) ** 2 + 1, 2, 5)
    goal = (width - 1, 0)
    index = {pair: k for k, pair in enumerate(itertools.product(cells, repeat=2))}
    end = len(index)
    moves = ((0, 0), (-1, 0), (1, 0), (0, 1), (0, -1))

    def moved(cell: tuple[int, int], action: int) -> tuple[int, int]:
        x, y = cell[0] + moves[action][0], cell[1] + moves[action][1]
        return (x, y) if 0 <= x < width and 0 <= y < height else cell

    transitions = np.zeros((end + 1, 25, end + 1))
    rewards = np.zeros((end + 1, 25))
    transitions[end, :, end] = 1
    for (first, second), s in index.items():
        for j, actions in enumerate(itertools.product(range(5), repeat=2)):
            for fails in itertools.product((False, True), repeat=2):
                done = [0 if fail else action for fail, action in zip(fails, actions, strict=True)]
                probability = float(np.prod([slip if fail else 1 - slip for fail in fails]))
                one = moved(first, done[0])
                one = first if one == second != goal else one
                two = moved(second, done[1])
                two = second if two == one != goal else two
                if one == two == goal:
                    rewards[s, j] += probability
                    transitions[s, j, end] += probability
                else:
                    transitions[s, j, index[one, two]] += probability
    start = np.zeros(end + 1)
    start[index[(0, 0), (0, height - 1)]] = 1
    terminal = np.arange(end + 1) == end
    return TeamGame(f"gridworld {width}x{height}", 2, 5, transitions, rewards, discount, start, terminal)


GAMES: dict[str, Callable[[], TeamGame]] = {
    "climbing": climbing_game,
    "penalty": penalty_game,
    "two-step": two_step_game,
    "lottery": lottery,
    "gridworld": gridworld,
}
"""The named games."""


def uniform_policy(game: TeamGame) -> Floats:
    """Every action equally likely, [N, S, A]."""
    return np.full((game.agents, game.states, game.actions), 1 / game.actions)


def random_policy(game: TeamGame, rng: np.random.Generator, temperature: float = 1.0) -> Floats:
    """Softmax of standard normal logits divided by `temperature`, [N, S, A]."""
    weights = np.exp(rng.normal(size=(game.agents, game.states, game.actions)) / temperature)
    return weights / weights.sum(-1, keepdims=True)


def mixed_behaviour(game: TeamGame, policy: Floats, rng: np.random.Generator, mix: float) -> Floats:
    """A behaviour that plays `policy` with weight 1 - mix and another random policy with weight `mix`."""
    return (1 - mix) * policy + mix * random_policy(game, rng)
