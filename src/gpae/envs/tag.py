"""simple_tag of the multi-agent particle environments: hunters that learn, and a prey that a script moves."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import SimpleTagMPE, muted
from gpae.envs.padding import first_actions, padded
from gpae.envs.protocol import Discrete, EnvSpec, Outcome, Scene
from gpae.envs.ranges import at_least
from gpae.types import View

MOVES = ("stop", "west", "east", "south", "north")


class _Hunt:
    """Particles of which some learn and others do not.

    Args:
      name: of the environment.
      jaxmarl: JaxMARL's environment.
      team: names of the agents that learn, the first of JaxMARL's.
      action_names: a short name per action of the agent that has most.
      labels: one per agent of JaxMARL's, for drawing; default: their numbers.

    The time limit, after `max_steps + 1` steps as in JaxMARL, is a truncation and there is no other end. The team's
    reward is the mean over its agents of JaxMARL's rewards. The state is all agents' velocities, all positions, what
    was said last and the goals (one-hot), as far as an environment has them. Observations are JaxMARL's, padded with
    zeros to the longest; an agent with fewer actions has those behind masked.
    """

    def __init__(
        self,
        name: str,
        jaxmarl: Any,
        team: list[str],
        action_names: tuple[str, ...] = MOVES,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        self.jaxmarl, self.team = jaxmarl, team
        self._labels = labels or tuple(map(str, range(jaxmarl.num_agents)))
        self._speaks = jaxmarl.dim_c > 0 and not np.all(np.asarray(jaxmarl.silent))
        self._actions = first_actions([jaxmarl.action_space(agent).n for agent in team])
        seen, state = jax.eval_shape(jaxmarl.reset, jax.random.key(0))
        self._spec = EnvSpec(
            name=name,
            num_agents=len(team),
            actions=Discrete(action_names),
            observation_size=max(seen[agent].shape[0] for agent in team),
            state_size=jax.eval_shape(self._state, state).shape[0],
            episode_limit=jaxmarl.max_steps + 1,
        )

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> Any:
        """JaxMARL's reset: agents and landmarks anywhere in [-1, 1]^2."""
        _, state = self.jaxmarl.reset(key)
        return state

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """JaxMARL's `step_env`."""
        return self._step(key, state, dict(zip(self.team, actions, strict=True)))

    def _step(self, key: Array, state: Any, chosen: dict[str, Array]) -> tuple[Any, Outcome]:
        _, state, rewards, dones, _ = self.jaxmarl.step_env(key, state, chosen)
        outcome = Outcome(
            reward=jnp.mean(jnp.stack([rewards[agent] for agent in self.team]).astype(jnp.float32)),
            terminated=jnp.zeros((), bool),
            truncated=dones["__all__"],
            won=jnp.zeros((), bool),
        )
        return state, outcome

    def observe(self, state: Any) -> View:
        """JaxMARL's observations; every agent is in play and may do whatever it can."""
        seen = self.jaxmarl.get_obs(state)
        return View(
            observations=padded([seen[agent] for agent in self.team], self.spec.observation_size),
            state=self._state(state),
            action_mask=jnp.asarray(self._actions),
            alive=jnp.ones(len(self.team), bool),
        )

    def scene(self, state: Any) -> Scene:
        """Agents and landmarks in a window of [-2, 2]^2; who strays further is drawn at its edge."""
        agents, things = self.jaxmarl.num_agents, self.jaxmarl.num_entities
        positions = np.clip(np.asarray(state.p_pos) + 2.0, 0.0, 4.0)
        place = np.arange(things)
        return Scene(
            size=(4.0, 4.0),
            positions=positions,
            radii=np.asarray(self.jaxmarl.rad),
            teams=np.where(place < len(self.team), 0, np.where(place < agents, 1, 2)),
            health=np.ones(things),
            labels=self._labels + ("",) * (things - agents),
            attacks=(),
        )

    def _state(self, state: Any) -> Array:
        env = self.jaxmarl
        said = [state.c.reshape(-1)] if self._speaks else []
        goals = [] if state.goal is None else [jax.nn.one_hot(state.goal, env.num_landmarks).reshape(-1)]
        return jnp.concatenate([state.p_vel[: env.num_agents].reshape(-1), state.p_pos.reshape(-1), *said, *goals])


class SimpleTag(_Hunt):
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
        labels = (*map(str, range(num_hunters)), "prey")
        super().__init__("mpe/simple_tag", env, env.adversaries, labels=labels)

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """JaxMARL's `step_env`, with the prey's move."""
        key, prey_key = jax.random.split(key)
        move = self._flight(state) if self._flees else jax.random.randint(prey_key, (), 0, len(MOVES), jnp.int32)
        chosen = dict(zip(self.team, actions, strict=True))
        return self._step(key, state, chosen | {self.jaxmarl.good_agents[0]: move})

    def _flight(self, state: Any) -> Array:
        hunters = state.p_pos[: len(self.team)]
        ways = jnp.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        there = state.p_pos[len(self.team)] + 0.2 * ways
        nearest = jnp.min(jnp.linalg.norm(there[:, None] - hunters[None], axis=-1), axis=-1)
        outside = jnp.sum(jnp.maximum(jnp.abs(there) - 0.9, 0.0), axis=-1)
        return jnp.argmax(nearest - 10.0 * outside).astype(jnp.int32)
