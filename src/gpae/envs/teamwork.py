"""Teamwork: N agents, each with its own task that it alone sees, paid by the mean of what they achieve.

The question is how hard it is to learn one's own part from a reward that N - 1 others move as well. All else is easy:
no memory, tasks that are drawn anew at each step, an optimum of 1, values in closed form (`gpae.exact.teamwork`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.envs.protocol import Discrete, EnvSpec, Outcome
from gpae.errors import UserError
from gpae.types import View

SIZES = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of agents."""


@struct.dataclass
class TeamworkState:
    """The state of the team."""

    time: Array
    """[] int32: steps made."""
    cues: Array
    """[N] int32: which of its tasks each agent has now, in [0, cues)."""
    pending: Array
    """[N, delay] float32: what each agent did right at the last steps and is not paid yet, the oldest last."""


@dataclass(frozen=True)
class Teamwork:
    """N agents with a task each.

    At each of L steps each agent is shown a task, drawn evenly from its `cues` ones, and does it right, h^i = 1, by one
    of its `actions`, else h^i = 0. The step is worth

        f(h) = 1/N sum_i h^i (1 - k + k h^(i+1)),    i + 1 modulo N,

    and f(h) / L is paid `delay` steps later, with noise. The best return is 1, whatever the options; even play has
    ((1 - k) / A + k / A^2) for A actions.
    An agent's own reward is its term of the sum, over L, with the same noise. Time is in the observations and in the
    state; the state also tells all tasks, and what is not paid yet.

    Raises:
      UserError: an option out of its range.
    """

    num_agents: int = 8
    length: int = 8
    """L, steps at which a task is done."""
    cues: int = 2
    """Tasks of an agent."""
    num_actions: int = 4
    """A."""
    tasks: Literal["own", "alike"] = "own"
    """own: an agent sees which of all N x cues tasks it has, so that nothing is learnt from another's; alike: all have
    the same ones."""
    noise: float = 0.0
    """Standard deviation of what is added to each step's reward, in units of f / L."""
    delay: int = 0
    """Steps from an action to its reward; an episode has L + delay rows, and at the last ones actions do nothing."""
    interaction: float = 0.0
    """k in [0, 1]: how much of an agent's achievement counts only where its neighbour is right too."""

    def __post_init__(self) -> None:
        for option, least in (("num_agents", 2), ("length", 1), ("cues", 1), ("num_actions", 2), ("delay", 0)):
            if getattr(self, option) < least:
                raise UserError(f"teamwork: {option} must be at least {least}, not {getattr(self, option)}")
        if self.noise < 0:
            raise UserError(f"teamwork: noise must not be negative, but is {self.noise}")
        if not 0 <= self.interaction <= 1:
            raise UserError(f"teamwork: interaction must be in [0, 1], not {self.interaction}")

    @property
    def rows(self) -> int:
        """Steps of an episode."""
        return self.length + self.delay

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        kinds = self.num_agents if self.tasks == "own" else 1
        return EnvSpec(
            name=f"teamwork/{self.num_agents}",
            num_agents=self.num_agents,
            actions=Discrete(tuple(str(a) for a in range(self.num_actions))),
            observation_size=kinds * self.cues + self.rows + 1,
            state_size=self.num_agents * (self.cues + self.delay) + self.rows + 1,
            episode_limit=self.rows,
            has_agent_rewards=True,
        )

    @property
    def right(self) -> np.ndarray:
        """The right action of each agent at each of its tasks, [N, cues] int32; fixed, drawn once from seed 0."""
        drawn = np.random.default_rng(0).integers(self.num_actions, size=(max(SIZES), self.cues), dtype=np.int32)
        if self.tasks == "alike":
            return np.tile((np.arange(self.cues) % self.num_actions).astype(np.int32), (self.num_agents, 1))
        return np.resize(drawn, (self.num_agents, self.cues))

    def reset(self, key: Array) -> TeamworkState:
        """Time 0, first tasks, nothing to be paid."""
        pending = jnp.zeros((self.num_agents, self.delay), jnp.float32)
        return TeamworkState(time=jnp.int32(0), cues=self._draw(key), pending=pending)

    def _draw(self, key: Array) -> Array:
        return jax.random.randint(key, (self.num_agents,), 0, self.cues, jnp.int32)

    def achieved(self, state: TeamworkState, actions: Array) -> Array:
        """h, [N] float32: who does its task right; nobody does after the L-th step."""
        right = jnp.asarray(self.right)[jnp.arange(self.num_agents), state.cues]
        return ((actions == right) & (state.time < self.length)).astype(jnp.float32)

    def shares(self, achieved: Array) -> Array:
        """What each agent's achievement is worth to itself, [N], of which f(h) is the mean."""
        k = jnp.float32(self.interaction)
        return achieved * (1 - k + k * jnp.roll(achieved, -1))

    def step(self, key: Array, state: TeamworkState, actions: Array) -> tuple[TeamworkState, Outcome]:
        """One step; the last one terminates."""
        noise_key, cue_key = jax.random.split(key)
        line = jnp.concatenate([self.achieved(state, actions)[:, None], state.pending], axis=1)
        noise = jnp.float32(self.noise) * jax.random.normal(noise_key, (), jnp.float32)
        last = state.time + 1 >= self.rows
        shares = self.shares(line[:, -1])
        outcome = Outcome(
            reward=(jnp.mean(shares) + noise) / jnp.float32(self.length),
            terminated=last,
            truncated=jnp.zeros((), bool),
            won=jnp.zeros((), bool),
            agent_rewards=(shares + noise) / jnp.float32(self.length),
        )
        following = replace(state, time=state.time + 1, cues=self._draw(cue_key), pending=line[:, : self.delay])
        return following, outcome

    def observe(self, state: TeamworkState) -> View:
        """Each agent sees its task and the time; the state tells all."""
        agents = jnp.arange(self.num_agents)
        time = jax.nn.one_hot(state.time, self.rows + 1)
        own = jax.nn.one_hot(state.cues, self.cues)
        if self.tasks == "own":
            seen = jax.nn.one_hot(agents * self.cues + state.cues, self.num_agents * self.cues)
        else:
            seen = own
        return View(
            observations=jnp.concatenate([seen, jnp.tile(time, (self.num_agents, 1))], axis=1),
            state=jnp.concatenate([own.reshape(-1), state.pending.reshape(-1), time]),
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            alive=jnp.ones(self.num_agents, bool),
        )


def names() -> list[str]:
    """Numbers of agents, as names."""
    return [str(size) for size in SIZES]


def teamwork(
    agents: str,
    *,
    length: int = 8,
    cues: int = 2,
    num_actions: int = 4,
    tasks: Literal["own", "alike"] = "own",
    noise: float = 0.0,
    delay: int = 0,
    interaction: float = 0.0,
) -> Teamwork:
    """A `Teamwork` of so many agents; the options are its fields."""
    return Teamwork(int(agents), length, cues, num_actions, tasks, noise, delay, interaction)
