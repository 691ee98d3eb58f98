"""A trained policy, to be used without the trainer: one agent's actions from what it sees alone, or whole teams'.

Loading one imports no optimiser, nothing that writes checkpoints and no environment.
"""

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
from gpae.networks import Actor, Distribution, UnsharedActor
from gpae.networks.normalisers import STATISTICS
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.training.config import from_dict
from gpae.training.device import require_device
from gpae.training.items import check_evaluated, item_of


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
    """pi(. | tau) of one agent, or of whole teams. It can be pickled and copied, before it is used and afterwards.

    carry = policy.initial_carry()
    action, carry = policy(observation, carry, action_mask)              # the most probable action
    action, carry = policy(observation, carry, action_mask, key)         # one drawn at random

    carry = policy.initial_carry(num_envs)
    actions, carry = policy.batch(observations, carry, action_masks)     # of all agents in many environments

    Continuous actions come as arrays [D], and need no mask: policy(observation, carry).
    """

    def __init__(self, actor: Actor | UnsharedActor, params: Any, sizes: Sizes, *, agent: int | None = None):
        """Takes a trained actor.

        Args:
          actor: the network of the team.
          params: its parameters.
          sizes: of the environment.
          agent: which agent to play; None will do for `batch`, and where all share a network that is not shown the
            agent's index.

        Raises:
          UserError: there is no such agent.
        """
        if agent is not None and not 0 <= agent < sizes.num_agents:
            raise UserError(f"agent is {agent}; it must be between 0 and {sizes.num_agents - 1}")
        self._params, self._sizes, self._agent, self._team = params, sizes, agent, actor
        # The network shows each of a team its index. One agent alone is shown its own with the observation.
        known = actor.sizes.actor_identity and agent is not None
        self._index = np.eye(sizes.num_agents, dtype=np.float32)[agent] if known else np.empty(0, np.float32)
        if isinstance(actor, UnsharedActor):
            alone, self._own = actor.network, None if agent is None else actor.of_agent(params, agent)
        else:
            alone, self._own = actor, params
            if known and STATISTICS in params:
                self._own = _with_index(params, sizes.num_agents)
        self._alone = alone.clone(sizes=replace(alone.sizes, actor_identity=False))
        self._remembered = [shape[2:] for shape in _shapes(self.initial_carry())]

    @property
    def num_agents(self) -> int:
        """N, agents of the team that was trained."""
        return self._sizes.num_agents

    @property
    def acting_agents(self) -> int:
        """N of `distribution`: 1 where the policy was loaded with an agent."""
        return self.num_agents if self._agent is None else 1

    @property
    def has_own_networks(self) -> bool:
        """Whether several agents act here, each by a network of its own or of its type."""
        return isinstance(self._team, UnsharedActor) and self._agent is None

    def of_agent(self, agent: int) -> Policy:
        """The policy of one agent of the team."""
        return Policy(self._team, self._params, self._sizes, agent=agent)

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

    def initial_carry(self, num_envs: int | None = None, num_agents: int | None = None) -> Any:
        """What is remembered at the start of an episode: of one agent, or for `batch` of all agents in `num_envs`.

        `num_agents`, if it is not the team's, is for `batch` with another number of agents.
        """
        return self._alone.initial_carry(num_envs or 1, (num_agents or self.num_agents) if num_envs else 1)

    def __call__(self, observation: Any, carry: Any, action_mask: Any = None, key: Array | None = None) -> Any:
        """Acts for one step.

        Args:
          observation: [O], finite.
          carry: of the step before, or `initial_carry()`.
          action_mask: the legal actions, [A] bool, at least one; the components that the agent has, [D], if not all.
            One that is out of play has none.
          key: to draw the action; None takes the most probable one.

        Returns:
          The action (int, or [D] float32), and the carry for the next step.

        Raises:
          UserError: the observation, the mask or the carry is not what the policy was trained with; or it matters which
            agent plays, and the policy was loaded without one.
        """
        if self._agent is None and self._told_apart:
            last = self.num_agents - 1
            raise UserError(
                f"these agents {self._told_apart}: load the policy of one, agent=0 ... {last}, or use batch()"
            )
        seen, mask = self._observation(observation), self._mask(action_mask)
        if _shapes(carry) != [(1, 1, *shape) for shape in self._remembered]:
            raise _foreign_carry("")
        rows = np.concatenate([seen, self._index])[None, None], mask[None, None], np.zeros(1, bool)
        actions, carry = _act(self._alone, self._own, *rows, carry, key)
        action = np.asarray(actions)[0, 0]
        return int(action) if self.bounds is None else action, carry

    def batch(
        self, observations: Any, carry: Any, action_masks: Any = None, key: Array | None = None, is_first: Any = None
    ) -> tuple[Array, Any]:
        """Acts for one step, for all agents of many environments. It can be used inside `jax.jit` and `jax.lax.scan`.

        Args:
          observations: [E, N, O], finite. Any N will do where agents share a network that is not shown their index.
          carry: of the step before, or `initial_carry(E)`.
          action_masks: [E, N, A] bool, at least one action of each agent; as for one agent.
          key: to draw the actions; None takes the most probable ones.
          is_first: [E] bool, the environments in which an episode begins: what was remembered is forgotten.

        Returns:
          The actions ([E, N] int32, or [E, N, D] float32), and the carry for the next step.

        Raises:
          UserError: a shape is not what the policy was trained with, or a value is not what it must be. The values of
            JAX arrays are not looked at.
        """
        seen = _rows("observations", observations, (None, None, self.observation_size)).astype(np.float32)
        envs, agents = seen.shape[:2]
        if self._told_apart and agents != self.num_agents:
            raise UserError(f"observations are of {agents} agents; these {self._told_apart}, and are {self.num_agents}")
        if not isinstance(seen, Array) and not np.isfinite(seen).all():
            e, i, o = np.argwhere(~np.isfinite(seen))[0]
            raise UserError(f"observations are not finite: environment {e}, agent {i}, entry {o} is {seen[e, i, o]}")
        if action_masks is None and self.bounds is None:
            raise UserError("action_masks are needed: say which actions are legal")
        shape = (envs, agents, self.num_actions)
        masks = np.ones(shape, bool) if action_masks is None else _rows("action_masks", action_masks, shape)
        if not isinstance(masks, Array):
            if (wrong := (masks != 0) & (masks != 1)).any():
                raise UserError(f"action_masks hold {masks[wrong][0]}; their entries are true or false")
            if self.bounds is None and not masks.any(-1).all():
                e, i = np.argwhere(~masks.any(-1))[0]
                raise UserError(f"action_masks allow environment {e}, agent {i} no action: at least one must be legal")
        first = np.zeros(envs, bool) if is_first is None else _rows("is_first", is_first, (envs,))
        if _shapes(carry) != [(envs, agents, *shape) for shape in self._remembered]:
            raise _foreign_carry(f"{envs}" if agents == self.num_agents else f"{envs}, {agents}")
        return _act(self._team, self._params, seen, masks.astype(bool), first.astype(bool), carry, key)

    def distribution(
        self, observations: Array, action_masks: Array, is_first: Array, carry: Any
    ) -> tuple[Distribution, Any]:
        """Pi of one step, and the carry after it, for programs of one's own: nothing is checked.

        Arguments are arrays, as those of `batch`. Of a policy that was loaded with an agent N is 1.
        """
        actor: Actor | UnsharedActor = self._team
        params = self._params
        if self._agent is not None:
            actor, params = self._alone, self._own
        if self._index.size:
            index = jnp.broadcast_to(self._index, (*observations.shape[:-1], self._index.size))
            observations = jnp.concatenate([observations, index], axis=-1)
        policy, carries = actor.apply(params, observations[None], action_masks[None], is_first[None], carry)
        return jax.tree.map(lambda x: x[0], (policy, carries))

    @property
    def _told_apart(self) -> str:
        """Why it matters which agent plays; "" if it does not."""
        if self._team.sizes.actor_identity:
            return "know their index"
        return "have networks of their own" if isinstance(self._team, UnsharedActor) else ""

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
        if self.bounds is None and not mask.any():
            raise UserError("action_mask allows no action: at least one must be legal")
        return mask.astype(bool)


@partial(jax.jit, static_argnums=0)
def _act(
    actor: Actor | UnsharedActor,
    params: Any,
    observations: Array,
    masks: Array,
    is_first: Array,
    carry: Any,
    key: Array | None,
) -> tuple[Array, Any]:
    """Actions and carry of one row, [E, N]."""
    policy, carries = actor.apply(params, observations[None], masks[None], is_first[None], carry)
    policy, carry = jax.tree.map(lambda x: x[0], (policy, carries))
    return policy.mode() if key is None else policy.sample(key), carry


def _with_index(params: Any, num_agents: int) -> Any:
    """An actor's variables whose normaliser leaves the agent's index, behind the observation, as it is."""
    normal = {"count": 0.0, "mean": 0.0, "variance": 1.0}
    old = params[STATISTICS]["observations"]
    wider = {name: jnp.pad(old[name], (0, num_agents), constant_values=value) for name, value in normal.items()}
    return {**params, STATISTICS: {**params[STATISTICS], "observations": wider}}


def _shapes(carry: Any) -> list[tuple[int, ...]]:
    return [np.shape(x) for x in jax.tree.leaves(carry)]


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is not an array of numbers: {str(error).splitlines()[0]}") from error


def _foreign_carry(begin: str) -> UserError:
    return UserError(
        f"carry is not this policy's: begin with initial_carry({begin}), and pass on what each step returns"
    )


def _rows(name: str, value: Any, shape: tuple[int | None, ...]) -> Any:
    """`value` as an array; one of JAX's stays where it is."""
    rows = value if isinstance(value, Array) else _numbers(name, value)
    if rows.ndim != len(shape) or any(want not in (None, n) for want, n in zip(shape, rows.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{name} has shape {list(rows.shape)}; this policy wants [{wanted}]")
    return rows


def load_policy(path: str | Path, *, best: bool = False, seed: int | None = None, agent: int | None = None) -> Policy:
    """The policy that a run has learnt.

    Args:
      path: the run directory, which may still be training, or a shared policy (`gpae share`).
      best: the parameters with the best evaluation, instead of the last.
      seed: which seed of a run of several; default the first.
      agent: which agent to play, where agents are shown their index or have networks of their own; `Policy.batch` plays
        them all.

    Raises:
      UserError: not a run directory, no whole checkpoint, no such seed or agent; nothing was evaluated yet, of which
        the parameters could be the best.
    """
    require_device()
    config = from_dict(read_config(path))
    seed = config.seed if seed is None else seed
    if not config.seed <= seed < config.seed + config.seeds:
        raise UserError(f"{path} has seeds {config.seed} to {config.seed + config.seeds - 1}, not {seed}")
    item = item_of(path, best=best, whole=False)
    with Checkpoints(Path(path) / "checkpoints", read_only=True) as checkpoints:
        info = checkpoints.info()
        check_evaluated(path, info, best=best)
        sizes = Sizes.told(info)
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
