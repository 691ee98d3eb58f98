"""An experiment as compiled programs over its seeds: the first state, updates, evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from gpae.accelerator import runs_once
from gpae.algorithms.base import Algorithm, Budget
from gpae.algorithms.per_agent import PerAgent
from gpae.algorithms.sharding import AXIS, SEEDS, grouped, shardings, shared_out
from gpae.envs.outside_jax import OutsideJax
from gpae.errors import UserError
from gpae.settings import as_arrays
from gpae.training import distributed
from gpae.training.compilation import Program, enable_compilation_cache
from gpae.training.config import ExperimentConfig
from gpae.training.device import mesh, require_device, usable
from gpae.training.environment import make_environment
from gpae.training.evaluate import Episodes, run_episodes
from gpae.training.outside_jax import OutsideLoop
from gpae.training.seeds import Seeds


class Experiment:
    """Everything of an experiment that runs on the device."""

    def __init__(
        self,
        config: ExperimentConfig,
        devices: int | None = 1,
        *,
        twin: Experiment | None = None,
        only_played: bool = False,
    ):
        """Makes environment and algorithm; nothing is compiled yet.

        Args:
          config: what to learn, where and how.
          devices: that train, see `gpae.training.device.mesh`.
          twin: an experiment that differs in traced settings alone. It begins and is evaluated alike, so that its
            programs are used.
          only_played: nothing is trained; so all usable devices share its episodes, whatever groups it has.

        Raises:
          UserError: settings that are wrong or do not fit together, or JAX has no such devices.
        """
        require_device()
        enable_compilation_cache()
        self.config = config.validate()
        self.env = make_environment(config)
        self.spec = self.env.spec
        self.algorithm: Algorithm = config.algorithm
        self.algorithm.fits(self.spec)
        self.seeds = Seeds(config.seed, config.seeds)
        self._twin = twin
        self.outside: OutsideLoop | None = _outside(self, devices, None if twin is None else twin.outside)
        self.groups = config.groups or 1
        shared = (len(usable()), None) if only_played else (self.groups, devices)
        self.mesh = None if self.outside is not None else mesh(*shared, config.seeds)

    @property
    def shared_out(self) -> str:
        """Which devices train, in a line; empty where one does."""
        if self.mesh is None:
            return ""
        rows, each = self.mesh.shape[SEEDS], self.mesh.shape[AXIS]
        there, kind = jax.device_count(), self.mesh.devices.flat[0].platform
        seeds = [f"{self.seeds.count} seeds"] * (rows > 1)
        environments = [f"the environments in {self.groups} groups"] * (each > 1)
        return f"{rows * each} of {there} devices ({kind}) share {' and '.join(seeds + environments)}"

    @property
    def score_name(self) -> str:
        """What the best parameters are the best in: the greedy win rate, or the return where nothing is won."""
        return next(iter(self.measures))

    @property
    def measures(self) -> dict[str, str]:
        """What an evaluation measures: metrics, the score first, and the fields of `Episodes` they come from."""
        wins = {"win_rate": "won"} if self.spec.has_wins else {}
        return wins | {"return": "returns", "episode_length": "lengths"}

    # -- training --------------------------------------------------------------------------------------------------

    @cached_property
    def traced(self) -> Algorithm:
        """The algorithm with its traced settings as arrays, the same for all seeds."""
        return self._everywhere(as_arrays(self.algorithm))

    @cached_property
    def budget(self) -> Budget:
        """How long the training is to be."""
        gradient_steps = self._everywhere(jnp.float32(self.config.gradient_steps))
        return Budget(updates=self.config.num_updates, gradient_steps=gradient_steps)

    def init(self) -> Any:
        """The state before the first update."""
        if self._twin is not None:
            return self._twin.init()
        return self.spread(self._init(self.seeds.keys(0)))

    def compile_init(self) -> None:
        """Begins to compile what `init` runs, which its first call does otherwise."""
        (self if self._twin is None else self._twin)._init.compile()

    @cached_property
    def _init(self) -> Program:
        def init(key: Array) -> Any:
            return self.algorithm.init(self.env, key)

        # One seed after the other: batched decompositions (of orthogonal weights) share XLA's threads with the program
        # that waits for them, and where there are only two all of them came to wait for ever (jaxlib 0.10.2).
        return Program(self.seeds.one_by_one(init), self.seeds.keys(0), compiler_options=runs_once())

    @cached_property
    def _shardings(self) -> Any:
        """Of the state; None where one device trains."""
        return None if self.mesh is None else shardings(self.shapes, self.mesh, self.seeds.count > 1)

    def spread(self, state: Any) -> Any:
        """A state, as it was begun or restored, where it belongs: shared out over the devices that train."""
        return state if self.mesh is None else distributed.put(state, self._shardings)

    def _everywhere(self, tree: Any) -> Any:
        """What is the same for all, on all devices."""
        return tree if self.mesh is None else distributed.put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def _of_seeds(self, tree: Any) -> Any:
        """What each seed has one of, such as parameters and keys, on the devices of that seed."""
        if self.mesh is None:
            return tree
        where = PartitionSpec(SEEDS) if self.seeds.count > 1 else PartitionSpec()
        return distributed.put(tree, NamedSharding(self.mesh, where))

    @cached_property
    def shapes(self) -> Any:
        """Shapes and dtypes of the state."""
        return self._init.shapes if self._twin is None else self._twin.shapes

    def updates(self, state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, dict[str, Array]]:
        """What a call runs for all seeds: k = `updates_per_call` updates; the state, and metrics [k, ...]."""
        devices = 1 if self.mesh is None else self.mesh.shape[AXIS]
        update = grouped(self.env, self.groups, devices)

        def of_a_seed(state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, dict[str, Array]]:
            return jax.lax.scan(
                lambda state, _: update(state, algorithm, budget),
                state,
                length=self.config.evaluation.updates_per_call,
            )

        call = self.seeds.over(of_a_seed, (0, None, None))
        if self.mesh is not None:
            call = shared_out(call, self.mesh, self.seeds.count > 1)
        with self.precision():
            return call(state, algorithm, budget)

    def precision(self) -> AbstractContextManager[Any]:
        """While it is entered, products are traced with the precision asked for: whoever plays or learns enters it."""
        asked = self.config.matmul_precision
        return nullcontext() if asked == "default" else jax.default_matmul_precision(asked)

    @cached_property
    def _update(self) -> Program:
        where: dict[str, Any] = {}
        if self.mesh is not None:
            everywhere = NamedSharding(self.mesh, PartitionSpec())
            held = self._shardings
            where = {"in_shardings": (held, everywhere, everywhere), "out_shardings": (held, everywhere)}
        return Program(self.updates, self.shapes, self.traced, self.budget, donate_argnums=0, **where)

    def compile_update(self, *, wait: bool = True) -> None:
        """Compiles `update`, which its first call does otherwise; begins it alone if nobody is to wait for it."""
        if self.outside is not None:
            if wait:
                self.outside.compile(self.shapes, self.traced, self.budget)
        elif wait:
            self._update.wait()
        else:
            self._update.compile()

    def update(self, state: Any) -> tuple[Any, dict[str, Array]]:
        """State -> state, metrics [k, ...]: k = `updates_per_call` updates. The state is donated."""
        if self.outside is not None:
            return self.outside.update(state, self.traced, self.budget)
        return self._update(state, self.traced, self.budget)

    def close(self) -> None:
        """Closes environments outside JAX."""
        if self.outside is not None:
            self.outside.close()

    # -- evaluation ------------------------------------------------------------------------------------------------

    @cached_property
    def _episodes(self) -> Any:
        if self._twin is not None:
            return self._twin._episodes
        half = self.config.evaluation.evaluation_episodes
        greedy = jnp.arange(2 * half) < half
        if self.outside is not None:
            return self.outside.episodes(np.asarray(greedy))
        where: dict[str, Any] = {}
        spread = None
        if self.mesh is not None:
            spread = NamedSharding(self.mesh, PartitionSpec(AXIS))
            where["out_shardings"] = NamedSharding(self.mesh, PartitionSpec())

        def played(params: Any, key: Array) -> Episodes:
            with self.precision():
                return run_episodes(self.env, self.algorithm, params, key, greedy, spread)

        params, keys = self.shapes.params.actor, self.seeds.keys(1)
        if self.mesh is not None:
            where["in_shardings"] = (self._shardings.params.actor, self._of_seeds(keys).sharding)
        return Program(self.seeds.over(played, spread_over=SEEDS), params, keys, **where)

    def compile_evaluation(self) -> None:
        """Compiles what `evaluate` runs when what is being compiled is ready; its first call does otherwise."""
        if self.outside is None:
            self._episodes.compile(last=True)

    @property
    def evaluation_compiled(self) -> bool:
        """Whether the next evaluation begins at once."""
        owner = self if self._twin is None else self._twin
        return "_episodes" in owner.__dict__ and (owner.outside is not None or owner._episodes.ready)

    def evaluate(
        self, actor: Any, purpose: int, number: int = 0, episodes: int | None = None
    ) -> list[dict[str, list[float]]]:
        """Greedy and sampled episodes of every seed: name -> one value per episode.

        Args:
          actor: the actor's parameters.
          purpose: which stream of keys, see `Seeds.keys`.
          number: which evaluation of that purpose.
          episodes: how many of each kind; default `evaluation_episodes`, which is also how many are played at once.
        """
        half = self.config.evaluation.evaluation_episodes
        episodes = episodes or half
        actor = self._of_seeds(actor)
        keys, fold = self.seeds.keys(purpose, number), self.seeds.over(jax.random.fold_in, (0, None))
        parts = []
        for i in range(math.ceil(episodes / half)):
            played = self._episodes(actor, self._of_seeds(fold(keys, i)))
            parts.append(jax.device_get(replace(played, states=None)))
        found = []
        for place, _ in enumerate(self.seeds):
            of_seed: dict[str, list[float]] = {}
            for prefix, rows in (("", slice(None, half)), ("sampled_", slice(half, None))):
                for name, field in self.measures.items():
                    values = np.concatenate([getattr(self.seeds.of(p, place), field)[rows] for p in parts])
                    of_seed[prefix + name] = values[:episodes].astype(float).tolist()
            found.append(of_seed)
        return found

    def score(self, evaluation: dict[str, list[float]]) -> float:
        """The mean over episodes of what the best parameters are the best in."""
        return float(np.mean(evaluation[self.score_name]))

    def watched(self, actor: Any, show: Callable[[np.ndarray], None], number: int = 0) -> tuple[float, bool]:
        """The greedy episode of `episode` where the environment is outside JAX, see `OutsideLoop.watched`."""
        assert self.outside is not None
        return self.outside.watched(actor, self.seeds.keys(4, number), show)

    def episode(self, actor: Any, number: int = 0) -> Episodes:
        """One greedy episode of the first seed with its states, and the others that are played beside it."""
        actor, keys = self._of_seeds((actor, self.seeds.keys(4, number)))
        return jax.device_get(self.seeds.of(self._episodes(actor, keys)))


def _outside(experiment: Experiment, devices: int | None, twin: OutsideLoop | None) -> OutsideLoop | None:
    """Who plays the environments; None where they are in JAX.

    Raises:
      UserError: several devices are to share them. Playing takes most of the time, and is not done on a device; in
        groups one device would learn from other minibatches, and no sooner.
    """
    env = experiment.env
    if not isinstance(env, OutsideJax):
        return None
    groups, hosts = experiment.config.groups or 1, jax.process_count()
    several = {f"--groups {groups}": groups, f"--devices {devices}": devices or 1, f"--hosts {hosts}": hosts}
    if asked := [flag for flag, number in several.items() if number > 1]:
        raise UserError(
            f"{asked[0]}: {env.name} is outside JAX, where cores play it and one device learns from all of it; groups"
            " share environments in JAX out over several devices"
        )
    algorithm = experiment.algorithm
    if isinstance(algorithm, PerAgent) and algorithm.forgets_apart:
        raise UserError(f"--forget {algorithm.forget}: {env.name} is outside JAX, where nobody notes who survived")
    calls = experiment.config.evaluation.updates_per_call
    return OutsideLoop(env, experiment.algorithm, experiment.seeds, calls, experiment.precision, twin)
