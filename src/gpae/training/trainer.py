"""The host's side of training: a loop around a compiled update that evaluates, saves and stops."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from gpae.envs.check import check_declared, check_played
from gpae.envs.registry import comes_along
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import CONFIG, RunDirectory
from gpae.runs.elsewhere import Elsewhere
from gpae.runs.files import write_json
from gpae.training import distributed
from gpae.training.config import ExperimentConfig, RunOptions, as_dict
from gpae.training.existing import check_resumable, completed, settled
from gpae.training.experiment import Experiment
from gpae.training.policy import described
from gpae.training.recorder import Callback, Recorder
from gpae.training.run import Run
from gpae.training.signals import interruptible, signals
from gpae.training.stopped import Diverged, Failed, Interrupted, Stopped
from gpae.training.together import Together
from gpae.training.transfer import Transfer, read_trained

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Signals to save and stop at; the last is what clusters send some time before they end a job."""


def train(config: ExperimentConfig, options: RunOptions | None = None, *, callbacks: Sequence[Callback] = ()) -> Run:
    """Trains from the first update to the last, or from the last checkpoint on.

    Args:
      config: what to learn, where and how. Of a run that is resumed, `total_steps` alone may differ, and may only grow.
      options: where to keep it.
      callbacks: whom to tell of evaluations and of the end; whoever says so stops the training.

    Returns:
      The run; it is finished unless a callback has stopped it.

    Raises:
      UserError: something about the request is wrong; nothing has been changed.
      HostLost: another process of this training has ended.
      Diverged: a loss or a parameter became infinite or NaN.
      Interrupted: by SIGINT, SIGTERM or SIGUSR2, after saving.
      Failed: an environment outside JAX failed, after saving.
    """
    return train_together([config], [options or RunOptions()], callbacks=callbacks)[0]


def train_together(
    configs: Sequence[ExperimentConfig], options: Sequence[RunOptions], *, callbacks: Sequence[Callback] = ()
) -> list[Run]:
    """Trains configurations that differ in traced settings alone, all in one program; each has a run of its own.

    A training alone and the same one beside others differ in the last bits. One that diverges leaves the others alone.

    Args:
      configs: what to learn; one compiled program updates all of them.
      options: where to keep each. The terminal shows the first.
      callbacks: whom to tell, of all of them. One that is stopped leaves the others alone.

    Returns:
      The runs, finished but for those that a callback has stopped.

    Raises:
      UserError, Diverged, Interrupted, Failed: as `train`, when the others have ended too.
    """
    if options[0].place is not None:
        options[0].place.join()
    devices = options[0].devices if len(configs) == 1 else 1
    configs = [settled(config, option, devices) for config, option in zip(configs, options, strict=True)]
    together = Together(configs, devices)
    if distributed.several() and together.experiments[0].mesh is None:
        raise UserError("several hosts share one training, and not --devices 1 or several trainings in one program")
    asked: Callable[[], list[int]] = list
    with contextlib.ExitStack() as stack:
        trainings: list[_Training] = []
        for place, (experiment, option) in enumerate(zip(together.experiments, options, strict=True)):
            option = option if place == 0 else replace(option, quiet=True)
            training = _Training(experiment, option, callbacks, together.compile_update, lambda: asked())
            trainings.append(stack.enter_context(training))
        with interruptible():
            for training in trainings:
                training.begin()
        stopped: list[Stopped] = []
        with signals(*_STOP) as caught, distributed.lost(trainings[0].directory.path):
            asked = distributed.Signals(caught)
            while busy := {i: t for i, t in enumerate(trainings) if t.state is not None}:
                # A kill between two that were saving leaves one behind: it catches up first.
                least = min(training.begun for training in busy.values())
                given = together.turn({i: t.state for i, t in busy.items() if t.begun == least})
                try:
                    found = together.update(given, len(busy))
                except UserError as error:  # of an environment outside JAX
                    found = {}
                    stopped += [trainings[place].failed(error) for place in given]
                for place, (state, metrics) in found.items():
                    try:
                        trainings[place].learnt(state, metrics)
                    except Stopped as stop:
                        stopped.append(stop)
        # Everything is saved by now: from here on a signal simply ends the program.
        interrupted = [stop for stop in stopped if isinstance(stop, Interrupted)]
        if not interrupted:
            with distributed.lost(trainings[0].directory.path), interruptible():
                for training in trainings:
                    training.finish()
        if stopped:
            raise (interrupted or stopped)[0]
    return [Run(option.path(config)) for option, config in zip(options, configs, strict=True)]


class _Training:
    """One training of a call: begun, told of each of its updates, finished."""

    def __init__(
        self,
        experiment: Experiment,
        options: RunOptions,
        callbacks: Sequence[Callback],
        compile_update: Callable[..., None],
        caught: Callable[[], list[int]],
    ):
        if not distributed.first():
            options, callbacks = replace(options, quiet=True, tensorboard=False, wandb=False), ()
        self.experiment, self.options, self.callbacks = experiment, options, callbacks
        self.compile_update, self.caught = compile_update, caught
        self.config = experiment.config
        self.began = time.monotonic()
        self.begun = self.done = 0
        """Updates that the device has been given, and those whose metrics are written down."""
        self.best_scores = [-math.inf] * self.config.seeds
        self.owes = False
        """Whether the evaluation of the checkpoint that is resumed failed."""
        self.state: Any = None
        """Of the learner, while it is to be updated."""
        self.trained_before: Transfer | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._trained: tuple[Any, Any] | None = None

    def __enter__(self) -> _Training:
        """Makes the run directory, or opens the one that is resumed."""
        if self.options.resume and self.options.overwrite:
            raise UserError("--resume continues a run and --overwrite replaces it: choose one")
        if self.config.from_ is not None and not self.options.resume:  # before anything is made or replaced
            self.trained_before = read_trained(self.config.from_, self.experiment)
        elsewhere: RunDirectory | Elsewhere = Elsewhere(self.options.path(self.config))
        self.directory = distributed.by_first(self._open, elsewhere)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.directory)
            stack.push(self._abandon)
            self.checkpoints = stack.enter_context(Checkpoints(self.directory.checkpoints))
            stack.callback(self.experiment.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *what: Any) -> None:
        self._stack.__exit__(*what)

    def _open(self) -> RunDirectory | Elsewhere:
        path, config = self.options.path(self.config), self.config
        if not self.options.resume:
            return RunDirectory.create(path, as_dict(config), overwrite=self.options.overwrite)
        check_resumable(path, config)
        return RunDirectory.resume(path, as_dict(config), free=("total_steps",), completed=completed)

    @property
    def steps(self) -> int:
        """Environment steps done, of each seed."""
        return self.done * self.config.algorithm.steps_per_update

    @property
    def seconds(self) -> float:
        """Time since the start of the run, pauses left out."""
        return time.monotonic() - self.began

    def begin(self) -> None:
        """Reads the checkpoint or makes the first state, and compiles."""
        config, experiment = self.config, self.experiment
        state, best, lines = self._begin()
        self.recorder = recorder = self._stack.enter_context(
            Recorder(experiment, self.directory, self.options, self.callbacks, start_steps=self.steps)
        )
        # Now that nothing is refused any more.
        distributed.by_first(lambda: self._rewind(lines), None)
        if said := experiment.shared_out:
            recorder.line(said)
        if config.num_steps != config.total_steps:
            recorder.line(f"{config.total_steps:,} steps asked for, {config.num_steps:,} run: whole updates")
        if self.done < config.num_updates:
            fresh, tested = state is None, comes_along(config.env)
            with recorder.progress.phase("tracing" if tested else "checking environment"):
                check_declared(experiment.env)
                # Compiled in other threads, while this one traces, plays and makes the first state.
                if fresh:
                    experiment.compile_init()
                self.compile_update(wait=False)
                if not tested:  # to compile the play costs seconds
                    check_played(experiment.env)
            with recorder.progress.phase("compiling"):
                if fresh:
                    state = jax.block_until_ready(experiment.init())
                experiment.compile_evaluation()
                self.compile_update()
            if fresh:
                if config.from_ is not None:
                    before = self.trained_before or read_trained(config.from_, experiment)
                    state = before.begin(experiment, state)
                    for line in before.report:
                        recorder.line(line)
                best = jax.tree.map(jnp.copy, state.params)
        self.evaluate_at, self.save_at = config.evaluation.updates(config.num_updates)
        if self.owes:
            best, halted = self._judge(state, best)
            if halted:
                self._halt(stopped=False)
                return
        self._next(state, best)

    def learnt(self, state: Any, metrics: dict[str, Any]) -> None:
        """Takes the state after a call and what was measured in it; evaluates and saves where that is due.

        Raises:
          Stopped: the training goes no further.
        """
        self.state = None  # nothing is left to be updated, should this raise
        best, halted = self.best, False
        self.begun += self.config.evaluation.updates_per_call
        self._unwritten.append(metrics)
        # Those of the call before are fetched while this one runs, unless something else has to wait for it.
        self._write(0 if self.begun in self.evaluate_at | self.save_at else 1)
        if self.begun in self.evaluate_at:
            best, halted = self._judge(state, best)
        if stop := self.caught():
            self._write(0)
        if self.begun in self.save_at or stop or halted:
            self._save(state, best)
        if stop or halted:
            self._halt(stopped=bool(stop))
        if stop:
            raise Interrupted(stop[0], self.directory.path)
        if not halted:
            self._next(state, best)

    def _judge(self, state: Any, best: Any) -> tuple[Any, bool]:
        """Evaluates; the best parameters, and whether a callback ends the training here.

        Raises:
          Failed: an environment outside JAX failed. What was learnt is saved, and whoever resumes evaluates it first.
          Diverged: a score is not finite.
        """
        try:
            best, halted = self._evaluate(state, best, self.recorder)
        except UserError as error:
            self.owes = True
            self._save(state, best)
            raise Failed(error, self.directory.path) from error
        self.owes = False
        return best, halted and self.begun < self.config.num_updates

    def _halt(self, *, stopped: bool) -> None:
        """Tells that the training goes no further."""
        by = "" if stopped else " by its callback"
        self.recorder.line(f"stopped{by} and saved after update {self.done}")
        self.recorder.interrupted()

    def _abandon(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Leaves no run that would be in the way of a training that came to nothing before its first update."""
        if kind is not None and not self.begun and isinstance(self.directory, RunDirectory):
            self.directory.abandon()

    def failed(self, error: UserError) -> Stopped:
        """Saves what was learnt before an environment failed; where nothing was, raises the error as it is."""
        if not self.begun:
            raise error
        state, self.state = self.state, None
        self._write(0)
        self._save(state, self.best)
        self.recorder.interrupted()
        return Failed(error, self.directory.path)

    def _write(self, left: int) -> None:
        """Writes what was measured down, but for the last calls."""
        while len(self._unwritten) > left:
            self._log(jax.device_get(self._unwritten.pop(0)), self.recorder)
            self.directory.commit()  # now an overwritten run may go

    def _next(self, state: Any, best: Any) -> None:
        self.best = best
        if self.begun < self.config.num_updates:
            self.state = state
        else:
            self._trained = state, best

    def finish(self) -> None:
        """Where all is learnt: the evaluation of the best parameters, and the pictures."""
        if self._trained is not None:
            state, best = self._trained
            with self.recorder.progress.phase("evaluating the best parameters", once=False):
                episodes = 10 * self.config.evaluation.evaluation_episodes
                absolute = self.experiment.evaluate(best.actor, purpose=2, episodes=episodes)
            params, experiment = distributed.whole(state.params), self.experiment
            if distributed.several() and distributed.first():
                experiment = Experiment(self.config)  # it draws alone
            distributed.by_first(lambda: self.recorder.finished(experiment, params, absolute, self.seconds), None)

    def _begin(self) -> tuple[Any, Any, int | None]:
        """State, best parameters and lines of metrics of the checkpoint that is resumed, or nothing."""
        state = best = None
        lines: int | None = 0
        if self.options.resume and self.checkpoints.latest is not None:
            shapes = self.experiment.shapes
            items, info = self.checkpoints.restore({"state": shapes, "best": shapes.params})
            self.begun = self.done = info["update"]
            self.best_scores, lines = info["best_scores"], info.get("lines")
            self.owes = info.get("owes") is True
            self.began -= info["seconds"]
            state = self.experiment.spread(items["state"])
            # Best parameters lie where the state's do, so that either can be chosen.
            best = distributed.put(items["best"], jax.tree.map(lambda x: x.sharding, state.params))
        return state, best, lines

    def _rewind(self, lines: int | None) -> None:
        """Forgets what was written after the checkpoint, of which metrics.jsonl had so many lines."""
        assert isinstance(self.directory, RunDirectory)
        # Of an evaluation that failed some seeds may be there.
        self.directory.rewind(update=self.done, env_steps=self.steps - self.owes, lines=lines)
        if self.options.resume:
            # `total_steps` may have grown. Not before: where the checkpoint does not fit, the run stays as it was.
            write_json(self.directory.path / CONFIG, as_dict(self.config))

    def _log(self, metrics: dict[str, Any], recorder: Recorder) -> None:
        """Writes the metrics of one call, and stops if something is not finite."""
        config = self.config
        for k in range(config.evaluation.updates_per_call):
            self.done += 1
            here = {name: value[:, k] if config.seeds > 1 else value[k] for name, value in metrics.items()}
            for seed, bad in recorder.update(self.done, self.steps, self.seconds, here).items():
                raise Diverged(f"update {self.done}, seed {seed}: {', '.join(bad)} not finite; {self._kept}")

    @property
    def _kept(self) -> str:
        kept = self.checkpoints.latest
        return f"the checkpoint of update {kept} is kept" if kept else "there is no checkpoint yet"

    def _evaluate(self, state: Any, best: Any, recorder: Recorder) -> tuple[Any, bool]:
        """Evaluates the parameters, keeps them where they are the best so far, and asks whether to stop."""
        experiment = self.experiment
        compiled = experiment.evaluation_compiled
        with recorder.progress.phase("evaluating" if compiled else "compiling evaluation", once=not compiled):
            found = experiment.evaluate(state.params.actor, purpose=1, number=self.done)
        scores = list(map(experiment.score, found))
        if bad := [seed for seed, score in zip(experiment.seeds, scores, strict=True) if not math.isfinite(score)]:
            raise Diverged(
                f"update {self.done}, seed {', '.join(map(str, bad))}: an evaluation's {experiment.score_name} is not"
                f" finite; {self._kept}"
            )
        halted = recorder.evaluation(self.done, self.steps, self.seconds, found)
        # Of equals, the one trained longer.
        better = [score >= highest for score, highest in zip(scores, self.best_scores, strict=True)]
        self.best_scores = [max(pair) for pair in zip(scores, self.best_scores, strict=True)]
        return experiment.seeds.choose(better, state.params, best), halted

    def _save(self, state: Any, best: Any) -> None:
        if self.checkpoints.latest == self.done:
            return
        self.directory.sync()
        info = {
            "update": self.done,
            "env_steps": self.steps,
            "lines": self.directory.lines,
            "seconds": self.seconds,
            "best_scores": self.best_scores,
        } | described(self.experiment.spec)
        if self.owes:
            info["owes"] = True
        params = state.params
        items = {"state": state, "params": params, "best": best, "actor": params.actor, "best_actor": best.actor}
        self.checkpoints.save(self.done, items, info)
