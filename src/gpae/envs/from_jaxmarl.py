"""The adapter for an environment of JaxMARL's kind, one of the user's own included. It imports nothing of JaxMARL."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.envs.muted import muted
from gpae.envs.padding import first_actions, padded
from gpae.envs.protocol import Discrete, EnvSpec, Outcome
from gpae.errors import UserError
from gpae.types import View


@struct.dataclass
class Position:
    """Where an episode is, with what JaxMARL showed there."""

    inner: Any
    """JaxMARL's state."""
    observations: Array
    """[N, O]."""
    state: Array
    """[S]: the agents' observations one after the other, without padding."""
    step: Array
    """[] int32: steps made."""


class FromJaxMARL:
    """An environment of JaxMARL's kind (`MultiAgentEnv`) in the shape of the protocol.

    Args:
      jaxmarl: the environment; every agent has a `Discrete` action space.
      name: what it is called.
      episode_limit: the largest number of steps an episode can have. An end before it is the episode's own
        (`terminated`), the end there the time limit's (`truncated`). A subclass that knows better overrides `own_end`.
      action_names: one short name per action; default: their numbers.
      has_wins: whether `won` is overridden.

    Raises:
      UserError: an agent's actions are not discrete.

    Observations are flattened to float32 and padded with zeros to the longest; an agent that has fewer actions than
    another has those behind masked, as the environment masks them by `get_legal_moves` or `get_avail_actions`. The
    state is all observations, one after the other, and the team's reward the mean over agents.
    """

    def __init__(
        self,
        jaxmarl: Any,
        *,
        name: str,
        episode_limit: int,
        action_names: tuple[str, ...] | None = None,
        has_wins: bool = False,
    ) -> None:
        self.jaxmarl, self.agents = jaxmarl, list(jaxmarl.agents)
        # JaxMARL's own print and warn while they are traced; one of the user's may have something to say.
        self._calm = muted if type(jaxmarl).__module__.startswith("jaxmarl.") else contextlib.nullcontext
        spaces = [jaxmarl.action_space(agent) for agent in self.agents]
        for agent, space in zip(self.agents, spaces, strict=True):
            if not hasattr(space, "n"):
                kind = type(space).__name__
                raise UserError(f"{name}: {agent} has actions {kind}, not Discrete; this adapter takes no others")
        self._own_actions = first_actions([int(space.n) for space in spaces])
        with self._calm():
            seen, self._like = jax.eval_shape(jaxmarl.reset, jax.random.key(0))
        sizes = [int(np.prod(seen[agent].shape)) for agent in self.agents]
        size = self._own_actions.shape[1]
        self._spec = EnvSpec(
            name=name,
            num_agents=len(self.agents),
            actions=Discrete(action_names or tuple(map(str, range(size)))),
            observation_size=max(sizes),
            state_size=sum(sizes),
            episode_limit=episode_limit,
            has_wins=has_wins,
            has_agent_rewards=True,
        )

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> Position:
        """JaxMARL's reset."""
        with self._calm():
            seen, inner = self.jaxmarl.reset(key)
        return self._position(inner, seen, jnp.int32(0))

    def step(self, key: Array, state: Position, actions: Array) -> tuple[Position, Outcome]:
        """JaxMARL's `step_env`, which does not reset.

        Raises:
          UserError: a part of the state that begins as an integer or a bool has become a float.
        """
        chosen = dict(zip(self.agents, actions, strict=True))
        with self._calm():
            seen, inner, rewards, dones, infos = self.jaxmarl.step_env(key, state.inner, chosen)
        after = self._position(inner, seen, state.step + 1)
        done = jnp.asarray(dones["__all__"], bool)
        given = jnp.stack([rewards[agent] for agent in self.agents])
        reward = self.team_reward(given, infos)
        own = done & self.own_end(after, reward)
        outcome = Outcome(
            reward=reward.astype(jnp.float32),
            terminated=own,
            truncated=done & ~own,
            won=done & self.won(after, reward),
            agent_rewards=self.agent_rewards(given, infos),
        )
        return after, outcome

    def observe(self, state: Position) -> View:
        """What JaxMARL showed, and the actions that are legal; every agent is in play."""
        own = jnp.asarray(self._own_actions)
        legal = self.legal(state.inner)
        mask = own if legal is None else own & (padded(legal, own.shape[1]) > 0)
        return View(
            observations=state.observations,
            state=state.state,
            action_mask=mask,
            alive=jnp.ones(len(self.agents), bool),
        )

    # -- what an environment may know better ----------------------------------------------------------------------

    def own_end(self, position: Position, reward: Array) -> Array:
        """Whether an episode that ends here came to its own end, [] bool."""
        return position.step < self.spec.episode_limit

    def won(self, position: Position, reward: Array) -> Array:
        """Whether an episode that ends here is won, [] bool."""
        return jnp.bool_(False)

    def team_reward(self, rewards: Array, infos: Any) -> Array:
        """The team's reward from the agents', [N] -> []."""
        return jnp.mean(rewards.astype(jnp.float32))

    def agent_rewards(self, rewards: Array, infos: Any) -> Array:
        """Each agent's own reward, [N] float32, from JaxMARL's."""
        return rewards.astype(jnp.float32)

    def legal(self, inner: Any) -> list[Array] | None:
        """Per agent which of its actions are legal; None where all are."""
        for method in ("get_legal_moves", "get_avail_actions"):
            if hasattr(self.jaxmarl, method):
                try:
                    found = getattr(self.jaxmarl, method)(inner)
                except NotImplementedError:  # JaxMARL's base class has the method and raises: all actions are legal
                    continue
                return [found[agent] for agent in self.agents]
        return None

    def _position(self, inner: Any, seen: Any, step: Array) -> Position:
        inner = jax.tree_util.tree_map_with_path(self._as_at_reset, inner, self._like)
        rows = [seen[agent] for agent in self.agents]
        return Position(
            inner=inner,
            observations=padded(rows, self.spec.observation_size),
            state=jnp.concatenate([jnp.ravel(row).astype(jnp.float32) for row in rows]),
            step=step,
        )

    def _as_at_reset(self, path: Any, x: Any, like: jax.ShapeDtypeStruct) -> Array:
        """JaxMARL's reset and step differ in types here and there (bool and int, a number and an array)."""
        x = jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jnp.floating) and not jnp.issubdtype(like.dtype, jnp.inexact):
            raise UserError(
                f"{self.spec.name}: state{jax.tree_util.keystr(path)} is {like.dtype} at reset and {x.dtype} after a"
                " step, whose fractions would be lost; begin with a float, such as 0.0"
            )
        return x.astype(like.dtype)
