"""simple_spread of the multi-agent particle environments, as JaxMARL has it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import SimpleSpreadMPE, muted
from gpae.envs.particles import MOVES, ActionKind, five_numbers
from gpae.envs.protocol import Box, Discrete, EnvSpec, Outcome, Scene
from gpae.errors import UserError
from gpae.types import View


class SimpleSpread:
    """N agents shall cover N landmarks without touching each other.

    Args:
      num_agents: N, at least 2; there are as many landmarks.
      local_ratio: weight of an agent's own collisions in its reward, in [0, 1]; the landmarks' is 1 - local_ratio.
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.
      actions: "discrete", five moves; or "continuous", a force in [-1, 1]^2 (see `gpae.envs.particles`).

    Raises:
      UserError: an option out of its range.

    The team's reward is the mean over agents of JaxMARL's rewards,

        r = (1 - local_ratio) sum_l -min_i |x_i - x_l| + local_ratio mean_i -(collisions of i, itself included)

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
        if num_agents < 2:
            raise UserError(f"num_agents must be at least 2, not {num_agents}")
        if not 0 <= local_ratio <= 1:
            raise UserError(f"local_ratio must lie in [0, 1], not {local_ratio}")
        if max_steps < 1:
            raise UserError(f"max_steps must be at least 1, not {max_steps}")
        with muted():
            self.jaxmarl: Any = SimpleSpreadMPE(
                num_agents=num_agents,
                num_landmarks=num_agents,
                local_ratio=local_ratio,
                max_steps=max_steps,
                action_type=actions.capitalize(),
            )
        self._spec = EnvSpec(
            name="mpe/simple_spread",
            num_agents=num_agents,
            actions=Discrete(MOVES) if actions == "discrete" else Box(2),
            observation_size=4 + 2 * num_agents + 4 * (num_agents - 1),
            state_size=6 * num_agents,
            episode_limit=max_steps + 1,
            has_wins=False,
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
        env = self.jaxmarl
        if self.spec.continuous:
            actions = five_numbers(actions)
        _, state, rewards, dones, _ = env.step_env(key, state, dict(zip(env.agents, actions, strict=True)))
        outcome = Outcome(
            reward=jnp.mean(jnp.stack([rewards[agent] for agent in env.agents])),
            terminated=jnp.zeros((), bool),
            truncated=dones["__all__"],
            won=jnp.zeros((), bool),
        )
        return state, outcome

    def observe(self, state: Any) -> View:
        """JaxMARL's observations; every action is legal and every agent in play."""
        env, n = self.jaxmarl, self.spec.num_agents
        seen = env.get_obs(state)
        return View(
            observations=jnp.stack([seen[agent] for agent in env.agents]),
            state=jnp.concatenate([state.p_vel[:n].reshape(-1), state.p_pos.reshape(-1)]),
            action_mask=jnp.ones((n, self.spec.actions.size), bool),
            alive=jnp.ones(n, bool),
        )

    def scene(self, state: Any) -> Scene:
        """Agents and landmarks in a window of [-2, 2]^2; who strays further is drawn at its edge."""
        n = self.spec.num_agents
        positions = np.clip(np.asarray(state.p_pos) + 2.0, 0.0, 4.0)
        return Scene(
            size=(4.0, 4.0),
            positions=positions,
            radii=np.asarray(self.jaxmarl.rad),
            teams=np.repeat([0, 2], n),
            health=np.ones(2 * n),
            labels=tuple(str(i) for i in range(n)) + ("",) * n,
            attacks=(),
        )
