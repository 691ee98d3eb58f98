"""The multi-agent particle environments that have one team, on JaxMARL's physics.

Actions are five moves, or with `actions="continuous"` a force (x, y) in [-1, 1]^2, which is what JaxMARL's five numbers
in [0, 1] come to; what is said is numbers in [-1, 1] then, which JaxMARL has in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import (
    PREDATORS,
    SimpleReferenceMPE,
    SimpleSpeakerListenerMPE,
    SimpleSpreadMPE,
    SimpleTagMPE,
)
from gpae.envs.muted import muted
from gpae.envs.padding import padded
from gpae.envs.protocol import Box, Discrete, EnvSpec, Outcome, Scene
from gpae.envs.ranges import at_least, between
from gpae.types import View

ActionKind = Literal["discrete", "continuous"]
MOVES = ("stop", "west", "east", "south", "north")
_FORCES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
_WINDOW = 4.0


def five_numbers(force: Array) -> Array:
    """JaxMARL's continuous action (nothing, west, east, south, north), [..., 5], for a force [..., 2]; clipped."""
    force = jnp.clip(force, -1.0, 1.0)
    ways = jnp.stack([jnp.maximum(-force, 0.0), jnp.maximum(force, 0.0)], axis=-1)
    ways = ways.reshape(*force.shape[:-1], 4)
    return jnp.concatenate([jnp.zeros_like(ways[..., :1]), ways], axis=-1)


class Particles(ABC):
    """What they have in common: padded observations, a state of all that is, a time limit that truncates.

    The state is the velocities of who moves, all positions, what is said where somebody speaks, and the goals, one-hot.
    """

    def __init__(self, name: str, env: Any, team: int, actions: Discrete | Box) -> None:
        self.jaxmarl = env
        self._team = env.agents[:team]
        seen, state = jax.eval_shape(env.reset, jax.random.key(0))
        self._goals = 0 if state.goal is None else int(np.prod(state.goal.shape, dtype=int))
        sizes = [seen[agent].shape[0] for agent in self._team]
        moving = 2 * env.num_agents
        self._speaks = not np.all(np.asarray(env.silent))
        self._spec = EnvSpec(
            name=name,
            num_agents=team,
            actions=actions,
            observation_size=max(sizes),
            state_size=moving + 2 * env.num_entities + state.c.size * self._speaks + self._goals * env.num_landmarks,
            episode_limit=env.max_steps + 1,
            has_agent_rewards=True,
        )

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> Any:
        """JaxMARL's reset."""
        return self.jaxmarl.reset(key)[1]

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """JaxMARL's `step_env`; the team's reward is the mean of its agents'."""
        return self._step(key, state, self._given(actions))

    def _step(self, key: Array, state: Any, given: dict[str, Array]) -> tuple[Any, Outcome]:
        _, state, rewards, dones, _ = self.jaxmarl.step_env(key, state, given)
        own = jnp.stack([rewards[agent] for agent in self._team]).astype(jnp.float32)
        outcome = Outcome(
            reward=jnp.mean(own),
            terminated=jnp.zeros((), bool),
            truncated=dones["__all__"],
            won=jnp.zeros((), bool),
            agent_rewards=own,
        )
        return state, outcome

    def observe(self, state: Any) -> View:
        """JaxMARL's observations, with zeros behind those that are shorter."""
        spec, env = self.spec, self.jaxmarl
        seen = env.get_obs(state)
        told = [state.p_vel[: env.num_agents].reshape(-1), state.p_pos.reshape(-1)]
        if self._speaks:
            told.append(state.c.reshape(-1))
        if self._goals:
            told.append(jax.nn.one_hot(state.goal, env.num_landmarks).reshape(-1))
        return View(
            observations=padded([seen[agent] for agent in self._team], spec.observation_size),
            state=jnp.concatenate(told),
            action_mask=self._mask(),
            alive=jnp.ones(spec.num_agents, bool),
        )

    def scene(self, state: Any) -> Scene:
        """The team, others that move, and landmarks in a window of [-2, 2]^2; who strays further is at its edge."""
        env, team = self.jaxmarl, self.spec.num_agents
        counts = [team, env.num_agents - team, env.num_entities - env.num_agents]
        return Scene(
            size=(_WINDOW, _WINDOW),
            positions=np.clip(np.asarray(state.p_pos) + _WINDOW / 2, 0.0, _WINDOW),
            radii=np.asarray(env.rad),
            teams=np.repeat([0, 1, 2], counts),
            health=np.ones(env.num_entities),
            labels=tuple(str(i) for i in range(team)) + ("",) * (env.num_entities - team),
            attacks=(),
        )

    def _mask(self) -> Array:
        return jnp.ones((self.spec.num_agents, self.spec.actions.size), bool)

    @abstractmethod
    def _given(self, actions: Array) -> dict[str, Array]:
        """JaxMARL's actions, by agent."""

    def _said(self, words: Array, number: int) -> Array:
        """What is said, in [0, 1]: of continuous actions [..., C], or one of `number` words [...]."""
        if self.spec.continuous:
            return (jnp.clip(words, -1.0, 1.0) + 1.0) / 2.0
        return jax.nn.one_hot(words, number)

    def _force(self, moves: Array) -> Array:
        return moves if self.spec.continuous else jnp.asarray(_FORCES)[moves]


class SimpleSpread(Particles):
    """N agents shall cover N landmarks without touching each other.

    Args:
      num_agents: N, at least 2; there are as many landmarks.
      local_ratio: weight of an agent's own collisions in its reward, in [0, 1]; the landmarks' is 1 - local_ratio.
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.
      actions: "discrete", five moves; or "continuous", a force in [-1, 1]^2.

    Raises:
      UserError: an option out of its range.

    The team's reward is the mean over agents of JaxMARL's rewards,

        r = (1 - local_ratio) sum_l -min_i |x_i - x_l| + local_ratio mean_i -(collisions of i with others)

    The time limit is a truncation and there is no other end. The state is all agents' velocities and positions and
    the landmarks' positions, [6 N]; an observation is JaxMARL's, [4 + 2 N + 4 (N - 1)].

    Source: Lowe et al. 2017 (arXiv 1706.02275); jaxmarl.environments.mpe.simple_spread.
    """

    def __init__(
        self,
        *,
        num_agents: int = 3,
        local_ratio: float = 0.5,
        max_steps: int = 25,
        actions: ActionKind = "discrete",
    ) -> None:
        at_least("num_agents", num_agents, 2)
        between("local_ratio", local_ratio, 0, 1)
        at_least("max_steps", max_steps, 1)
        with muted():
            env: Any = SimpleSpreadMPE(
                num_agents=num_agents,
                num_landmarks=num_agents,
                local_ratio=local_ratio,
                max_steps=max_steps,
                action_type=actions.capitalize(),
            )
        kind = Discrete(MOVES) if actions == "discrete" else Box(2)
        super().__init__("mpe/simple_spread", env, num_agents, kind)

    def _given(self, actions: Array) -> dict[str, Array]:
        if self.spec.continuous:
            actions = five_numbers(actions)
        return dict(zip(self.jaxmarl.agents, actions, strict=True))


class SimpleReference(Particles):
    """Each of two agents is to reach a landmark that only the other one knows; both move, and say one of ten words.

    The team's reward is minus the mean distance of the agents from their landmarks. A discrete action is 5 word + move;
    a continuous one the force and ten numbers.

    Args:
      actions: "discrete", or "continuous".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

    Raises:
      UserError: an option out of its range.

    Source: Lowe et al. 2017 (arXiv 1706.02275); jaxmarl.environments.mpe.simple_reference.
    """

    def __init__(self, *, actions: ActionKind = "discrete", max_steps: int = 25) -> None:
        words = tuple(f"{move} {word}" for word in range(10) for move in MOVES)
        kind = Discrete(words) if actions == "discrete" else Box(12)
        super().__init__("mpe/simple_reference", _made(SimpleReferenceMPE, max_steps), 2, kind)

    def _given(self, actions: Array) -> dict[str, Array]:
        if self.spec.continuous:
            moves, words = actions[:, :2], actions[:, 2:]
        else:
            moves, words = actions % 5, actions // 5
        sent = jnp.concatenate([five_numbers(self._force(moves)), self._said(words, 10)], axis=-1)
        return dict(zip(self.jaxmarl.agents, sent, strict=True))


class SimpleSpeakerListener(Particles):
    """The speaker, who does not move, sees which landmark the listener is to reach, and says one of three words.

    The team's reward is minus the listener's squared distance from it. Of the five discrete actions the speaker has
    three, "stop", "west" and "east", which are its words; of three continuous numbers the listener has two, its force.

    Args:
      actions: "discrete", or "continuous".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

    Raises:
      UserError: an option out of its range.

    Source: Lowe et al. 2017 (arXiv 1706.02275); jaxmarl.environments.mpe.simple_speaker_listener.
    """

    def __init__(self, *, actions: ActionKind = "discrete", max_steps: int = 25) -> None:
        kind = Discrete(MOVES) if actions == "discrete" else Box(3)
        super().__init__("mpe/simple_speaker_listener", _made(SimpleSpeakerListenerMPE, max_steps), 2, kind)

    def _mask(self) -> Array:
        speaker, listener = (3, 2) if self.spec.continuous else (3, 5)
        return jnp.arange(self.spec.actions.size)[None, :] < jnp.array([[speaker], [listener]])

    def _given(self, actions: Array) -> dict[str, Array]:
        speaker, listener = self.jaxmarl.agents
        moves = actions[1, :2] if self.spec.continuous else actions[1]
        return {speaker: self._said(actions[0], 3), listener: five_numbers(self._force(moves))}


class Predators(Particles):
    """FACMAC's predators, who are rewarded 10 for each touch of a prey, which JaxMARL's script plays.

    Args:
      size: "3a", "6a" or "9a": so many predators, and a third as many prey.
      actions: "discrete", or "continuous", as in FACMAC.
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

    Raises:
      UserError: an option out of its range.

    Three slips of JaxMARL 0.2 are kept: its script looks for a way from the place of the last predator, not of the
    prey; it takes only places where it would touch a predator; and whether others are out of view is decided for all
    at once.

    Source: Peng et al. 2021 (arXiv 2003.06709); jaxmarl.environments.mpe.simple_facmac.
    """

    def __init__(self, size: str, *, actions: ActionKind = "discrete", max_steps: int = 25) -> None:
        at_least("max_steps", max_steps, 1)
        with muted():
            env = PREDATORS[size]()
        env.max_steps = max_steps
        kind = Discrete(MOVES) if actions == "discrete" else Box(2)
        super().__init__(f"mpe/facmac_{size}", env, env.num_adversaries, kind)

    def _given(self, actions: Array) -> dict[str, Array]:
        sent = five_numbers(self._force(actions))
        env = self.jaxmarl
        return dict(zip(env.adversaries, sent, strict=True)) | dict.fromkeys(env.good_agents, jnp.zeros_like(sent[0]))


class SimpleTag(Particles):
    """Slow hunters catch a faster prey, which is scripted.

    Args:
      num_hunters: of the team, at least 1.
      num_obstacles: round things that nobody passes.
      prey: "flees" to where, one step ahead, the nearest hunter is farthest and the edge ([-1, 1]^2) not near, or moves
        at "random".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

    Raises:
      UserError: an option out of its range.

    The reward is 10 for each hunter that touches the prey. The hunters are JaxMARL's adversaries and see what those do;
    the prey's policy is ours, so that figures of other libraries' simple_tag do not compare.

    Source: Lowe et al. 2017 (arXiv 1706.02275); jaxmarl.environments.mpe.simple_tag.
    """

    def __init__(
        self,
        *,
        num_hunters: int = 3,
        num_obstacles: int = 2,
        prey: Literal["flees", "random"] = "flees",
        max_steps: int = 25,
    ) -> None:
        at_least("num_hunters", num_hunters, 1)
        at_least("num_obstacles", num_obstacles, 1)
        at_least("max_steps", max_steps, 1)
        with muted():
            env: Any = SimpleTagMPE(num_adversaries=num_hunters, num_obs=num_obstacles, max_steps=max_steps)
        self._flees = prey == "flees"
        super().__init__("mpe/simple_tag", env, num_hunters, Discrete(MOVES))

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """JaxMARL's `step_env`, with the prey's move."""
        key, prey_key = jax.random.split(key)
        move = self._flight(state) if self._flees else jax.random.randint(prey_key, (), 0, len(MOVES), jnp.int32)
        return self._step(key, state, self._given(actions) | {self.jaxmarl.good_agents[0]: move})

    def _given(self, actions: Array) -> dict[str, Array]:
        return dict(zip(self._team, actions, strict=True))

    def _flight(self, state: Any) -> Array:
        hunters = state.p_pos[: len(self._team)]
        there = state.p_pos[len(self._team)] + 0.2 * jnp.asarray(_FORCES)
        nearest = jnp.min(jnp.linalg.norm(there[:, None] - hunters[None], axis=-1), axis=-1)
        outside = jnp.sum(jnp.maximum(jnp.abs(there) - 0.9, 0.0), axis=-1)
        return jnp.argmax(nearest - 10.0 * outside).astype(jnp.int32)


def predators_3a(*, actions: ActionKind = "discrete", max_steps: int = 25) -> Predators:
    """Three predators after one prey."""
    return Predators("3a", actions=actions, max_steps=max_steps)


def predators_6a(*, actions: ActionKind = "discrete", max_steps: int = 25) -> Predators:
    """Six predators after two prey."""
    return Predators("6a", actions=actions, max_steps=max_steps)


def predators_9a(*, actions: ActionKind = "discrete", max_steps: int = 25) -> Predators:
    """Nine predators after three prey."""
    return Predators("9a", actions=actions, max_steps=max_steps)


def _made(kind: Any, max_steps: int) -> Any:
    at_least("max_steps", max_steps, 1)
    with muted():
        return kind(action_type="Continuous", max_steps=max_steps)
