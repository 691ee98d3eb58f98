"""What is drawn of a run: its learning curve and a replay when it ends, credit when asked. `train` trains and draws."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from gpae.algorithms.batch import PerNetwork
from gpae.diagnostics.credit import credited_episode, with_advantages
from gpae.diagnostics.curves import learning_curve
from gpae.diagnostics.gif import Film, draw_frames, save_gif
from gpae.diagnostics.strips import animate_credit, draw_credit
from gpae.envs.protocol import Scene
from gpae.errors import UserError
from gpae.runs.shared import FILM
from gpae.training import trainer
from gpae.training.config import ExperimentConfig, RunOptions
from gpae.training.experiment import Experiment
from gpae.training.recorder import Callback, EvaluationResult, OfFunction, Told
from gpae.training.run import Run


class Pictures:
    """A callback that draws curve.png, and replay.gif where the environment can be drawn."""

    def evaluated(self, evaluation: EvaluationResult) -> None:
        """Nothing is drawn yet."""

    def interrupted(self, path: Path) -> None:
        """The curve so far."""
        with contextlib.suppress(UserError):  # nothing to draw before the first evaluation
            learning_curve(path)

    def trained(self, path: Path, experiment: Experiment, params: Any) -> Sequence[str]:
        """Both pictures; the names of those that could be drawn."""
        files = [learning_curve(path).name]
        if drawable(experiment):
            replay(experiment, params.actor, path / FILM)
            files.append(FILM)
        return files

    def finished(self, path: Path) -> None:
        """Everything is drawn already."""


def train(config: ExperimentConfig, options: RunOptions | None = None, *, callback: Told | None = None) -> Run:
    """Trains from the first update to the last, or from the last checkpoint on, and draws what came out.

    Args:
      config: what to learn, where and how. Of a run that is resumed, `total_steps` alone may differ, and may only grow.
      options: where to keep it.
      callback: called after each evaluation with an `EvaluationResult`. Where it returns True the run is saved and
        trains no further; it counts as unfinished, and is resumed like one that a signal has stopped.

    Returns:
      The run; it is finished unless the callback has stopped it before its last step.

    Raises:
      UserError: something about the request is wrong; nothing has been changed.
      HostLost: another process of this training has ended.
      Diverged: a loss or a parameter became infinite or NaN.
      Interrupted: by SIGINT, SIGTERM or SIGUSR2, after saving.
      Failed: an environment outside JAX failed, after saving.
    """
    return trainer.train(config, options, callbacks=_with_pictures(callback))


def train_together(
    configs: Sequence[ExperimentConfig], options: Sequence[RunOptions], *, callback: Told | None = None
) -> list[Run]:
    """Trains configurations that differ in traced settings alone in one program, and draws what came out.

    Args and errors are those of `gpae.training.trainer.train_together`; the callback hears of all of them, and stops
    the one that it is told of.
    """
    return trainer.train_together(configs, options, callbacks=_with_pictures(callback))


def _with_pictures(callback: Told | None) -> list[Callback]:
    return [Pictures(), *([] if callback is None else [OfFunction(callback)])]


def drawable(experiment: Experiment) -> bool:
    """Whether the environment can be drawn."""
    return hasattr(experiment.env, "scene")


def scenes_of(experiment: Experiment, states: Any, number: int) -> list[Scene]:
    """The first `number` of `states`, drawn; none where the environment cannot be."""
    if not drawable(experiment):
        return []
    scene = experiment.env.scene  # type: ignore[attr-defined]
    return [scene(jax.tree.map(lambda x, t=t: x[t], states)) for t in range(number)]


def title(experiment: Experiment) -> str:
    """Environment and algorithm."""
    return f"{experiment.config.env}  {experiment.config.algorithm.name}"


def ending(experiment: Experiment, won: bool, episode_return: float) -> str:
    """How an episode ended, in a word or two."""
    return ("won" if won else "lost") if "win_rate" in experiment.measures else f"return {episode_return:.2f}"


def replay(experiment: Experiment, actor: Any, path: Path, *, number: int = 0) -> str:
    """Draws one greedy episode of the first seed.

    Returns:
      How it ended.

    Raises:
      Undrawable: the environment is outside JAX, and cannot be drawn.
      UserError: the environment cannot be drawn, or the file not written.
    """
    if experiment.outside is not None:
        film = Film()
        episode_return, won = experiment.watched(actor, film.add, number)
        outcome = ending(experiment, won, episode_return)
        film.save(path, title=title(experiment), outcome=outcome)
        return outcome
    if not drawable(experiment):
        raise UserError(f"{experiment.config.env} cannot be drawn: it has no method `scene`")
    played = experiment.episode(actor, number)
    scenes = scenes_of(experiment, played.states, int(played.lengths[0]) + 1)
    outcome = ending(experiment, bool(played.won[0]), float(played.returns[0]))
    save_gif(scenes, path, title=title(experiment), outcome=outcome)
    return outcome


def credit(experiment: Experiment, params: PerNetwork, path: Path, *, number: int = 0) -> tuple[str, Path | None]:
    """Draws every agent's advantage over one episode of the first seed, and animates it beside the replay.

    Args:
      experiment: of the run.
      params: of actor and critic, of all its seeds.
      path: the PNG to write; the animation goes beside it.
      number: which episode.

    Returns:
      How it ended, and the animation's path; None if the environment cannot be drawn.

    Raises:
      UserError: the algorithm has no advantages, or a file cannot be written.
    """
    seeds, algorithm = experiment.seeds, with_advantages(experiment.algorithm)
    with experiment.precision():
        episode = credited_episode(experiment.env, algorithm, seeds.of(params), seeds.of(seeds.keys(5, number)))
    scenes = scenes_of(experiment, episode.states, len(episode.alive))
    labels = [str(agent) for agent in range(experiment.spec.num_agents)]
    if scenes:
        labels = [f"{label} {unit}" for label, unit in zip(labels, scenes[0].labels, strict=False)]
    outcome = ending(experiment, episode.won, float(episode.rewards.sum()))
    names = experiment.spec.action_names
    strips = draw_credit(episode, path, title=title(experiment), outcome=outcome, action_names=names, labels=labels)
    if not scenes:
        return outcome, None
    animation = path.with_suffix(".gif")
    animate_credit(*strips, draw_frames(scenes, title=title(experiment), outcome=outcome), animation)
    return outcome, animation
