"""What a training tells, and whom: its run directory, the terminal, sinks, and callbacks of the caller's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpae.runs.directory import RunDirectory
from gpae.runs.elsewhere import Elsewhere
from gpae.training.config import RunOptions, as_dict
from gpae.training.experiment import Experiment
from gpae.training.outside_jax import COLLECTED, LEARNT
from gpae.training.progress import Progress
from gpae.training.sinks import Sink, TensorBoard, WeightsAndBiases


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation during training has found."""

    run: Path
    """The run directory."""
    update: int
    """Updates before it, of the whole run."""
    env_steps: int
    """Environment steps before it, of each seed."""
    seconds: float
    """Since the start of the run, pauses left out."""
    metrics: Mapping[int, Mapping[str, float]]
    """Seed -> name -> mean over its episodes. Names are win_rate (where there are wins), return and episode_length, and
    the same with sampled_ before them: of greedy and of sampled actions."""
    score_name: str
    """Which of them the best parameters are the best in."""

    def mean(self, name: str) -> float:
        """A metric's mean over the seeds."""
        return float(np.mean([found[name] for found in self.metrics.values()]))

    @property
    def score(self) -> float:
        """The mean over the seeds of what the best parameters are the best in."""
        return self.mean(self.score_name)


Told = Callable[[EvaluationResult], bool | None]
"""What `gpae.train` calls after each evaluation; the training stops where it returns True."""


class Callback(Protocol):
    """Someone who is told what happens in a training. Callbacks come last: everything is written by then."""

    def evaluated(self, evaluation: EvaluationResult) -> bool | None:
        """The parameters were evaluated. True: save, and train no further."""
        ...

    def interrupted(self, path: Path) -> None:
        """The run has been saved and stops before its last step."""
        ...

    def trained(self, path: Path, experiment: Experiment, params: Any) -> Sequence[str]:
        """All is trained; `params` are the last ones, of both networks. Returns names of files worth a look.

        The evaluation of the best parameters, which marks a run as finished, is written when all have returned: what a
        kill leaves undone here is made up for when the run is resumed.
        """
        ...

    def finished(self, path: Path) -> None:
        """Everything is written."""
        ...


class OfFunction:
    """A callback that only hears of evaluations."""

    def __init__(self, function: Told):
        """Calls `function`."""
        self.function = function

    def evaluated(self, evaluation: EvaluationResult) -> bool | None:
        """Whatever the function says."""
        return self.function(evaluation)

    def interrupted(self, path: Path) -> None:
        """Not told."""

    def trained(self, path: Path, experiment: Experiment, params: Any) -> Sequence[str]:
        """Not told, and nothing is drawn."""
        return ()

    def finished(self, path: Path) -> None:
        """Not told."""


class Recorder:
    """Metrics and evaluations of one training, on their way to whoever wants them. Use as a context manager."""

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory | Elsewhere,
        options: RunOptions,
        callbacks: Sequence[Callback],
        *,
        start_steps: int,
    ):
        """Starts nothing yet; `start_steps` were done before, by the run that is resumed."""
        self.experiment, self.directory, self.options = experiment, directory, options
        self.callbacks = callbacks
        self.start_steps = start_steps
        config = experiment.config
        self.progress = Progress(
            config.num_steps * config.seeds, start_steps=start_steps * config.seeds, quiet=options.quiet
        )
        self.sinks: list[Sink] = []

    def __enter__(self) -> Recorder:
        self._stack = contextlib.ExitStack()
        config, path = self.experiment.config, self.directory.path
        if self.options.tensorboard:
            self.sinks.append(TensorBoard(path / "tensorboard", start_steps=self.start_steps))
        if self.options.wandb:
            resumed = self.start_steps > 0
            self.sinks.append(WeightsAndBiases(path, config=as_dict(config), seeds=config.seeds, resume=resumed))
        for sink in self.sinks:
            self._stack.callback(sink.close)
        self._stack.enter_context(self.progress)
        return self

    def __exit__(self, *what: Any) -> None:
        self._stack.__exit__(*what)

    def update(
        self, number: int, env_steps: int, seconds: float, metrics: Mapping[str, np.ndarray]
    ) -> dict[int, list[str]]:
        """Writes what one update measured; `metrics` are [seeds], or [] where there is one.

        Returns:
          Seed -> names of metrics that are not finite; empty if all are.
        """
        experiment = self.experiment
        wins = "win_rate" in experiment.measures
        rates, wrong = [], {}
        for place, seed in enumerate(experiment.seeds):
            values = {name: float(experiment.seeds.of(value, place)) for name, value in metrics.items()}
            if not wins:
                del values["wins"]
            elif values["episodes"]:
                values["train_win_rate"] = values["wins"] / values["episodes"]
                rates.append(values["train_win_rate"])
            if not values.get("stops", 1.0):  # there was nothing to measure it at
                values = {n: v for n, v in values.items() if not n.startswith("advantage_gap")}
            self.directory.log_metrics(update=number, env_steps=env_steps, seed=seed, seconds=seconds, metrics=values)
            finite = {n: v for n, v in values.items() if math.isfinite(v)}
            for sink in self.sinks:
                sink.log(env_steps, seed, finite)
            if bad := sorted(set(values) - set(finite)):
                wrong[seed] = bad
        rate = float(np.mean(rates)) if rates else None
        halves = (values[COLLECTED], values[LEARNT]) if COLLECTED in values else None
        self.progress.update(env_steps * experiment.config.seeds, number, win_rate=rate, halves=halves)
        return wrong

    def evaluation(
        self, number: int, env_steps: int, seconds: float, found: Sequence[Mapping[str, Sequence[float]]]
    ) -> bool:
        """Writes an evaluation of every seed after `number` updates, and tells of it; whether to stop."""
        config, experiment = self.experiment.config, self.experiment
        for seed, evaluation in zip(experiment.seeds, found, strict=True):
            self.directory.log_evaluation(
                env=config.env,
                algorithm=config.algorithm.name,
                seed=seed,
                env_steps=env_steps,
                seconds=seconds,
                metrics=evaluation,
            )
            for sink in self.sinks:
                sink.log(env_steps, seed, {f"evaluation/{n}": float(np.mean(v)) for n, v in evaluation.items()})
        means = [{name: float(np.mean(values)) for name, values in e.items()} for e in found]
        result = EvaluationResult(
            run=self.directory.path,
            update=number,
            env_steps=env_steps,
            seconds=seconds,
            metrics=dict(zip(experiment.seeds, means, strict=True)),
            score_name=experiment.score_name,
        )
        score = result.score
        if experiment.score_name == "return":
            self.progress.update(env_steps * config.seeds, number, episode_return=score)
        self.line(f"{env_steps:,} steps: greedy {shown(experiment.score_name, score)}")
        answers = [callback.evaluated(result) for callback in self.callbacks]
        return any(answers)

    def _absolute(self, found: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Writes the evaluation of the best parameters."""
        config = self.experiment.config
        for seed, evaluation in zip(self.experiment.seeds, found, strict=True):
            self.directory.log_absolute(env=config.env, algorithm=config.algorithm.name, seed=seed, metrics=evaluation)
            words = ", ".join(shown(name, float(np.mean(values))) for name, values in evaluation.items())
            episodes = len(next(iter(evaluation.values())))
            self.line(f"seed {seed}, best parameters, {episodes} episodes each: {words}")

    def line(self, text: str) -> None:
        """Prints a line."""
        self.progress.line(text)

    def interrupted(self) -> None:
        """Tells that the run has been saved and stops."""
        for callback in self.callbacks:
            callback.interrupted(self.directory.path)

    def finished(
        self, experiment: Experiment, params: Any, absolute: Sequence[Mapping[str, Sequence[float]]], seconds: float
    ) -> None:
        """Has everything drawn by `experiment`, then writes the evaluation of the best parameters.

        Now the run counts as finished.
        """
        path, files = self.directory.path, list[str]()
        with self.progress.phase("drawing", once=False):
            for callback in self.callbacks:
                files += callback.trained(path, experiment, params)
        see = f", see {' and '.join(files)}" if files else ""
        self._absolute(absolute)
        for callback in self.callbacks:
            callback.finished(path)
        self.progress.finish()
        self.line(f"done in {seconds:.0f} s: {path}{see}")


def shown(name: str, value: float) -> str:
    """A metric's name and its value, rates in per cent."""
    words = name.replace("_", " ")
    return f"{words} {value:.1%}" if name.endswith("win_rate") else f"{words} {value:.3g}"
