"""More of the multi-agent particle environments, on JaxMARL's physics: two that talk, and predators after prey.

Actions are five moves, or with `actions="continuous"` a force (x, y) in [-1, 1]^2, which is what JaxMARL's five numbers
in [0, 1] come to; what is said is numbers in [-1, 1] then, which JaxMARL has in [0, 1].
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import PREDATORS, SimpleReferenceMPE, SimpleSpeakerListenerMPE, muted
from gpae.envs.protocol import Box, Discrete, EnvSpec, Outcome, Scene
from gpae.errors import UserError
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


class Particles:
    """What they have in common: padded observations, a state of all that is, a time limit that truncates.

    The state is the velocities of who moves, all positions, what is said and the goals, one-hot.
    """

    def __init__(self, name: str, env: Any, team: int, actions: Discrete | Box) -> None:
        self.jaxmarl = env
        self._team = env.agents[:team]
        seen, state = jax.eval_shape(env.reset, jax.random.key(0))
        self._goals = 0 if state.goal is None else int(np.prod(state.goal.shape, dtype=int))
        sizes = [seen[agent].shape[0] for agent in self._team]
        moving = 2 * env.num_agents
        self._spec = EnvSpec(
            name=name,
            num_agents=team,
            actions=actions,
            observation_size=max(sizes),
            state_size=moving + 2 * env.num_entities + state.c.size + self._goals * env.num_landmarks,
            episode_limit=env.max_steps + 1,
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
        _, state, rewards, dones, _ = self.jaxmarl.step_env(key, state, self._given(actions))
        outcome = Outcome(
            reward=jnp.mean(jnp.stack([rewards[agent] for agent in self._team]).astype(jnp.float32)),
            terminated=jnp.zeros((), bool),
            truncated=dones["__all__"],
            won=jnp.zeros((), bool),
        )
        return state, outcome

    def observe(self, state: Any) -> View:
        """JaxMARL's observations, with zeros behind those that are shorter."""
        spec, env = self.spec, self.jaxmarl
        seen = env.get_obs(state)
        padded = [jnp.pad(seen[a], (0, spec.observation_size - seen[a].shape[0])) for a in self._team]
        told = [state.p_vel[: env.num_agents].reshape(-1), state.p_pos.reshape(-1), state.c.reshape(-1)]
        if self._goals:
            told.append(jax.nn.one_hot(state.goal, env.num_landmarks).reshape(-1))
        return View(
            observations=jnp.stack(padded),
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

    def _given(self, actions: Array) -> dict[str, Array]:
        """JaxMARL's actions, by agent."""
        raise NotImplementedError

    def _said(self, words: Array, number: int) -> Array:
        """What is said, in [0, 1]: of continuous actions [..., C], or one of `number` words [...]."""
        if self.spec.continuous:
            return (jnp.clip(words, -1.0, 1.0) + 1.0) / 2.0
        return jax.nn.one_hot(words, number)

    def _force(self, moves: Array) -> Array:
        return moves if self.spec.continuous else jnp.asarray(_FORCES)[moves]


class SimpleReference(Particles):
    """Each of two agents is to reach a landmark that only the other one knows; both move, and say one of ten words.

    The team's reward is minus the mean distance of the agents from their landmarks. A discrete action is 5 word + move;
    a continuous one the force and ten numbers.

    Args:
      actions: "discrete", or "continuous".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

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

    Three slips of JaxMARL 0.2 are kept: its script looks for a way from the place of the last predator, not of the
    prey; it takes only places where it would touch a predator; and whether others are out of view is decided for all
    at once.

    Source: Peng et al. 2021 (arXiv 2003.06709); jaxmarl.environments.mpe.simple_facmac.
    """

    def __init__(self, size: str, *, actions: ActionKind = "discrete", max_steps: int = 25) -> None:
        with muted():
            env = PREDATORS[size]()
        env.max_steps = _checked(max_steps)
        kind = Discrete(MOVES) if actions == "discrete" else Box(2)
        super().__init__(f"mpe/facmac_{size}", env, env.num_adversaries, kind)

    def _given(self, actions: Array) -> dict[str, Array]:
        sent = five_numbers(self._force(actions))
        env = self.jaxmarl
        return dict(zip(env.adversaries, sent, strict=True)) | dict.fromkeys(env.good_agents, jnp.zeros_like(sent[0]))


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
    with muted():
        return kind(action_type="Continuous", max_steps=_checked(max_steps))


def _checked(max_steps: int) -> int:
    if max_steps < 1:
        raise UserError(f"max_steps must be at least 1, not {max_steps}")
    return max_steps
