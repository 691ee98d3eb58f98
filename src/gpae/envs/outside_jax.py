"""An environment outside JAX, as the rest of gpae sees it: its sizes, and what was seen last.

The programs that JAX compiles cannot step it. Its state, for them, is what it showed: `reset` and `step` return blanks
of the right shapes, and `gpae.algorithms.rollout.Played` puts in what a pool of instances went through.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs.protocol import Box, Discrete, Environment, EnvSpec, Outcome
from gpae.errors import UserError
from gpae.outside_jax.pool import Pool
from gpae.outside_jax.sizes import Instance, Sizes
from gpae.types import View


@dataclass(frozen=True, eq=False)
class OutsideJax:
    """An environment of which `make` makes an instance."""

    name: str
    make: Callable[[], Instance]
    sizes: Sizes
    make_drawn: Callable[[], Instance] | None = None
    """Makes an instance that can show what it looks like; None: `make` does."""
    processes: int | None = None
    """Worker processes; 0: none but the learner's own; None: one per core."""
    timeout_is_termination: bool = False
    """Whether a truncation counts as the episode's own end."""
    rules: Callable[[int], list[str]] = lambda steps: []
    """Plays so many steps by the rules of the library it comes from: remarks; a UserError where it breaks one."""

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        sizes = self.sizes
        return EnvSpec(
            name=self.name,
            num_agents=sizes.num_agents,
            actions=Box(sizes.action_size) if sizes.continuous else Discrete(tuple(map(str, range(sizes.action_size)))),
            observation_size=sizes.observation_size,
            state_size=sizes.state_size,
            episode_limit=sizes.episode_limit,
            has_wins=sizes.has_wins,
        )

    def reset(self, key: Array) -> View:
        """Nothing is seen yet."""
        sizes = self.sizes
        return View(
            observations=jnp.zeros((sizes.num_agents, sizes.observation_size)),
            state=jnp.zeros(sizes.state_size),
            action_mask=jnp.ones((sizes.num_agents, sizes.action_size), bool),
            alive=jnp.ones(sizes.num_agents, bool),
        )

    def step(self, key: Array, state: View, actions: Array) -> tuple[View, Outcome]:
        """Nothing happens: only the shapes are right."""
        no = jnp.bool_(False)
        return state, Outcome(reward=jnp.float32(0.0), terminated=no, truncated=no, won=no)

    def observe(self, state: View) -> View:
        """What was seen last."""
        return state

    def pool(self, count: int, *, automatic: bool) -> Pool:
        """`count` instances; see `gpae.outside_jax.rows.Rows` for `automatic`."""
        processes = _cores() if self.processes is None else self.processes
        how = {"automatic": automatic, "timeout_is_termination": self.timeout_is_termination}
        return Pool(self.make, self.sizes, count, processes, **how)


def refuse_outside_jax(env: Environment, what: str) -> None:
    """Raises a UserError where `what` would have to be compiled with an environment outside JAX."""
    if isinstance(env, OutsideJax):
        raise UserError(f"{what} needs an environment in JAX, and {env.name} is outside it")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_outside_jax(env: OutsideJax, *, steps: int = 2, seed: int = 0) -> None:
    """Plays one instance with random legal actions; the adapter compares what comes with what was declared.

    Raises:
      UserError: something is not as declared.
    """
    _play(env, steps, seed)


def remarks_on(env: OutsideJax, *, steps: int, seed: int) -> list[str]:
    """Plays twice, and by the rules of the library that the environment comes from: what is worth knowing.

    Raises:
      UserError: something is not as declared, or a rule is broken.
    """
    same = all(np.array_equal(x, y) for x, y in zip(_play(env, steps, seed), _play(env, steps, seed), strict=True))
    found = [] if same else ["two plays with one seed differ: what is learnt there cannot be repeated"]
    return found + env.rules(steps)


def _play(env: OutsideJax, steps: int, seed: int) -> list[np.ndarray]:
    """Everything that was seen in `steps` rows."""
    random, found = np.random.default_rng(seed), []
    with replace(env, processes=0).pool(1, automatic=True) as pool:
        pool.begin([(seed,)])
        for _ in range(steps):
            pool.view.actions[0] = _any_actions(env.sizes, pool.view.action_mask[0], random)
            pool.row()
            found += [x.copy() for x in vars(pool.view).values()]
    return found


def _any_actions(sizes: Sizes, mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Legal actions, drawn evenly; where they are continuous, from a box of twice the width, as a policy may."""
    if sizes.continuous:
        return random.uniform(-2.0, 2.0, mask.shape)
    return np.array([random.choice(np.flatnonzero(row)) for row in mask])
