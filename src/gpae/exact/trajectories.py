"""Play in a `TeamGame`: sampled, or every possible course of it with its probability, as the estimators take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpae.errors import unknown_name
from gpae.estimators import BOOTSTRAPS, Bootstrap
from gpae.exact.games import Floats, TeamGame
from gpae.exact.solve import joint, lift, log_ratios

Ints = NDArray[np.int64]

MAX_TRAJECTORIES = 2_000_000


@dataclass(frozen=True)
class Rollout:
    """T rows of E environments; every array is [T, E]. Joint actions by number, see `TeamGame.joint_actions`."""

    states: Ints
    """s_t; a row after the end of an episode begins a new one."""
    actions: Ints
    """a_t."""
    rewards: Floats
    """r(s_t, a_t)."""
    terminated: NDArray[np.bool_]
    """Step t arrived in a terminal state."""
    truncated: NDArray[np.bool_]
    """Step t reached the time limit."""
    next_states: Ints
    """Where step t arrived, before any reset."""
    next_actions: Ints
    """The action there: row t + 1's, or one more draw from mu at a truncation or the window's end.

    After a termination it means nothing.
    """


def sample_trajectories(
    game: TeamGame,
    behaviour: Floats,
    rng: np.random.Generator,
    *,
    steps: int,
    environments: int,
    limit: int | None = None,
) -> Rollout:
    """Independent environments that all begin an episode at row 0.

    Args:
      game: the game.
      behaviour: mu, [N, S, A].
      rng: source of randomness.
      steps: T.
      environments: E.
      limit: number of steps after which an episode is truncated; None for never.
    """
    mu = joint(game, behaviour)
    rows: list[tuple] = []
    states = _draw(rng, np.broadcast_to(game.start, (environments, game.states)))
    actions = _draw(rng, mu[states])
    age = np.zeros(environments, np.int64)
    for _ in range(steps):
        arrived = _draw(rng, game.transitions[states, actions])
        age += 1
        terminated = game.terminal[arrived]
        truncated = ~terminated & (age == limit)
        later = _draw(rng, mu[arrived])
        rows.append((states, actions, game.rewards[states, actions], terminated, truncated, arrived, later))
        fresh = _draw(rng, np.broadcast_to(game.start, (environments, game.states)))
        ended = terminated | truncated
        states = np.where(ended, fresh, arrived)
        actions = np.where(ended, _draw(rng, mu[fresh]), later)
        age[ended] = 0
    return Rollout(*(np.stack(column) for column in zip(*rows, strict=True)))


def enumerate_trajectories(
    game: TeamGame, behaviour: Floats, *, steps: int, fresh: Floats | None = None
) -> tuple[Rollout, Floats, Ints | None]:
    """Every course that T rows can take, one per environment.

    Args:
      game: the game.
      behaviour: mu, [N, S, A].
      steps: T.
      fresh: a policy [N, S, A] from which one more joint action is drawn at every next state.

    Returns:
      The rollout, the probability of each environment [E], and the fresh actions [T, E] if there are any.

    Raises:
      ValueError: more than `MAX_TRAJECTORIES` of them.
    """
    mu = joint(game, behaviour)
    everywhere = np.eye(game.states)
    columns: dict[str, Ints] = {}
    probability = np.ones(1)

    def branch(name: str, table: Floats) -> None:
        """Continues every course so far by each pick that `table`, [courses, picks], gives a probability."""
        nonlocal probability, columns
        courses, picks = np.nonzero(table)
        if len(courses) > MAX_TRAJECTORIES:
            raise ValueError(f"more than {MAX_TRAJECTORIES} trajectories: fewer steps, states or actions would do")
        probability = probability[courses] * table[courses, picks]
        columns = {key: column[courses] for key, column in columns.items()} | {name: picks}

    branch("state 0", game.start[None])
    branch("action 0", mu[columns["state 0"]])
    for t in range(steps):
        branch(f"next state {t}", game.transitions[columns[f"state {t}"], columns[f"action {t}"]])
        if fresh is not None:
            branch(f"fresh {t}", joint(game, fresh)[columns[f"next state {t}"]])
        arrived = columns[f"next state {t}"]
        branch(f"state {t + 1}", np.where(game.terminal[arrived][:, None], game.start, everywhere[arrived]))
        branch(f"action {t + 1}", mu[columns[f"state {t + 1}"]])

    def stacked(name: str, first: int = 0) -> Ints:
        return np.stack([columns[f"{name} {t}"] for t in range(first, first + steps)])

    states, actions, next_states = stacked("state"), stacked("action"), stacked("next state")
    terminated = game.terminal[next_states]
    rollout = Rollout(
        states=states,
        actions=actions,
        rewards=game.rewards[states, actions],
        terminated=terminated,
        truncated=np.zeros_like(terminated),
        next_states=next_states,
        next_actions=stacked("action", 1),
    )
    return rollout, probability, None if fresh is None else stacked("fresh")


def estimator_arguments(
    game: TeamGame,
    rollout: Rollout,
    policy: Floats,
    behaviour: Floats,
    tables: Floats,
    bootstrap: Bootstrap = "sampled",
    fresh: Ints | None = None,
) -> dict[str, NDArray]:
    """The arrays that `gpae.estimators.gpae` takes, [T, E] and [T, E, N], with `tables` in the critic's place.

    Args:
      game: the game.
      rollout: play of `behaviour`.
      policy: pi, [N, S, A].
      behaviour: mu, [N, S, A].
      tables: f^i(s, a^-i), [N, S, A^(N-1)].
      bootstrap: how the next values are made, see `operators.Form`.
      fresh: joint actions drawn from pi at the next states, [T, E]; for "resampled".
    """
    if bootstrap not in BOOTSTRAPS:
        raise unknown_name("bootstrap", bootstrap, BOOTSTRAPS)
    if (fresh is None) == (bootstrap == "resampled"):
        raise ValueError("fresh must be given for the resampled bootstrap, and for no other")
    logs = log_ratios(game, policy, behaviour)
    pi = joint(game, policy)
    read = np.stack([lift(game, i, tables[i]) for i in range(game.agents)])  # [N, S, J]

    def at(table: Floats, states: Ints, actions: Ints) -> Floats:
        return np.moveaxis(table[:, states, actions], 0, -1)

    states, actions = rollout.next_states, rollout.next_actions
    if bootstrap == "expected":
        next_values = np.moveaxis((pi * read).sum(-1)[:, states], 0, -1)
    elif fresh is not None:
        next_values = at(read, states, fresh)
    else:
        next_values = at(read, states, actions)
        if bootstrap == "weighted":
            next_values = next_values * np.exp(at(logs.sum(0) - logs, states, actions))
    return {
        "rewards": rollout.rewards,
        "values": at(read, rollout.states, rollout.actions),
        "next_values": next_values,
        "terminated": rollout.terminated,
        "truncated": rollout.truncated,
        "log_ratios": at(logs, rollout.states, rollout.actions),
    }


def draw_actions(game: TeamGame, policy: Floats, states: Ints, rng: np.random.Generator) -> Ints:
    """One joint action from `policy` in each of `states`, of their shape."""
    return _draw(rng, joint(game, policy)[states.reshape(-1)]).reshape(states.shape)


def _draw(rng: np.random.Generator, probabilities: Floats) -> Ints:
    """One pick per row of `probabilities`, [E, picks]."""
    edges = np.cumsum(probabilities, axis=-1)
    return (rng.random((len(edges), 1)) * edges[:, -1:] >= edges).sum(-1)
