"""What an environment is: three pure functions and a description.

An environment is written for one instance; whoever runs it batches it with `jax.vmap`. `step` never resets, so the
last state of an episode can always be observed; `advance` adds the automatic reset that training wants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array


@dataclass(frozen=True)
class EnvSpec:
    """The fixed sizes and facts of an environment."""

    name: str
    """Registered name, such as "smax/2s3z"."""
    num_agents: int
    """N."""
    num_actions: int
    """A, the same for every agent (pad and mask with `View.legal_actions` where agents differ)."""
    observation_size: int
    """O."""
    state_size: int
    """S."""
    episode_limit: int
    """The largest number of steps an episode can have."""
    has_wins: bool
    """Whether `Outcome.won` means anything."""
    action_names: tuple[str, ...]
    """One short name per action."""


@struct.dataclass
class View:
    """What can be seen of an environment's state."""

    observations: Array
    """[N, O] float32; zeros for an agent that is out of play."""
    state: Array
    """[S] float32, for a centralised critic."""
    legal_actions: Array
    """[N, A] bool; every agent, in play or not, has at least one."""
    alive: Array
    """[N] bool: the agent is in play."""


@struct.dataclass
class Outcome:
    """What one step brought. At most one of `terminated` and `truncated` is set."""

    reward: Array
    """[] float32, the team's."""
    terminated: Array
    """[] bool: the episode came to its own end; there is no value beyond."""
    truncated: Array
    """[] bool: the episode was cut off, by a time limit; the final state still has a value."""
    won: Array
    """[] bool: the episode ended with the team's win."""


@dataclass(frozen=True)
class Scene:
    """One moment of an environment, for drawing. NumPy arrays; M things."""

    size: tuple[float, float]
    """Width and height of the world; positions lie in [0, width] x [0, height], y upwards."""
    positions: Any
    """[M, 2]."""
    radii: Any
    """[M]."""
    teams: Any
    """[M] int: 0 the learning team, 1 the opponents, 2 scenery."""
    health: Any
    """[M] in [0, 1]; 0 is out of play and not drawn."""
    labels: tuple[str, ...]
    """M short labels."""
    attacks: tuple[tuple[int, int], ...]
    """Pairs (who, whom) of things that attack at this moment."""


@runtime_checkable
class Environment(Protocol):
    """A cooperative environment with discrete actions."""

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        ...

    def reset(self, key: Array) -> Any:
        """The first state of a new episode."""
        ...

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """The state after the team's `actions` ([N] int32), never reset, and what the step brought."""
        ...

    def observe(self, state: Any) -> View:
        """What can be seen of `state`."""
        ...


@struct.dataclass
class Running:
    """E environments in the midst of their episodes: what `advance` carries from row to row."""

    state: Any
    """The environments' states, each leaf [E, ...]."""
    starts: Array
    """[E] bool: this row begins an episode."""
    over: Array
    """[E] bool: this row shows the final state of a truncated episode; its action will not be executed."""


def begin(env: Environment, key: Array, num_envs: int) -> Running:
    """E = `num_envs` environments, each at the first row of an episode."""
    state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    return Running(state=state, starts=jnp.ones(num_envs, bool), over=jnp.zeros(num_envs, bool))


def unexecuted(outcome: Outcome, over: Array) -> Outcome:
    """`outcome`, and where the episode was `over` before it that of an action that is not executed."""
    return Outcome(
        reward=jnp.where(over, jnp.zeros_like(outcome.reward), outcome.reward),
        terminated=outcome.terminated & ~over,
        truncated=outcome.truncated | over,
        won=outcome.won & ~over,
    )


def advance(env: Environment, key: Array, running: Running, actions: Array) -> tuple[Running, Outcome, Array]:
    """One row in every environment, with the automatic reset of training.

    After a termination the next row begins a new episode. After a truncation one more row shows the final state,
    so that it can be valued; only the row after that begins a new episode:

        row of the step    next row    the row after
        terminated         starts      -
        truncated          over        starts

    Observations are no part of this: compute them once per row, by `jax.vmap(env.observe)(running.state)`.

    Args:
      env: any environment.
      key: one key, for all E.
      running: where the environments are.
      actions: [E, N] int32; not executed where `running.over`.

    Returns:
      running: the next row.
      outcome: what this row brought, leaves [E]. Where `running.over`: reward 0, truncated, neither terminated nor won.
      valid: [E] bool, whether the row's action was executed: not `running.over`.
    """
    over = running.over
    # [E, 2] keys; split per environment and not per purpose, so that it shards along E.
    keys = jax.vmap(jax.random.split)(jax.random.split(key, over.shape[0]))
    stepped, outcome = jax.vmap(env.step)(keys[:, 0], running.state, actions)
    fresh = jax.vmap(env.reset)(keys[:, 1])
    outcome = unexecuted(outcome, over)
    starts = outcome.terminated | over

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(starts.reshape(starts.shape + (1,) * (new.ndim - 1)), new, old)

    following = Running(
        state=jax.tree.map(choose, fresh, stepped),
        starts=starts,
        over=outcome.truncated & ~over,
    )
    return following, outcome, ~over


@dataclass(frozen=True)
class TimeoutIsTermination:
    """An environment whose time limit counts as the episode's own end, as JaxMARL's training scripts take it."""

    env: Environment

    @property
    def spec(self) -> EnvSpec:
        """The same."""
        return self.env.spec

    def reset(self, key: Array) -> Any:
        """The same."""
        return self.env.reset(key)

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """The same, but never truncated."""
        state, outcome = self.env.step(key, state, actions)
        ended = outcome.terminated | outcome.truncated
        return state, replace(outcome, terminated=ended, truncated=jnp.zeros_like(ended))

    def observe(self, state: Any) -> View:
        """The same."""
        return self.env.observe(state)

    @property
    def scene(self) -> Callable[[Any], Scene]:
        """The same, if it can be drawn."""
        return self.env.scene  # type: ignore[attr-defined]
