"""A trained policy, to be used without the trainer: one agent's actions from what it sees alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.algorithms.base import Algorithm
from gpae.envs.protocol import Discrete, EnvSpec
from gpae.errors import UserError
from gpae.networks import Actor
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.training.config import from_dict


class Policy:
    """pi(. | tau) of one agent.

    carry = policy.initial_carry()
    action, carry = policy(observation, carry, action_mask)              # the most probable action
    action, carry = policy(observation, carry, action_mask, key)         # one drawn at random

    It can be pickled and copied.
    """

    def __init__(
        self,
        actor: Actor,
        params: Any,
        *,
        num_agents: int,
        observation_size: int,
        agent: int | None = None,
        action_names: Sequence[str] = (),
    ):
        """Takes the trained `actor` and its `params`; `agent` is the index it plays, if its actor is shown one.

        Raises:
          UserError: no agent where one is needed, or none of that index.
        """
        self.num_agents = num_agents
        """N, of the team that it was trained with."""
        self.num_actions = actor.num_actions
        """A."""
        self.observation_size = observation_size
        """O."""
        self.action_names = tuple(action_names) or tuple(map(str, range(actor.num_actions)))
        """A short name for each action."""
        self.agent = agent
        """The index that it plays, or None where agents are not shown theirs."""
        identity = actor.sizes.actor_identity
        if identity and agent is None:
            raise UserError(f"these agents know their index: say which one to play, agent=0 ... {num_agents - 1}")
        if agent is not None and not 0 <= agent < num_agents:
            raise UserError(f"agent is {agent}; it must be between 0 and {num_agents - 1}")
        # The network takes the rows of a team and shows each its index; here the one row of this agent, and its index.
        self._index = np.eye(num_agents, dtype=np.float32)[agent] if identity else np.zeros(0, np.float32)
        self._actor = actor.clone(sizes=replace(actor.sizes, actor_identity=False))
        self._params = jax.device_get(params)

    def __repr__(self) -> str:
        """Its sizes."""
        agent = "" if self.agent is None else f"agent {self.agent} of "
        sizes = f"{self.observation_size} observed numbers, {self.num_actions} actions"
        return f"Policy({agent}{self.num_agents} agents, {sizes})"

    def __getstate__(self) -> dict[str, Any]:
        """All but the compiled step, which is made again at the next call."""
        return {name: value for name, value in self.__dict__.items() if name != "_step"}

    def initial_carry(self) -> Any:
        """What is remembered at the start of an episode."""
        return self._actor.initial_carry(1, 1)

    def __call__(self, observation: Any, carry: Any, action_mask: Any, key: Array | None = None) -> tuple[int, Any]:
        """Acts for one step.

        Args:
          observation: [O].
          carry: of the step before, or `initial_carry()`.
          action_mask: the legal actions, [A] bool.
          key: to draw the action; None takes the most probable one.

        Returns:
          The action, and the carry for the next step.

        Raises:
          UserError: an observation or a mask of the wrong shape, an observation that is not finite, or no legal action.
        """
        seen, mask = self._checked(observation, action_mask)
        pi, carry = self._step(self._params, np.concatenate([seen, self._index]), carry, mask)
        return int(pi.mode() if key is None else pi.sample(key)), carry

    def _checked(self, observation: Any, action_mask: Any) -> tuple[np.ndarray, np.ndarray]:
        seen, mask = np.asarray(observation, np.float32), np.asarray(action_mask)
        for name, value, size in (
            ("observation", seen, self.observation_size),
            ("action_mask", mask, self.num_actions),
        ):
            if value.shape != (size,):
                raise UserError(f"{name} has the shape {list(value.shape)}; this policy takes [{size}]")
        if not np.isfinite(seen).all():
            wrong = np.flatnonzero(~np.isfinite(seen))
            raise UserError(f"observation is {seen[wrong[0]]} at index {wrong[0]}; it must be finite")
        if not mask.any():
            raise UserError("action_mask has no legal action")
        return seen, mask.astype(bool)

    @cached_property
    def _step(self) -> Any:
        def step(params: Any, observation: Array, carry: Any, action_mask: Array) -> tuple[Any, Any]:
            row = (1, 1, 1)
            team, mask = observation.reshape(*row, -1), action_mask.reshape(*row, -1)
            pi, carries = self._actor.apply(params, team, mask, jnp.zeros((1, 1), bool), carry)
            return jax.tree.map(lambda x: x[0, 0, 0], pi), jax.tree.map(lambda x: x[0], carries)

        return jax.jit(step)


def load_policy(path: str | Path, *, best: bool = False, seed: int | None = None, agent: int | None = None) -> Policy:
    """The policy that a run has learnt.

    Args:
      path: the run directory; it may still be training.
      best: the parameters with the best evaluation, instead of the last.
      seed: which seed of a run of several; default the first.
      agent: which agent to play, where agents are shown their index.

    Raises:
      UserError: not a run directory, no whole checkpoint, no such seed, or no agent given where one is needed.
    """
    config = from_dict(read_config(path))
    seed = config.seed if seed is None else seed
    if not config.seed <= seed < config.seed + config.seeds:
        raise UserError(f"{path} has seeds {config.seed} to {config.seed + config.seeds - 1}, not {seed}")
    item = "best_actor" if best else "actor"
    with Checkpoints(Path(path) / "checkpoints", read_only=True) as checkpoints:
        info = checkpoints.info()
        sizes = info["sizes"]
        actor = _actor(config.algorithm, **sizes)
        items, _ = checkpoints.restore({item: _template(actor, config.seeds, **sizes)})
    params = items[item]
    if config.seeds > 1:
        params = jax.tree.map(lambda x: x[seed - config.seed], params)
    return Policy(
        actor,
        params,
        num_agents=sizes["num_agents"],
        observation_size=sizes["observation_size"],
        agent=agent,
        action_names=info.get("action_names", ()),
    )


def _actor(algorithm: Algorithm, *, num_agents: int, num_actions: int, observation_size: int) -> Actor:
    spec = EnvSpec(
        name="",
        num_agents=num_agents,
        actions=Discrete(tuple(map(str, range(num_actions)))),
        observation_size=observation_size,
        state_size=0,
        episode_limit=1,
    )
    return algorithm.actor(spec)


def _template(actor: Actor, seeds: int, *, num_agents: int, num_actions: int, observation_size: int) -> Any:
    """Shapes and dtypes of the actor's parameters, with a leading axis if there are several seeds."""

    def init() -> Any:
        shape = (1, 1, num_agents)
        return actor.init(
            jax.random.key(0),
            jnp.zeros((*shape, observation_size)),
            jnp.ones((*shape, num_actions), bool),
            jnp.ones((1, 1), bool),
            actor.initial_carry(1, num_agents),
        )

    axes = (seeds,) if seeds > 1 else ()
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype), jax.eval_shape(init))
