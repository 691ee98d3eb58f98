"""Teams in Gymnasium's interface, as a ParallelEnv: Tuple spaces with a part per agent, as of lbforaging and rware."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from gpae.errors import UserError
from gpae.outside_jax.spaces import MASK


class GymnasiumTeam(ParallelEnv):
    """`gymnasium.make(id, **options)`, whose observations, actions and rewards are sequences over agents.

    A single flag, or one per agent, says that an episode terminated or was truncated; it ends for all at once, when
    each of them is one or the other. Every agent is given the team's info; an action mask in it has a row per agent.

    Raises:
      UserError: its spaces are not Tuple spaces of one length.
    """

    def __init__(self, id: str, **options: Any) -> None:
        self.env: Any = gymnasium.make(id, disable_env_checker=True, **options)
        seen: Any = self.env.observation_space
        acted: Any = self.env.action_space
        parts = [len(x) if isinstance(x, gymnasium.spaces.Tuple) else None for x in (seen, acted)]
        if None in parts or parts[0] != parts[1]:
            raise UserError(
                f"gymnasium:{id} is no team: its observations and actions must be Tuple spaces with a part per agent,"
                f" and are {type(seen).__name__} and {type(acted).__name__}"
            )
        self.metadata = {"name": id}
        self.possible_agents = [f"agent_{i}" for i in range(len(seen))]
        self.agents: list[str] = []
        self._seen = dict(zip(self.possible_agents, seen, strict=True))
        self._acted = dict(zip(self.possible_agents, acted, strict=True))

    def observation_space(self, agent: str) -> Any:
        """The agent's part."""
        return self._seen[agent]

    def action_space(self, agent: str) -> Any:
        """The agent's part."""
        return self._acted[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode."""
        seen, info = self.env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._each(seen), self._told(info)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """All agents act at once."""
        acting = self.agents
        seen, rewards, terminated, truncated, info = self.env.step(tuple(actions[agent] for agent in acting))
        ended, cut = (np.broadcast_to(np.asarray(x, bool), len(acting)) for x in (terminated, truncated))
        over = bool(np.all(ended | cut))
        if over:
            self.agents = []
        ends = (dict(zip(acting, (x & over).tolist(), strict=True)) for x in (ended, cut))
        each = self._each(np.broadcast_to(rewards, len(acting)).tolist())
        return self._each(seen), each, *ends, self._told(info)

    def render(self) -> Any:
        """A picture, where it was made with a `render_mode`."""
        return self.env.render()

    def close(self) -> None:
        """Closes it."""
        self.env.close()

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        if MASK not in info:
            return {agent: dict(info) for agent in self.possible_agents}
        return {agent: {**info, MASK: mask} for agent, mask in self._each(info[MASK]).items()}

    def _each(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))
