"""A trained policy, to be used without the trainer: one agent's actions from what it sees alone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
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
    """

    def __init__(self, actor: Actor, params: Any, *, num_agents: int, agent: int | None):
        """Takes the trained `actor` and its `params`; `agent` is the index it plays, if its actor is shown one."""
        if actor.sizes.actor_identity and agent is None:
            raise UserError(f"these agents know their index: say which one to play, agent=0 ... {num_agents - 1}")
        if agent is not None and not 0 <= agent < num_agents:
            raise UserError(f"agent is {agent}; it must be between 0 and {num_agents - 1}")
        self._actor, self._params, self._num_agents, self._agent = actor, params, num_agents, agent or 0

    def initial_carry(self) -> Any:
        """What is remembered at the start of an episode."""
        return self._actor.initial_carry(1, self._num_agents)

    def __call__(self, observation: Any, carry: Any, action_mask: Any, key: Array | None = None) -> tuple[int, Any]:
        """Acts for one step.

        Args:
          observation: [O].
          carry: of the step before, or `initial_carry()`.
          action_mask: the legal actions, [A] bool.
          key: to draw the action; None takes the most probable one.

        Returns:
          The action, and the carry for the next step.
        """
        pi, carry = self._step(jnp.asarray(observation, jnp.float32), carry, jnp.asarray(action_mask, bool))
        return int(pi.mode() if key is None else pi.sample(key)), carry

    @cached_property
    def _step(self) -> Any:
        def step(observation: Array, carry: Any, action_mask: Array) -> tuple[Any, Any]:
            # The network takes the whole team; the other rows are of no consequence for this one.
            team = jnp.tile(observation, (1, 1, self._num_agents, 1))
            mask = jnp.tile(action_mask, (1, 1, self._num_agents, 1))
            pi, carries = self._actor.apply(self._params, team, mask, jnp.zeros((1, 1), bool), carry)
            return jax.tree.map(lambda x: x[0, 0, self._agent], pi), jax.tree.map(lambda x: x[0], carries)

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
    item = "best_actor" if best else "actor"
    with Checkpoints(Path(path) / "checkpoints", read_only=True) as checkpoints:
        sizes = checkpoints.info()["sizes"]
        actor = _actor(config.algorithm, **sizes)
        items, _ = checkpoints.restore({item: _template(actor, config.seeds, **sizes)})
    seed = config.seed if seed is None else seed
    if not config.seed <= seed < config.seed + config.seeds:
        raise UserError(f"{path} has seeds {config.seed} to {config.seed + config.seeds - 1}, not {seed}")
    params = items[item]
    if config.seeds > 1:
        params = jax.tree.map(lambda x: x[seed - config.seed], params)
    return Policy(actor, params, num_agents=sizes["num_agents"], agent=agent)


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
