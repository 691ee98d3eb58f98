"""The host's side of training: a loop around a compiled update that evaluates, logs, saves and stops."""

from __future__ import annotations

import ast
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae import envs
from gpae.algorithms.actor_critic import Hyper, LearnerState, Networks, hyper_of
from gpae.algorithms.learners import make_learner, with_advantages
from gpae.diagnostics.credit import credited_episode, critic_use
from gpae.diagnostics.curves import learning_curve
from gpae.diagnostics.gif import draw_frames, save_gif
from gpae.diagnostics.strips import animate_credit, draw_credit
from gpae.envs.base import Environment, Scene
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory, read_config, read_metrics
from gpae.runs.evaluations import of_algorithm, read_evaluations
from gpae.training.compilation import enable_compilation_cache
from gpae.training.config import ExperimentConfig, RunOptions, as_dict, from_dict
from gpae.training.evaluate import Episodes, run_episodes
from gpae.training.policy import Policy, load_policy
from gpae.training.recorder import Progress, Sink, TensorBoard, WeightsAndBiases


class Interrupted(Exception):
    """Training stopped at a signal; everything is saved and can be resumed."""

    def __init__(self, signal_number: int, path: Path):
        """Remembers which signal it was, and where the run is."""
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; continue with --resume ({path})")
        self.exit_code = 128 + signal_number


class Diverged(Exception):
    """A loss, gradient or parameter is no longer finite; the last good checkpoint is kept."""


@dataclass(frozen=True)
class Run:
    """A run directory, to be looked into."""

    path: Path

    @property
    def config(self) -> ExperimentConfig:
        """The settings."""
        return from_dict(read_config(self.path))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One entry per update and seed (docs/metrics.md)."""
        return read_metrics(self.path)

    @property
    def evaluations(self) -> dict[str, Any]:
        """Of each seed, "seed_k", its evaluations in order, and "absolute_metrics"."""
        return of_algorithm(read_evaluations(self.path), self.config.env, self.config.algorithm)

    def policy(self, **which: Any) -> Policy:
        """What was learnt; see `gpae.load_policy`."""
        return load_policy(self.path, **which)


def make_environment(config: ExperimentConfig) -> Environment:
    """The environment of an experiment.

    Raises:
      UserError: an unknown environment, or options that it does not take.
    """
    options = {}
    for option in config.env_options:
        name, equals, text = option.partition("=")
        if not equals:
            raise UserError(f"--env-options {option}: an option is name=value")
        try:
            options[name] = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        except (ValueError, SyntaxError):
            options[name] = text
    env = envs.make(config.env, **options)
    return envs.TimeoutIsTermination(env) if config.timeout_is_termination else env


class Experiment:
    """An experiment's learner as compiled programs over its seeds.

    With one seed nothing has a seed axis; with several, states, metrics and episodes have one in front.
    """

    def __init__(self, config: ExperimentConfig):
        """Builds the learner; nothing is compiled yet.

        Raises:
          UserError: settings that are wrong or do not fit together.
        """
        enable_compilation_cache()
        self.config = config.validate()
        self.env = make_environment(config)
        self.learner = make_learner(config, self.env)
        self.seeds = list(range(config.seed, config.seed + config.seeds))

    def _over_seeds(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        return function if self.config.seeds == 1 else jax.vmap(function, in_axes)

    def _keys(self, purpose: int, number: int = 0) -> Array:
        """A key per seed for a purpose and a number in [0, 2^32) of it.

        Purposes: 0 training, 1 evaluations during it, 2 the absolute one, 3 those afterwards, 4 replays, 5 credit,
        6 the critic.
        """

        def one(seed: int) -> Array:
            return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), number)

        keys = [one(seed) for seed in self.seeds]
        return keys[0] if self.config.seeds == 1 else jnp.stack(keys)

    def init(self) -> LearnerState:
        """The state before the first update."""
        if self.config.seeds == 1:
            return jax.jit(self.learner.init)(self._keys(0))
        # One seed after the other: batched decompositions (of orthogonal weights) share XLA's threads with the program
        # that waits for them, and where there are only two all of them came to wait for ever (jaxlib 0.10.2).
        return jax.jit(lambda keys: jax.lax.map(self.learner.init, keys))(self._keys(0))

    @cached_property
    def shapes(self) -> LearnerState:
        """Shapes and dtypes of the state."""
        return jax.eval_shape(self._over_seeds(self.learner.init), self._keys(0))

    @cached_property
    def hyper(self) -> Hyper:
        """The traced hyperparameters, the same for all seeds."""
        return hyper_of(self.config)

    @cached_property
    def update(self) -> Any:
        """State -> state, metrics [k, ...]: k = `updates_per_call` updates. The state is donated."""

        def updates(state: LearnerState, hyper: Hyper) -> tuple[LearnerState, dict[str, Array]]:
            return jax.lax.scan(
                lambda state, _: self.learner.update(state, hyper), state, length=self.config.updates_per_call
            )

        program = jax.jit(self._over_seeds(updates, (0, None)), donate_argnums=0)
        return program.lower(self.shapes, self.hyper).compile()

    @cached_property
    def _episodes(self) -> Any:
        greedy = jnp.arange(2 * self.config.evaluation_episodes) < self.config.evaluation_episodes
        program = jax.jit(self._over_seeds(lambda params, key: run_episodes(self.learner, params, key, greedy)))
        return program.lower(self.shapes.params.actor, self._keys(1)).compile()

    def evaluate(
        self, actor: Any, purpose: int, number: int = 0, episodes: int | None = None
    ) -> list[dict[str, list[float]]]:
        """Greedy and sampled episodes of every seed: name -> one value per episode.

        Args:
          actor: the actor's parameters.
          purpose: which stream of keys, see `_keys`.
          number: which evaluation of that purpose.
          episodes: how many of each kind; default `evaluation_episodes`, which is also how many are played at once.
        """
        half = self.config.evaluation_episodes
        episodes = episodes or half
        keys, fold = self._keys(purpose, number), self._over_seeds(jax.random.fold_in, (0, None))
        parts = []
        for i in range(math.ceil(episodes / half)):
            played = self._episodes(actor, fold(keys, i))
            parts.append(jax.device_get(replace(played, states=None)))
        found = []
        for place, _ in enumerate(self.seeds):
            of_seed: dict[str, list[float]] = {}
            for prefix, rows in (("", slice(None, half)), ("sampled_", slice(half, None))):
                for name, field in (("win_rate", "won"), ("return", "returns"), ("episode_length", "lengths")):
                    if name == "win_rate" and not self.env.spec.has_wins:
                        continue
                    values = [getattr(p, field) if self.config.seeds == 1 else getattr(p, field)[place] for p in parts]
                    played_values = np.concatenate([v[rows] for v in values])[:episodes]
                    of_seed[prefix + name] = played_values.astype(float).tolist()
            found.append(of_seed)
        return found

    def score(self, evaluation: dict[str, list[float]]) -> float:
        """What the best parameters are the best in: the greedy win rate, or the return where nothing is won."""
        return float(np.mean(evaluation["win_rate" if self.env.spec.has_wins else "return"]))

    @property
    def drawable(self) -> bool:
        """Whether the environment can be drawn."""
        return hasattr(self.env, "scene")

    def replay(self, actor: Any, path: Path, *, number: int = 0) -> str:
        """Draws one greedy episode of the first seed.

        Returns:
          How it ended.

        Raises:
          UserError: the environment cannot be drawn.
        """
        if not self.drawable:
            raise UserError(f"{self.config.env} cannot be drawn: it has no method `scene`")
        played: Episodes = self._episodes(actor, self._keys(4, number))
        if self.config.seeds > 1:
            played = jax.tree.map(lambda x: x[0], played)
        length, won = int(played.lengths[0]), bool(played.won[0])
        states = jax.device_get(played.states)
        scene: Callable[[Any], Scene] = self.env.scene  # type: ignore[attr-defined]
        scenes = [scene(jax.tree.map(lambda x, t=t: x[t], states)) for t in range(length + 1)]
        outcome = ("won" if won else "lost") if self.env.spec.has_wins else f"return {float(played.returns[0]):.2f}"
        save_gif(scenes, path, title=f"{self.config.env}  {self.config.algorithm}", outcome=outcome)
        return outcome

    def _first_seed(self, tree: Any) -> Any:
        return tree if self.config.seeds == 1 else jax.tree.map(lambda x: x[0], tree)

    def credit(self, params: Networks, path: Path, *, number: int = 0) -> tuple[str, Path | None]:
        """Draws every agent's advantage over one episode of the first seed, and animates it beside the replay.

        Args:
          params: of actor and critic.
          path: the PNG to write; the animation goes beside it.
          number: which episode.

        Returns:
          How it ended, and the animation's path; None if the environment cannot be drawn.
        """
        keys, params = self._first_seed(self._keys(5, number)), self._first_seed(params)
        episode = credited_episode(with_advantages(self.learner), params, self.hyper, keys)
        names = self.env.spec.action_names
        labels = [str(agent) for agent in range(self.env.spec.num_agents)]
        scenes = []
        if self.drawable:
            scene: Callable[[Any], Scene] = self.env.scene  # type: ignore[attr-defined]
            rows = range(len(episode.alive))
            scenes = [scene(jax.tree.map(lambda x, t=t: x[t], episode.states)) for t in rows]
            labels = [f"{label} {unit}" for label, unit in zip(labels, scenes[0].labels, strict=False)]
        won = "won" if episode.won else "lost"
        outcome = won if self.env.spec.has_wins else f"return {float(episode.rewards.sum()):.2f}"
        title = f"{self.config.env}  {self.config.algorithm}"
        strips = draw_credit(episode, path, title=title, outcome=outcome, action_names=names, labels=labels)
        if not scenes:
            return outcome, None
        animation = path.with_suffix(".gif")
        animate_credit(*strips, draw_frames(scenes, title=title, outcome=outcome), animation)
        return outcome, animation

    def critic_use(self, params: Networks, *, number: int, num_envs: int, shuffles: int) -> dict[str, float]:
        """How much the critic of the first seed uses the others' actions; see `gpae.diagnostics.credit.critic_use`."""
        key, params = self._first_seed(self._keys(6, number)), self._first_seed(params)
        return critic_use(with_advantages(self.learner), params, self.hyper, key, num_envs=num_envs, shuffles=shuffles)


def train(config: ExperimentConfig, options: RunOptions | None = None) -> Run:
    """Trains from the first update to the last, or from the last checkpoint on.

    Args:
      config: what to learn, where and how.
      options: where to keep it.

    Returns:
      The finished run.

    Raises:
      UserError: something about the request is wrong; nothing has been changed.
      Diverged: a loss or a parameter became infinite or NaN.
      Interrupted: by SIGINT or SIGTERM, after saving.
    """
    options = options or RunOptions()
    experiment = Experiment(config)
    path = options.path(config)
    if options.resume and options.overwrite:
        raise UserError("--resume continues a run and --overwrite replaces it: choose one")
    if options.resume:
        # The preset is where the settings came from, not one of them.
        directory = RunDirectory.resume(path, as_dict(config), free=("preset",))
    else:
        directory = RunDirectory.create(path, as_dict(config), overwrite=options.overwrite)
    with directory, Checkpoints(directory.checkpoints) as checkpoints:
        _Training(experiment, directory, checkpoints, options).run()
    return Run(path)


class _Training:
    """One call of `train`."""

    def __init__(self, experiment: Experiment, directory: RunDirectory, checkpoints: Checkpoints, options: RunOptions):
        self.experiment, self.directory, self.checkpoints, self.options = experiment, directory, checkpoints, options
        self.config = experiment.config
        self.began = time.monotonic()
        self.done = 0
        self.best_scores = [-math.inf] * self.config.seeds

    @property
    def steps(self) -> int:
        """Environment steps done, of each seed."""
        return self.done * self.config.steps_per_update

    @property
    def seconds(self) -> float:
        """Time since the start of the run, pauses left out."""
        return time.monotonic() - self.began

    def run(self) -> None:
        config, experiment = self.config, self.experiment
        state, best = self._begin()
        sinks = self._sinks()
        progress = Progress(
            config.num_steps * config.seeds, start_steps=self.steps * config.seeds, quiet=self.options.quiet
        )
        with progress, contextlib.ExitStack() as stack:
            for sink in sinks:
                stack.callback(sink.close)
            if config.num_steps != config.total_steps:
                progress.line(f"{config.total_steps:,} steps asked for, {config.num_steps:,} run: whole updates")
            if self.done < config.num_updates:
                if state is None:
                    with progress.phase("compiling initial state"):
                        state = jax.block_until_ready(experiment.init())
                    best = state.params
                    best = jax.tree.map(jnp.copy, best)
                with progress.phase("compiling update"):
                    update = experiment.update
            evaluate_at, save_at = self._plan()
            with _signals() as received:
                while self.done < config.num_updates:
                    state, metrics = update(state, experiment.hyper)
                    self._log(jax.device_get(metrics), sinks, progress)
                    self.directory.commit()
                    if self.done in evaluate_at:
                        best = self._evaluate(state, best, sinks, progress)
                    stop = list(received)
                    if self.done in save_at or stop:
                        self._save(state, best)
                    if stop:
                        progress.line(f"stopped and saved after update {self.done}")
                        with contextlib.suppress(UserError):  # nothing to draw before the first evaluation
                            learning_curve(self.directory.path)
                        raise Interrupted(stop[0], self.directory.path)
            # Everything is saved by now: from here on a signal simply ends the program.
            self._finish(state, best, progress)

    def _begin(self) -> tuple[Any, Any]:
        """State and best parameters of the checkpoint that is resumed, or nothing."""
        if self.checkpoints.latest is None:
            self.directory.rewind(update=0, env_steps=0)
            return None, None
        shapes = self.experiment.shapes
        items, info = self.checkpoints.restore({"state": shapes, "best": shapes.params})
        self.done, self.best_scores = info["update"], info["best_scores"]
        self.began -= info["seconds"]
        self.directory.rewind(update=self.done, env_steps=self.steps)
        return items["state"], items["best"]

    def _sinks(self) -> list[Sink]:
        sinks: list[Sink] = []
        if self.options.tensorboard:
            sinks.append(TensorBoard(self.directory.path / "tensorboard", start_steps=self.steps))
        if self.options.wandb:
            sinks.append(
                WeightsAndBiases(
                    self.directory.path, config=as_dict(self.config), seeds=self.config.seeds, resume=self.done > 0
                )
            )
        return sinks

    def _plan(self) -> tuple[set[int], set[int]]:
        """The updates after which to evaluate and to save; all are ends of calls, the last update is in both."""
        per_call = self.config.updates_per_call
        calls = self.config.num_updates // per_call
        number = min(self.config.evaluations, calls)
        evaluate_at = {round(calls * (i + 1) / number) * per_call for i in range(number)}
        every = self.config.checkpoint_updates
        save_at = set(range(0, self.config.num_updates, math.ceil(every / per_call) * per_call)) if every else set()
        return evaluate_at, (save_at or evaluate_at) | {self.config.num_updates}

    def _log(self, metrics: dict[str, np.ndarray], sinks: list[Sink], progress: Progress) -> None:
        """Writes the metrics of one call, and stops if something is not finite."""
        config = self.config
        for k in range(config.updates_per_call):
            self.done += 1
            rates = []
            for place, seed in enumerate(self.experiment.seeds):
                # [seeds, k] or [k]
                values = {n: float(v[place, k] if config.seeds > 1 else v[k]) for n, v in metrics.items()}
                if values["episodes"]:
                    values["train_win_rate"] = values["wins"] / values["episodes"]
                    rates.append(values["train_win_rate"])
                if not values.get("stops", 1.0):  # there was nothing to measure it at
                    values = {n: v for n, v in values.items() if not n.startswith("advantage_gap")}
                if not self.experiment.env.spec.has_wins:
                    del values["wins"]
                    values.pop("train_win_rate", None)
                self.directory.log_metrics(
                    update=self.done, env_steps=self.steps, seed=seed, seconds=self.seconds, metrics=values
                )
                finite = {n: v for n, v in values.items() if math.isfinite(v)}
                for sink in sinks:
                    sink.log(self.steps, seed, finite)
                if bad := sorted(set(values) - set(finite)):
                    kept = self.checkpoints.latest
                    raise Diverged(
                        f"update {self.done}, seed {seed}: {', '.join(bad)} not finite; "
                        + (f"the checkpoint of update {kept} is kept" if kept else "there is no checkpoint yet")
                    )
        wins = float(np.mean(rates)) if rates and self.experiment.env.spec.has_wins else None
        progress.update(self.steps * config.seeds, self.done, win_rate=wins)

    def _evaluate(self, state: LearnerState, best: Any, sinks: list[Sink], progress: Progress) -> Any:
        """Evaluates the parameters, and keeps them where they are the best so far."""
        compiled = "_episodes" in self.experiment.__dict__
        with progress.phase("evaluating" if compiled else "compiling evaluation", once=not compiled):
            found = self.experiment.evaluate(state.params.actor, purpose=1, number=self.done)
        better = []
        for place, (seed, evaluation) in enumerate(zip(self.experiment.seeds, found, strict=True)):
            self.directory.log_evaluation(
                env=self.config.env,
                algorithm=self.config.algorithm,
                seed=seed,
                env_steps=self.steps,
                seconds=self.seconds,
                metrics=evaluation,
            )
            for sink in sinks:
                sink.log(self.steps, seed, {f"evaluation/{n}": float(np.mean(v)) for n, v in evaluation.items()})
            score = self.experiment.score(evaluation)
            better.append(score >= self.best_scores[place])  # of equals, the one trained longer
            self.best_scores[place] = max(score, self.best_scores[place])
        score = float(np.mean([self.experiment.score(e) for e in found]))
        if not self.experiment.env.spec.has_wins:
            progress.update(self.steps * self.config.seeds, self.done, episode_return=score)
        kind = "greedy win rate" if self.experiment.env.spec.has_wins else "greedy return"
        shown = f"{score:.1%}" if self.experiment.env.spec.has_wins else f"{score:.3g}"
        progress.line(f"{self.steps:,} steps: {kind} {shown}")
        flags = jnp.asarray(better)

        def choose(new: Array, old: Array) -> Array:
            where = flags[0] if self.config.seeds == 1 else flags.reshape(-1, *(1,) * (new.ndim - 1))
            return jnp.where(where, new, old)

        return jax.tree.map(choose, state.params, best)

    def _save(self, state: LearnerState, best: Any) -> None:
        spec = self.experiment.env.spec
        info = {
            "update": self.done,
            "env_steps": self.steps,
            "seconds": self.seconds,
            "best_scores": self.best_scores,
            "sizes": {name: getattr(spec, name) for name in ("num_agents", "num_actions", "observation_size")},
        }
        items = {"state": state, "best": best, "actor": state.params.actor, "best_actor": best.actor}
        if self.checkpoints.latest != self.done:
            self.checkpoints.save(self.done, items, info)

    def _finish(self, state: LearnerState, best: Any, progress: Progress) -> None:
        """The absolute evaluation, the curve and the replay."""
        with progress.phase("evaluating the best parameters", once=False):
            absolute = self.experiment.evaluate(best.actor, purpose=2, episodes=10 * self.config.evaluation_episodes)
        for seed, evaluation in zip(self.experiment.seeds, absolute, strict=True):
            self.directory.log_absolute(
                env=self.config.env, algorithm=self.config.algorithm, seed=seed, metrics=evaluation
            )
            shown = ", ".join(f"{name.replace('_', ' ')} {np.mean(values):.3g}" for name, values in evaluation.items())
            episodes = len(next(iter(evaluation.values())))
            progress.line(f"seed {seed}, best parameters, {episodes} episodes each: {shown}")
        with progress.phase("drawing", once=False):
            curve = learning_curve(self.directory.path)
            pictures = curve.name
            if self.experiment.drawable:
                self.experiment.replay(state.params.actor, self.directory.path / "replay.gif")
                pictures += " and replay.gif"
        progress.line(f"done in {self.seconds:.0f} s: {self.directory.path}, see {pictures}")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM; a second one acts as if nothing was in its way."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, _: Any) -> None:
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()
