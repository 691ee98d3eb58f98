"""Training in environments outside JAX: experience is collected here, and the update is the compiled one.

A row of a rollout is: show the views to a compiled policy, fetch its actions, have the pool play them. The rollout then
enters `Algorithm.update` as an environment that has been played (`gpae.algorithms.rollout.Played`), so that every
algorithm learns from it in one program, as it does from one in JAX.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.algorithms import replay
from gpae.algorithms.base import Algorithm, Budget
from gpae.algorithms.rollout import Last, Played, Policy, record
from gpae.envs.outside_jax import OutsideJax
from gpae.envs.protocol import Outcome
from gpae.envs.vector import VectorState
from gpae.errors import UserError
from gpae.outside_jax.pool import Pool
from gpae.outside_jax.sizes import Arrays, Undrawable, arrays, num_bytes
from gpae.training.evaluate import Episodes
from gpae.training.seeds import Seeds
from gpae.types import Trajectory, View

COLLECTED, LEARNT = "collect_steps_per_second", "learn_steps_per_second"
"""Metrics: environment steps of all seeds over the seconds that the one and the other half of an update took."""


class OutsideLoop:
    """What Python does for an experiment: plays, and calls the programs that act and learn.

    Args:
      env: where.
      algorithm: which learns.
      seeds: all of them, whose environments are one pool.
      calls: updates of each call of `update`.
      precision: while it is entered, products are traced with the precision that was asked for.
      twin: one of an experiment that differs in traced settings alone: its programs are used.
    """

    def __init__(
        self,
        env: OutsideJax,
        algorithm: Algorithm,
        seeds: Seeds,
        calls: int,
        precision: Callable[[], AbstractContextManager[Any]],
        twin: OutsideLoop | None,
    ) -> None:
        self.env, self.spec, self.algorithm, self.seeds = env, env.spec, algorithm, seeds
        self.calls, self.precision, self.twin = calls, precision, twin
        self._lead = () if seeds.count == 1 else (seeds.count,)
        self._compiled: tuple[Any, Any] | None = None
        self._training: Pool | None = None
        self._evaluation: tuple[int, Pool] | None = None

    def close(self) -> None:
        """Closes all environments."""
        for pool in (self._training, self._evaluation and self._evaluation[1]):
            if pool is not None:
                pool.close()
        self._training = self._evaluation = None

    # -- an update -------------------------------------------------------------------------------------------------

    def compile(self, shapes: Any, algorithm: Algorithm, budget: Budget) -> None:
        """Compiles what `update` calls, which its first call does otherwise; `shapes` are of the state."""
        if self._compiled is None:
            act, learn = self._lowered(shapes, algorithm, budget)
            self._compiled = act.compile(), learn.compile()

    def _lowered(self, shapes: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, Any]:
        act, learn = self._programs()
        one = arrays(bytes(num_bytes(self.env.sizes, self._count)), self.env.sizes, self._count)
        view, is_first, over = self._seen(one)

        def carried(state: Any, algorithm: Algorithm, budget: Budget) -> Any:
            return algorithm.acting(self.spec, state, budget)[1]

        carry = jax.eval_shape(self.seeds.over(carried, (0, None, None)), shapes, algorithm, budget)
        shown = (shapes, algorithm, budget, carry, view, is_first, np.int32(0))
        after, *acted = jax.eval_shape(act, *shown)
        brought = [self._of_seeds(x) for x in _brought(one)]
        rows, place = self.algorithm.experience.rollout_length, len(self._lead)

        def stacked(x: Any) -> Any:
            return jax.ShapeDtypeStruct((*x.shape[:place], rows, *x.shape[place:]), x.dtype)

        trajectory = jax.tree.map(stacked, _trajectory(view, acted, is_first, over, brought))
        played = VectorState(view, is_first, over), after, trajectory
        return act.lower(*shown), learn.lower(shapes, played, algorithm, budget)

    def update(self, state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, dict[str, Any]]:
        """`calls` updates: the state, and metrics [calls], with seeds in front. The state is donated.

        Raises:
          UserError: an environment failed; the state that was given is as it was.
        """
        found = []
        for _ in range(self.calls):
            state, metrics = self._update(state, algorithm, budget)
            found.append(metrics)
        return state, jax.tree.map(lambda *xs: np.stack(xs, axis=len(self._lead)), *found)

    def _update(self, state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, dict[str, Any]]:
        programs = self.twin or self
        programs.compile(jax.eval_shape(lambda: state), algorithm, budget)
        assert programs._compiled is not None
        act, learn = programs._compiled
        began = time.monotonic()
        if self._training is None:
            state = self._begin(state)
        vector, carry, trajectory = self._rollout(act, state, algorithm, budget)
        collected = time.monotonic()
        state, metrics = jax.block_until_ready(learn(state, (vector, carry, trajectory), algorithm, budget))
        steps = trajectory.valid.size
        halves = {COLLECTED: steps / (collected - began), LEARNT: steps / (time.monotonic() - collected)}
        return state, jax.device_get(metrics) | {k: np.full(self._lead, v, np.float32) for k, v in halves.items()}

    def _begin(self, state: Any) -> Any:
        """Begins an episode everywhere: at the start, and where a run is resumed, whose environments are gone."""
        self._training = pool = self.env.pool(self._count, automatic=True)
        pool.begin(self._streams(state.key, self.algorithm.experience.envs))
        return self._cut(state)

    @cached_property
    def _cut(self) -> Callable[[Any], Any]:
        """Tells a learner's state that what follows in its window is not known."""

        def cut(state: Any) -> Any:
            window = getattr(state, "window", None)
            if window is None or not window.segments.trajectory.valid.size:
                return state
            trajectory = window.segments.trajectory
            newest = replay.closed(jax.tree.map(lambda x: x[-1], trajectory))
            trajectory = jax.tree.map(lambda x, new: x.at[-1].set(new), trajectory, newest)
            return replace(state, window=replace(window, segments=replace(window.segments, trajectory=trajectory)))

        return jax.jit(self.seeds.over(cut))

    def _rollout(
        self, act: Any, state: Any, algorithm: Algorithm, budget: Budget
    ) -> tuple[VectorState, Any, Trajectory]:
        """T rows. New arrays for each: those of the last rollout may still be read."""
        assert self._training is not None
        pool, rows = self._training, self.algorithm.experience.rollout_length
        seen = self._seen(pool.view)
        carry = algorithm.acting(self.spec, state, budget)[1]
        kept: list[Trajectory] = []
        for row in range(rows):
            before = jax.tree.map(np.copy, seen)
            view, is_first, over = before
            carry, *acted = act(state, algorithm, budget, carry, view, is_first, np.int32(row))
            actions, log_probs, forced = jax.device_get(acted)
            pool.view.actions[:] = actions.reshape(pool.view.actions.shape)
            pool.row()
            brought = [self._of_seeds(x).copy() for x in _brought(pool.view)]
            kept.append(_trajectory(view, (actions, log_probs, forced), is_first, ~over, brought))
        trajectory = jax.tree.map(lambda *xs: np.stack(xs, axis=len(self._lead)), *kept)
        return VectorState(*jax.tree.map(np.copy, seen)), carry, trajectory

    def _programs(self) -> tuple[Any, Any]:
        spec = self.spec

        def act(state: Any, algorithm: Algorithm, budget: Budget, carry: Any, view: View, first: Any, row: Any) -> Any:
            policy, _ = algorithm.acting(spec, state, budget)
            _, draw = jax.random.split(state.key)
            return policy(carry, view, first, jax.random.fold_in(draw, row))

        def learn(state: Any, played: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, dict[str, Array]]:
            key, _ = jax.random.split(state.key)  # the other half drew the actions
            env: Any = Played(spec, *played)
            return algorithm.update(env, replace(state, key=key), budget)

        acting = self._program(act, (0, None, None, 0, 0, 0, None))
        # Where a later of several updates may fail, the state that was given is still needed.
        learning = self._program(learn, (0, 0, None, None), donate_argnums=0 if self.calls == 1 else ())
        return acting, learning

    def _program(self, of_a_seed: Callable[..., Any], in_axes: Any, **how: Any) -> Any:
        """What is done for all seeds, to be compiled."""

        def precise(*args: Any) -> Any:
            with self.precision():
                return of_a_seed(*args)

        return jax.jit(self.seeds.over(precise, in_axes), **how)

    # -- an evaluation ---------------------------------------------------------------------------------------------

    def episodes(self, greedy: np.ndarray) -> Callable[[Any, Array], Episodes]:
        """What plays one episode in each of E environments, as `gpae.training.evaluate.run_episodes`, of every seed.

        Args:
          greedy: [E] bool; take the most probable action, or draw one.
        """
        spec, algorithm, num_envs = self.spec, self.algorithm, len(greedy)

        def act(params: Any, carry: Any, view: View, key: Array, row: Array) -> tuple[Any, Array]:
            carry, pi = algorithm.act(spec, params, carry, view, jnp.zeros(num_envs, bool))
            mode = pi.mode()
            drawn = pi.sample(jax.random.fold_in(key, row))
            return carry, jnp.where(greedy.reshape(-1, *[1] * (mode.ndim - 1)), mode, drawn)

        program = self._program(act, (0, 0, 0, 0, None))

        def play(params: Any, keys: Array) -> Episodes:
            pool = self._evaluating(num_envs)
            pool.begin(self._streams(keys, num_envs))
            carry = algorithm.actor(spec).initial_carry(num_envs, spec.num_agents)
            carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (*self._lead, *x.shape)), carry)
            returns, lengths = np.zeros(len(pool.view.over), np.float32), np.zeros(len(pool.view.over), np.int32)
            won = np.zeros(len(pool.view.over), bool)
            row = 0
            while not pool.view.over.all():
                playing = ~pool.view.over
                view = jax.tree.map(np.copy, self._seen(pool.view)[0])
                carry, actions = program(params, carry, view, keys, np.int32(row))
                pool.view.actions[:] = np.asarray(actions).reshape(pool.view.actions.shape)
                pool.row()
                returns += np.where(playing, pool.view.rewards, np.float32(0.0))
                lengths += playing
                won |= playing & pool.view.won
                row += 1
            shaped: Any = self._of_seeds
            return Episodes(returns=shaped(returns), lengths=shaped(lengths), won=shaped(won), states=None)

        return play

    def _evaluating(self, num_envs: int) -> Pool:
        # One that failed is closed, and another training of this program may go on.
        if self._evaluation is None or self._evaluation[0] != num_envs or self._evaluation[1].closed:
            pool = self.env.pool(num_envs * self.seeds.count, automatic=False)
            self._evaluation = num_envs, pool
        return self._evaluation[1]

    # -- shapes ----------------------------------------------------------------------------------------------------

    @property
    def _count(self) -> int:
        return self.algorithm.experience.envs * self.seeds.count

    def _of_seeds(self, x: np.ndarray) -> np.ndarray:
        """[S * E, ...] as [S, E, ...] where there are several seeds."""
        return x.reshape(*self._lead, -1, *x.shape[1:])

    def _seen(self, x: Arrays) -> tuple[View, Any, Any]:
        """What is seen, which rows begin an episode, and which are over: the pool's own memory."""
        view: Any = View(observations=x.observations, state=x.state, action_mask=x.action_mask, alive=x.alive)
        return jax.tree.map(self._of_seeds, (view, x.is_first, x.over))

    def _streams(self, keys: Array, num_envs: int) -> list[tuple[int, ...]]:
        """Numbers for every environment, those of a seed from its key."""
        words = np.asarray(jax.random.key_data(keys)).reshape(self.seeds.count, -1)
        return [(*map(int, of_seed), place) for of_seed in words for place in range(num_envs)]

    def watched(self, params: Any, keys: Array, show: Callable[[np.ndarray], None]) -> tuple[float, bool]:
        """Plays the greedy episode of the first seed that is the first one of `episodes`, and shows every moment of it.

        Args:
          params: the actor's, of all seeds.
          keys: as `episodes` is given them.
          show: is given what the environment looks like, [H, W, 3] uint8, at the beginning and after each step.

        Returns:
          The return, and whether the episode was won.

        Raises:
          Undrawable: the environment cannot be drawn.
          UserError: it failed otherwise.
        """
        spec, algorithm = self.spec, self.algorithm
        params = self.seeds.of(params)

        def act(carry: Any, view: View, is_first: Array, key: Array) -> tuple[Any, Array, Array, Array]:
            with self.precision():
                carry, pi = algorithm.act(spec, params, carry, view, is_first)
            return carry, pi.mode(), jnp.zeros(view.alive.shape), jnp.zeros(view.alive.shape, bool)

        carry = algorithm.actor(spec).initial_carry(1, spec.num_agents)
        drawn = replace(self.env, make=self.env.make_drawn or self.env.make, processes=0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Gymnasium's, of environments that do not list what they can render
                pool = drawn.pool(1, automatic=False)
        except UserError as error:  # it was made before, but not so that it can be drawn
            raise Undrawable(f"{self.env.name} cannot be drawn: {error}") from error
        with pool:
            pool.begin(self._streams(keys, 1)[:1])
            trajectory, _ = _episode(pool, act, carry, self.seeds.of(keys), lambda: show(pool.picture()))
        return float(trajectory.rewards.sum()), bool(trajectory.won.any())


def one_episode(env: OutsideJax, policy: Policy, carry: Any, key: Array) -> tuple[Trajectory, Last]:
    """An episode in one environment, [L + 1, 1, ...]: L steps, and the row that shows how it ended; then what follows.

    Args:
      env: where.
      policy: acts.
      carry: the policy's at the beginning, [1, ...].
      key: another one plays another episode.
    """
    with replace(env, processes=0).pool(1, automatic=False) as pool:
        pool.begin([tuple(map(int, np.asarray(jax.random.key_data(key))))])
        return _episode(pool, policy, carry, key)


def _episode(
    pool: Pool, policy: Policy, carry: Any, key: Array, look: Callable[[], None] = lambda: None
) -> tuple[Trajectory, Last]:
    """`one_episode` in a pool of one environment, where it has begun; `look` is called then, and after each step."""
    act, rows, seen, ended = jax.jit(policy), list[Trajectory](), pool.view, False
    while not ended:
        look()
        ended = bool(seen.over[0])
        view: Any = View(seen.observations, seen.state, seen.action_mask, seen.alive)
        view, is_first, over = jax.tree.map(np.copy, (view, seen.is_first, seen.over))
        carry, *acted = act(carry, view, is_first, jax.random.fold_in(key, len(rows)))
        acted = jax.device_get(acted)
        seen.actions[:] = acted[0]
        pool.row()
        rows.append(_trajectory(view, acted, is_first, ~over, [x.copy() for x in _brought(seen)]))
    return jax.tree.map(lambda *xs: np.stack(xs), *rows), Last(view, jnp.zeros(1, bool))


def _brought(x: Arrays) -> tuple[Any, Any, Any, Any]:
    """What a row brought: rewards, and who terminated, was truncated, has won."""
    return x.rewards, x.terminated, x.truncated, x.won


def _trajectory(view: View, acted: Any, is_first: Any, valid: Any, brought: Any) -> Trajectory:
    """A row of a trajectory."""
    rewards, terminated, truncated, won = brought
    outcome = Outcome(reward=rewards, terminated=terminated, truncated=truncated, won=won)
    return record(view, is_first, tuple(acted), outcome, valid)
