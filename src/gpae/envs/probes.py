"""Probe environments: so small that the right answer is known, each telling of one part when that part is broken.

Every probe is a frozen dataclass with a settable number of agents; gamma is the learner's. `t` counts rows of an
episode from 0 and L is the probe's `length`. Values are EQ^i, hence the same for all agents where nothing else is
said. In the spirit of the test environments of rejax and of A. Jones, "Debugging RL, Without the Agonizing Pain".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from gpae.envs.protocol import Discrete, EnvSpec, Outcome
from gpae.errors import UserError
from gpae.types import View


@struct.dataclass
class ProbeState:
    """The state of every probe."""

    time: Array
    """[] int32: steps made."""
    cue: Array
    """[] int32: what was drawn, or what was done, in [0, 2)."""


@dataclass(frozen=True)
class Probe(ABC):
    """What the probes have in common: two or more actions, L steps, a cue of two values, a state that tells all.

    Unless a probe says otherwise each agent observes the global state: one-hot time [L + 1] and one-hot cue [2].
    """

    num_agents: int = 2
    length: int = 1
    """L, the number of steps of an episode."""

    name: ClassVar[str]
    has_wins: ClassVar[bool] = False
    num_actions: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for option in ("num_agents", "length"):
            if getattr(self, option) < 1:
                raise UserError(f"{self.name}: {option} must be at least 1, not {getattr(self, option)}")

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        size = self.length + 3
        return EnvSpec(
            name=self.name,
            num_agents=self.num_agents,
            actions=Discrete(tuple(str(a) for a in range(self.num_actions))),
            observation_size=size,
            state_size=size,
            episode_limit=self.length,
            has_wins=self.has_wins,
        )

    def reset(self, key: Array) -> ProbeState:
        """Time 0 and a cue drawn evenly from {0, 1}."""
        return ProbeState(time=jnp.int32(0), cue=jax.random.randint(key, (), 0, 2))

    def step(self, key: Array, state: ProbeState, actions: Array) -> tuple[ProbeState, Outcome]:
        """One step; the last one terminates."""
        last = state.time + 1 >= self.length
        outcome = Outcome(
            reward=self._reward(state, actions, last),
            terminated=last,
            truncated=jnp.zeros((), bool),
            won=last & self._won(state, actions),
        )
        return replace(state, time=state.time + 1), outcome

    def observe(self, state: ProbeState) -> View:
        """Everything, for every agent."""
        told = self._told(state)
        return View(
            observations=jnp.tile(told, (self.num_agents, 1)),
            state=told,
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            alive=jnp.ones(self.num_agents, bool),
        )

    def _told(self, state: ProbeState) -> Array:
        return jnp.concatenate([jax.nn.one_hot(state.time, self.length + 1), jax.nn.one_hot(state.cue, 2)])

    @abstractmethod
    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        """The team's reward for the step; `last` says whether it ends the episode."""

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return jnp.zeros((), bool)


@dataclass(frozen=True)
class Constant(Probe):
    """Reward 1, one step. Value 1. If it fails: the value loss or the optimiser."""

    name: ClassVar[str] = "probe/constant"

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return jnp.float32(1)


@dataclass(frozen=True)
class Observation(Probe):
    """Reward 2 cue - 1, one step. Value -1 where the cue is 0, +1 where it is 1. If it fails: what the critic sees."""

    name: ClassVar[str] = "probe/observation"

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return 2 * state.cue.astype(jnp.float32) - 1


@dataclass(frozen=True)
class Delay(Probe):
    """Reward 1 at the last of L steps. Value gamma^(L-1-t), so gamma^(L-1) at the first row. If it fails: discounts."""

    length: int = 2
    name: ClassVar[str] = "probe/delay"

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return last.astype(jnp.float32)


@dataclass(frozen=True)
class Team(Probe):
    """A one-step matrix game with known credit; the last of three agents is lazy: its action does not matter.

    Agent i < N - 1 is right when it plays (cue + i) mod 2. The reward is the share of these agents that are right,

        r = sum_{i < N-1} 1[a^i right] / (N - 1),

    so with p^i the probability that agent i is right

        EQ^i = (sum_{j != i} 1[a^j right] + p^i) / (N - 1)      A^i = (1[a^i right] - p^i) / (N - 1)

    for i < N - 1, and EQ = r, A = 0 for the lazy agent. The best value is 1, a win (all right); uniform play has 1/2.
    If it fails: policy gradient, or credit.
    """

    num_agents: int = 3
    name: ClassVar[str] = "probe/team"
    has_wins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_two(self)

    def right(self, state: ProbeState) -> Array:
        """The right action of every agent but the lazy one, [N - 1] int32."""
        return (state.cue + jnp.arange(self.num_agents - 1, dtype=jnp.int32)) % 2

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return jnp.mean((actions[:-1] == self.right(state)).astype(jnp.float32))

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return jnp.all(actions[:-1] == self.right(state))


@dataclass(frozen=True)
class Memory(Probe):
    """The cue is seen at the first row only; at the last of L steps every agent must play it.

    The reward there is the share of agents that do; all doing so is a win. With memory the value is gamma^(L-1-t) and
    every episode is won; without, it is at best gamma^(L-1-t) / 2 and half of them are. The state for the critic tells
    the cue at every row. If it fails: the recurrent policy, or the resets of its memory.
    """

    length: int = 4
    name: ClassVar[str] = "probe/memory"
    has_wins: ClassVar[bool] = True

    def observe(self, state: ProbeState) -> View:
        """The cue is blanked in the observations of all rows but the first."""
        view = super().observe(state)
        seen = jnp.arange(view.observations.shape[-1]) <= self.length
        return replace(view, observations=jnp.where(seen | (state.time == 0), view.observations, jnp.float32(0)))

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return jnp.where(last, jnp.mean((actions == state.cue).astype(jnp.float32)), jnp.float32(0))

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return jnp.all(actions == state.cue)


@dataclass(frozen=True)
class TimeLimit(Probe):
    """Reward 1 at every step for ever; a time limit cuts it off after L. All that is seen is a constant.

    Value 1 / (1 - gamma) at every row, the final one included. Were the limit taken for a termination it would be
    (1 - gamma^(L-t)) / (1 - gamma), over t at most (1 - gamma^L) / (1 - gamma). If it fails: the bootstrap.
    """

    length: int = 5
    name: ClassVar[str] = "probe/time_limit"

    def step(self, key: Array, state: ProbeState, actions: Array) -> tuple[ProbeState, Outcome]:
        """One step; the L-th truncates."""
        following, outcome = super().step(key, state, actions)
        return following, replace(outcome, terminated=outcome.truncated, truncated=outcome.terminated)

    def _told(self, state: ProbeState) -> Array:
        return jnp.ones(self.length + 3)

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return jnp.float32(1)


@dataclass(frozen=True)
class Stay(TimeLimit):
    """As `TimeLimit`, but an agent that plays 1 ends the episode, with reward `prize` instead of 1.

    Staying (all play 0) is worth 1 / (1 - gamma), leaving `prize`: with gamma = 0.9 and the default 5 staying is best,
    and its value is 10. Were the limit taken for a termination, staying would seem worth at most
    (1 - gamma^L) / (1 - gamma) = 2.71 (L = 3), and leaving best. A row can thus end in either way, or in both (then it
    is a termination). If it fails: the bootstrap, in what the policy does.
    """

    length: int = 3
    prize: float = 5.0
    name: ClassVar[str] = "probe/stay"

    def step(self, key: Array, state: ProbeState, actions: Array) -> tuple[ProbeState, Outcome]:
        """One step; leaving terminates, the L-th step truncates otherwise."""
        following, outcome = super().step(key, state, actions)
        leave = jnp.any(actions == 1)
        return following, replace(outcome, terminated=leave, truncated=outcome.truncated & ~leave)

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return jnp.where(jnp.any(actions == 1), jnp.float32(self.prize), jnp.float32(1))


@dataclass(frozen=True)
class Death(Probe):
    """Agent 0 acts once and is dead from the second row on; what it did is rewarded at the last of L steps.

    The reward there is 1 if agent 0's first action was 1, else 0; nothing else matters. The value at the rows t > 0 is
    gamma^(L-1-t) if it was, else 0, for every agent, the dead one too: values and traces run through death. At the
    first row, with p the probability that agent 0 plays 1,

        EQ^0 = gamma^(L-1) p      EQ^j = gamma^(L-1) 1[a^0 = 1]      A^0 = gamma^(L-1) (1[a^0 = 1] - p)      A^j = 0

    The dead agent sees zeros and its one legal action is 0. If it fails: an agent's death is taken for the episode's
    end, or its rows before death are masked.
    """

    length: int = 3
    name: ClassVar[str] = "probe/death"

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes; agents die."""
        return replace(super().spec, agents_die=True)

    def reset(self, key: Array) -> ProbeState:
        """Time 0, nothing done yet."""
        return ProbeState(time=jnp.int32(0), cue=jnp.int32(0))

    def step(self, key: Array, state: ProbeState, actions: Array) -> tuple[ProbeState, Outcome]:
        """One step; the cue keeps what agent 0 did at the first."""
        state = replace(state, cue=jnp.where(state.time == 0, actions[0], state.cue))
        return super().step(key, state, actions)

    def observe(self, state: ProbeState) -> View:
        """Zeros and one legal action for the dead."""
        view = super().observe(state)
        alive = (jnp.arange(self.num_agents) > 0) | (state.time == 0)
        return replace(
            view,
            observations=jnp.where(alive[:, None], view.observations, jnp.float32(0)),
            action_mask=alive[:, None] | (jnp.arange(2) == 0)[None, :],
            alive=alive,
        )

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        return (last & (state.cue == 1)).astype(jnp.float32)


@dataclass(frozen=True)
class NonMonotone(Probe):
    """A one-state, one-step matrix game in which an agent's best action depends on what the other one does.

    Three actions; the reward by those of the first two agents (others are of no consequence), p = `penalty`:

               0    1    2
          0    1   -p   -p
          1   -p    0    0         best: both play 0, reward 1, a win
          2   -p    0    0

    A team value that rises with every agent's own cannot have this shape. Under even exploration the best fit, by the
    number of agents that play 0, is

                                      both            one             none
          a sum (VDN)                 (5 - 8 p) / 9   (2 - 5 p) / 9   -(1 + 2 p) / 9
          any monotone one (QMIX)     (1 - 4 p) / 5   (1 - 4 p) / 5   0

    the second where p > 1.72, so that both methods play 1 or 2, for a reward of 0. The pay-offs in use elsewhere, 8 and
    -12, are p = 1.5: there the monotone fit of least error does have its greatest value where both play 0, and what
    keeps QMIX from it is only that learning does not find it. If VDN or QMIX wins: its mixer is not what it says.

    Source: Son et al. 2019, arXiv 1905.05408 (QTRAN), with p = 1.5.
    """

    penalty: float = 2.0
    name: ClassVar[str] = "probe/non_monotone"
    has_wins: ClassVar[bool] = True
    num_actions: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_two(self)

    def reset(self, key: Array) -> ProbeState:
        """The one state."""
        return ProbeState(time=jnp.int32(0), cue=jnp.int32(0))

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        zeros = jnp.sum(actions[:2] == 0)
        return jnp.select([zeros == 2, zeros == 1], [jnp.float32(1), jnp.float32(-self.penalty)], jnp.float32(0))

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return jnp.all(actions[:2] == 0)


@dataclass(frozen=True)
class TwoStep(Probe):
    """Agent 0 chooses at the first step which game is played at the second; all see which.

    If it plays 0 the reward of the second step is 7/8 whatever is done; if 1 it is, by the first two agents' actions,

               0     1
          0    0    1/8
          1   1/8    1             best: 1 first, then both 1: reward 1, a win

    This is monotone, and QMIX, whose weights depend on the state, represents it and wins. A sum cannot: under even
    exploration its best fit of the second game is -3/16, 5/16, 5/16, 13/16, whose greatest is less than 7/8, so that
    VDN plays 0 first, for a reward of 7/8. If QMIX does: its weights do not depend on the state.

    Source: Rashid et al. 2018, arXiv 1803.11485, section 5 (pay-offs over 8).
    """

    length: int = 2
    name: ClassVar[str] = "probe/two_step"
    has_wins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_two(self)

    def reset(self, key: Array) -> ProbeState:
        """Nothing chosen yet."""
        return ProbeState(time=jnp.int32(0), cue=jnp.int32(0))

    def step(self, key: Array, state: ProbeState, actions: Array) -> tuple[ProbeState, Outcome]:
        """One step; the cue keeps what agent 0 did at the first."""
        following, outcome = super().step(key, state, actions)
        return replace(following, cue=jnp.where(state.time == 0, actions[0], state.cue)), outcome

    def _reward(self, state: ProbeState, actions: Array, last: Array) -> Array:
        both = jnp.select([jnp.all(actions[:2] == 1), jnp.any(actions[:2] == 1)], [jnp.float32(1), jnp.float32(0.125)])
        return jnp.where(last, jnp.where(state.cue == 1, both, jnp.float32(0.875)), jnp.float32(0))

    def _won(self, state: ProbeState, actions: Array) -> Array:
        return (state.cue == 1) & jnp.all(actions[:2] == 1)


def at_least_two(probe: Probe) -> None:
    """Refuses a probe of one agent.

    Raises:
      UserError: there is only one.
    """
    if probe.num_agents < 2:
        raise UserError(f"{probe.name}: num_agents must be at least 2, not {probe.num_agents}")
