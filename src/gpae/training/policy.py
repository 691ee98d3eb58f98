"""A trained policy, to be used without the trainer: one agent's actions from what it sees alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs.protocol import Box, Discrete, EnvSpec
from gpae.errors import UserError
from gpae.networks import Actor, UnsharedActor
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.training.config import from_dict
from gpae.training.device import require_device


@dataclass(frozen=True)
class Sizes:
    """What a policy needs to know of the environment that it was trained in."""

    num_agents: int
    """N."""
    num_actions: int
    """A, or D where actions are continuous."""
    observation_size: int
    """O."""
    action_names: tuple[str, ...] | None = None
    """A short names; None where the run does not say, as those of gpae 0.1, or actions are continuous."""
    bounds: tuple[float, float] | None = None
    """Low and high of continuous actions; None where they are discrete."""
    agent_types: tuple[str, ...] | None = None
    """What each agent is, N names, where the environment says so."""

    @staticmethod
    def told(info: Mapping[str, Any]) -> Sizes:
        """From the notes of a checkpoint, in which `described` stands."""
        lists = {name: info.get(name) for name in ("action_names", "bounds", "agent_types")}
        found: dict[str, Any] = {name: None if x is None else tuple(x) for name, x in lists.items()}
        return Sizes(**info["sizes"], **found)


def described(spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint says of its environment, for `load_policy`."""
    sizes = {
        "num_agents": spec.num_agents,
        "num_actions": spec.actions.size,
        "observation_size": spec.observation_size,
    }
    told: dict[str, Any] = {"sizes": sizes}
    if spec.agent_types is not None:
        told["agent_types"] = list(spec.agent_types)
    if isinstance(spec.actions, Box):
        return told | {"bounds": [spec.actions.low, spec.actions.high]}
    return told | {"action_names": list(spec.action_names)}


class Policy:
    """pi(. | tau) of one agent. It can be pickled and copied, before it is used and afterwards.

    carry = policy.initial_carry()
    action, carry = policy(observation, carry, action_mask)              # the most probable action
    action, carry = policy(observation, carry, action_mask, key)         # one drawn at random

    Continuous actions come as arrays [D], and need no mask: policy(observation, carry).
    """

    def __init__(self, actor: Actor | UnsharedActor, params: Any, sizes: Sizes, *, agent: int | None = None):
        """Takes a trained actor.

        Args:
          actor: the network of the team.
          params: its parameters.
          sizes: of the environment.
          agent: which agent to play; None will do where all share a network that is not shown the agent's index.

        Raises:
          UserError: there is no such agent, or none is given where one is needed.
        """
        if agent is None and (actor.sizes.actor_identity or isinstance(actor, UnsharedActor)):
            why = "know their index" if actor.sizes.actor_identity else "have networks of their own"
            raise UserError(f"these agents {why}: say which one to play, agent=0 ... {sizes.num_agents - 1}")
        if agent is not None and not 0 <= agent < sizes.num_agents:
            raise UserError(f"agent is {agent}; it must be between 0 and {sizes.num_agents - 1}")
        if isinstance(actor, UnsharedActor):
            actor, params = actor.network, actor.of_agent(params, agent)
        self._params, self._sizes = params, sizes
        # The network shows each of a team its index. One agent alone is shown its own with the observation.
        self._index = np.eye(sizes.num_agents, dtype=np.float32)[agent] if actor.sizes.actor_identity else np.empty(0)
        self._actor = actor.clone(sizes=replace(actor.sizes, actor_identity=False))
        self._carry_shapes = _shapes(self.initial_carry())

    @property
    def num_agents(self) -> int:
        """N, agents of the team that was trained."""
        return self._sizes.num_agents

    @property
    def num_actions(self) -> int:
        """A, the length of an action mask; D, that of an action, where actions are continuous."""
        return self._sizes.num_actions

    @property
    def observation_size(self) -> int:
        """O, the length of an observation."""
        return self._sizes.observation_size

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """A short names; None where the run does not say, as those of gpae 0.1, or actions are continuous."""
        return self._sizes.action_names

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The environment's bounds of continuous actions, which a policy that is not squashed may leave; else None."""
        return self._sizes.bounds

    def initial_carry(self) -> Any:
        """What is remembered at the start of an episode."""
        return self._actor.initial_carry(1, 1)

    def __call__(self, observation: Any, carry: Any, action_mask: Any = None, key: Array | None = None) -> Any:
        """Acts for one step.

        Args:
          observation: [O], finite.
          carry: of the step before, or `initial_carry()`.
          action_mask: the legal actions, [A] bool, at least one; the components that the agent has, [D], if not all.
          key: to draw the action; None takes the most probable one.

        Returns:
          The action (int, or [D] float32), and the carry for the next step.

        Raises:
          UserError: the observation, the mask or the carry is not what the policy was trained with.
        """
        seen, mask = self._observation(observation), self._mask(action_mask)
        if _shapes(carry) != self._carry_shapes:
            raise UserError(
                "carry is not this policy's: begin with initial_carry(), and pass on what each step returns"
            )
        action, carry = _act(self._actor, self._params, np.concatenate([seen, self._index]), mask, carry, key)
        return int(action) if self.bounds is None else np.asarray(action), carry

    def _observation(self, observation: Any) -> np.ndarray:
        seen = _numbers("observation", observation)
        if seen.shape != (self.observation_size,):
            raise UserError(f"observation has shape {list(seen.shape)}; this policy sees [{self.observation_size}]")
        if not np.isfinite(seen).all():
            places = np.flatnonzero(~np.isfinite(seen))
            raise UserError(f"observation is not finite: entry {places[0]} is {seen[places[0]]}")
        return seen

    def _mask(self, action_mask: Any) -> np.ndarray:
        if action_mask is None:
            if self.bounds is None:
                raise UserError("action_mask is needed: say which actions are legal")
            return np.ones(self.num_actions, bool)
        mask = _numbers("action_mask", action_mask)
        if mask.shape != (self.num_actions,):
            raise UserError(f"action_mask has shape {list(mask.shape)}; this policy has [{self.num_actions}] actions")
        if wrong := set(mask.tolist()) - {0.0, 1.0}:
            raise UserError(f"action_mask holds {sorted(wrong, key=str)[0]}; its entries are true or false")
        if not mask.any():
            raise UserError("action_mask allows no action: at least one must be legal")
        return mask.astype(bool)


@partial(jax.jit, static_argnums=0)
def _act(
    actor: Actor, params: Any, observation: Array, mask: Array, carry: Any, key: Array | None
) -> tuple[Array, Any]:
    """The action and the carry of one step, of a team of one."""
    rows = (observation[None, None, None], mask[None, None, None], jnp.zeros((1, 1), bool))
    policy, carries = actor.apply(params, *rows, carry)
    policy, carry = jax.tree.map(lambda x: x[0], (policy, carries))
    policy = jax.tree.map(lambda x: x[0, 0], policy)
    return policy.mode() if key is None else policy.sample(key), carry


def _shapes(carry: Any) -> list[tuple[int, ...]]:
    return [np.shape(x) for x in jax.tree.leaves(carry)]


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is not an array of numbers: {str(error).splitlines()[0]}") from error


def load_policy(path: str | Path, *, best: bool = False, seed: int | None = None, agent: int | None = None) -> Policy:
    """The policy that a run has learnt.

    Args:
      path: the run directory; it may still be training.
      best: the parameters with the best evaluation, instead of the last.
      seed: which seed of a run of several; default the first.
      agent: which agent to play, where agents are shown their index or have networks of their own.

    Raises:
      UserError: not a run directory, no whole checkpoint, no such seed, or no agent given where one is needed.
    """
    require_device()
    config = from_dict(read_config(path))
    seed = config.seed if seed is None else seed
    if not config.seed <= seed < config.seed + config.seeds:
        raise UserError(f"{path} has seeds {config.seed} to {config.seed + config.seeds - 1}, not {seed}")
    item = "best_actor" if best else "actor"
    with Checkpoints(Path(path) / "checkpoints", read_only=True) as checkpoints:
        sizes = Sizes.told(checkpoints.info())
        actor = config.algorithm.actor(_spec(sizes))
        items, _ = checkpoints.restore({item: _template(actor, config.seeds, sizes)})
    params = items[item]
    if config.seeds > 1:
        params = jax.tree.map(lambda x: x[seed - config.seed], params)
    return Policy(actor, params, sizes, agent=agent)


def _spec(sizes: Sizes) -> EnvSpec:
    """As much of the environment's description as an actor needs."""
    return EnvSpec(
        name="",
        num_agents=sizes.num_agents,
        actions=Discrete(sizes.action_names or tuple(map(str, range(sizes.num_actions))))
        if sizes.bounds is None
        else Box(sizes.num_actions, *sizes.bounds),
        observation_size=sizes.observation_size,
        state_size=0,
        episode_limit=1,
        agent_types=sizes.agent_types,
    )


def _template(actor: Actor | UnsharedActor, seeds: int, sizes: Sizes) -> Any:
    """Shapes and dtypes of the actor's parameters, with a leading axis if there are several seeds."""

    def init() -> Any:
        shape = (1, 1, sizes.num_agents)
        return actor.init(
            jax.random.key(0),
            jnp.zeros((*shape, sizes.observation_size)),
            jnp.ones((*shape, sizes.num_actions), bool),
            jnp.ones((1, 1), bool),
            actor.initial_carry(1, sizes.num_agents),
        )

    axes = (seeds,) if seeds > 1 else ()
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype), jax.eval_shape(init))
