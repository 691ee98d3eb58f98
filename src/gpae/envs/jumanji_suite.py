"""Jumanji's environments of several agents (`jumanji/NAME`): foraging, a warehouse of robots, a circuit board.

Jumanji is an extra, and imported when one of them is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.envs.padding import padded
from gpae.envs.protocol import Discrete, Environment, EnvSpec, Outcome
from gpae.errors import UserError
from gpae.types import View

_MOVES = ("stay", "north", "south", "west", "east")


@struct.dataclass
class Position:
    """Where an episode is, with what jumanji showed there."""

    inner: Any
    """Jumanji's state."""
    observations: Array
    """[N, O]."""
    state: Array
    """[S]."""
    action_mask: Array
    """[N, A]."""


class FromJumanji:
    """An environment of jumanji with one action per agent, in the shape of the protocol.

    Args:
      jumanji: the environment; its observation has an `action_mask` [N, A].
      name: what it is called.
      action_names: one short name per action.
      see: from jumanji's observation to what each agent sees, [N, ...]; default: its `agents_view`.
      state: from jumanji's observation to what a critic sees; default: what all agents see, one after the other.
      own_end: from jumanji's state to whether the episode came to its own end there; default: jumanji's discount says.

    The team's reward is the sum of the agents', as they are. Illegal actions are masked as jumanji masks them.
    """

    def __init__(
        self,
        jumanji: Any,
        *,
        name: str,
        action_names: tuple[str, ...],
        see: Callable[[Any], Array] | None = None,
        state: Callable[[Any], Array] | None = None,
        own_end: Callable[[Any], Array] | None = None,
    ) -> None:
        self.jumanji = jumanji
        self._see = see or (lambda seen: seen.agents_view)
        self._state, self._own_end = state or self._see, own_end
        _, first = jax.eval_shape(jumanji.reset, jax.random.key(0))
        shown = jax.eval_shape(self._see, first.observation).shape
        self._spec = EnvSpec(
            name=name,
            num_agents=shown[0],
            actions=Discrete(action_names),
            observation_size=int(np.prod(shown[1:])),
            state_size=int(np.prod(jax.eval_shape(self._state, first.observation).shape)),
            episode_limit=jumanji.time_limit,
            has_agent_rewards=first.reward.ndim == 1,
        )

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> Position:
        """Jumanji's reset."""
        inner, shown = self.jumanji.reset(key)
        return self._position(inner, shown.observation)

    def step(self, key: Array, state: Position, actions: Array) -> tuple[Position, Outcome]:
        """Jumanji's step, which never resets; its randomness is in its state."""
        inner, shown = self.jumanji.step(state.inner, actions)
        last = shown.last()
        own = jnp.all(shown.discount == 0) if self._own_end is None else self._own_end(inner)
        outcome = Outcome(
            reward=jnp.sum(shown.reward.astype(jnp.float32)),
            terminated=last & own,
            truncated=last & ~own,
            won=jnp.bool_(False),
            agent_rewards=shown.reward.astype(jnp.float32) if self.spec.has_agent_rewards else None,
        )
        return self._position(inner, shown.observation), outcome

    def observe(self, state: Position) -> View:
        """What jumanji showed; every agent is in play."""
        return View(
            observations=state.observations,
            state=state.state,
            action_mask=state.action_mask,
            alive=jnp.ones(self.spec.num_agents, bool),
        )

    def _position(self, inner: Any, seen: Any) -> Position:
        return Position(
            inner=inner,
            observations=padded(list(self._see(seen)), self.spec.observation_size),
            state=jnp.ravel(self._state(seen)).astype(jnp.float32),
            action_mask=seen.action_mask.astype(bool),
        )


def lbf(
    *,
    grid_size: int = 8,
    num_agents: int = 2,
    num_food: int = 2,
    fov: int | None = None,
    max_agent_level: int = 2,
    force_coop: bool = True,
    max_steps: int = 100,
    penalty: float = 0.0,
) -> Environment:
    """Level-based foraging: food is eaten by agents around it whose levels add up to its own. All eaten: a return of 1.

    Args:
      grid_size: places along a side, at least 5.
      num_agents: agents.
      num_food: pieces of food.
      fov: how far an agent sees; None: everywhere.
      max_agent_level: of agents, at least 2.
      force_coop: whether every piece needs all agents.
      max_steps: an episode is cut off after so many steps.
      penalty: for an attempt that fails.

    Raises:
      UserError: jumanji is not installed, or does not take these sizes.

    Source: Papoudakis et al. 2021 (arXiv 2006.07869); jumanji.environments.routing.lbf.
    """
    with _jumanji("lbf"):
        from jumanji.environments.routing.lbf.env import LevelBasedForaging
        from jumanji.environments.routing.lbf.generator import RandomGenerator

        generator = RandomGenerator(
            grid_size=grid_size,
            num_agents=num_agents,
            num_food=num_food,
            fov=grid_size if fov is None else fov,
            max_agent_level=max_agent_level,
            force_coop=force_coop,
        )
        env = LevelBasedForaging(generator, viewer=_UNSEEN, time_limit=_limit(max_steps), penalty=penalty)
    return FromJumanji(env, name="jumanji/lbf", action_names=(*_MOVES, "load"))


def rware(
    *,
    shelf_rows: int = 2,
    shelf_columns: int = 3,
    column_height: int = 8,
    num_agents: int = 4,
    sensor_range: int = 1,
    request_queue_size: int = 8,
    max_steps: int = 500,
) -> Environment:
    """A warehouse of robots that bring requested shelves to the gate: 1 for each. As it is: tiny, 4 agents, easy.

    Args:
      shelf_rows: of blocks of shelves.
      shelf_columns: of blocks of shelves, an odd number.
      column_height: of a block.
      num_agents: robots.
      sensor_range: how far a robot sees.
      request_queue_size: shelves that are asked for at once.
      max_steps: an episode is cut off after so many steps.

    Raises:
      UserError: jumanji is not installed, or does not take these sizes.

    A collision of robots is the episode's own end. Jumanji says the same of the time limit, which is a truncation here.

    Source: Papoudakis et al. 2021 (arXiv 2006.07869); jumanji.environments.routing.robot_warehouse.
    """
    with _jumanji("rware"):
        from jumanji.environments.routing.robot_warehouse import utils
        from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse
        from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator

        generator = RandomGenerator(
            shelf_rows=shelf_rows,
            shelf_columns=shelf_columns,
            column_height=column_height,
            num_agents=num_agents,
            sensor_range=sensor_range,
            request_queue_size=request_queue_size,
        )
        env = RobotWarehouse(generator, time_limit=_limit(max_steps), viewer=_UNSEEN)

    def collided(inner: Any) -> Array:
        return jnp.any(jax.vmap(lambda agent, i: utils.is_collision(inner.grid, agent, i))(inner.agents, env.agent_ids))

    actions = ("stay", "forward", "left", "right", "toggle")
    return FromJumanji(env, name="jumanji/rware", action_names=actions, own_end=collided)


def connector(*, grid_size: int = 10, num_agents: int = 10, max_steps: int = 50) -> Environment:
    """A circuit board: every agent lays a wire to its target, and no wire crosses another.

    Args:
      grid_size: places along a side.
      num_agents: wires.
      max_steps: an episode is cut off after so many steps.

    Raises:
      UserError: jumanji is not installed, or does not take these sizes.

    An agent sees six boards [G, G]: its own wire, head and target, and those of all others. The critic sees
    wires, heads and targets, and for each place whose they are.

    Source: Bonnet et al. 2023 (arXiv 2306.09884); jumanji.environments.routing.connector.
    """
    with _jumanji("connector"):
        from jumanji.environments.routing.connector.env import Connector
        from jumanji.environments.routing.connector.generator import RandomWalkGenerator

        if grid_size < 2 or not 1 <= num_agents <= grid_size**2 // 2:
            raise ValueError(f"{num_agents} wires do not fit on {grid_size} x {grid_size} places")
        generator = RandomWalkGenerator(grid_size=grid_size, num_agents=num_agents)
        env = Connector(generator, time_limit=_limit(max_steps), viewer=_UNSEEN)

    def kinds(grid: Array) -> tuple[Array, Array]:
        """Who is where (-1: nobody), and wire, head and target, [3, G, G]."""
        whose = jnp.where(grid > 0, (grid - 1) // 3, -1)
        return whose, (grid > 0) & ((grid - 1) % 3 == jnp.arange(3)[:, None, None])

    def see(seen: Any) -> Array:
        whose, what = kinds(seen.grid)
        own = whose == jnp.arange(num_agents)[:, None, None]
        return jnp.concatenate([what & own[:, None], what & ~own[:, None]], axis=1)

    def state(seen: Any) -> Array:
        whose, what = kinds(seen.grid)
        return jnp.concatenate([what.astype(jnp.float32), (whose + 1)[None] / num_agents])

    actions = ("stay", "north", "east", "south", "west")
    return FromJumanji(env, name="jumanji/connector", action_names=actions, see=see, state=state)


class _Unseen:
    """Jumanji's viewers open windows and import matplotlib's animations; nothing here is drawn by them."""

    def close(self) -> None:
        """Nothing is open."""


_UNSEEN: Any = _Unseen()


def _limit(max_steps: int) -> int:
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, not {max_steps}")
    return max_steps


@contextlib.contextmanager
def _jumanji(name: str) -> Iterator[None]:
    """Says in one line that jumanji is missing, or what it does not take."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"jumanji/{name} needs jumanji; it comes with `pip install -e '.[jumanji]'` ({error})"
        ) from error
    except (AssertionError, ValueError) as error:
        raise UserError(f"jumanji/{name}: {error or 'these sizes do not fit together'}") from error
