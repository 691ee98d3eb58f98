"""Carrying out a tuning: the same number of trials for each method, drawn by Optuna, trained some in one program.

The trials of a batch are drawn one after the other. The first is drawn freely; the others have its values of those
settings that are no inputs of a program (`Method.shared`), so that one program trains them all. What Optuna knows lies
in tuning.db (SQLite), what was learnt in the trials' run directories: a tuning that was killed goes on with the batch
that was running, each trial from its last checkpoint.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from gpae.errors import UserError
from gpae.runs.directory import is_run
from gpae.runs.evaluations import lacking, of_algorithm, read_evaluations
from gpae.runs.files import clear_disk_errors
from gpae.studies.database import database
from gpae.studies.execute import locked
from gpae.studies.tuning import Method, Score, Tuning
from gpae.training.config import ExperimentConfig, RunOptions
from gpae.training.experiment import Experiment
from gpae.training.recorder import EvaluationResult, OfFunction
from gpae.training.stopped import Interrupted, Stopped
from gpae.training.terminal import Terminal
from gpae.training.together import differing
from gpae.training.trainer import train_together

if TYPE_CHECKING:
    import optuna

_SEED = 0
_MOST_IN_VAIN = 100
"""Trials drawn for one batch whose settings do not fit together."""


@dataclass(frozen=True)
class Tried:
    """A trial that has ended."""

    number: int
    values: Mapping[str, Any]
    """Setting, as Python has it -> its value."""
    score: float | None
    """The mean over the seeds; of one that was pruned, when it was; None: it was never evaluated."""
    state: str
    """complete, pruned or failed."""


def scores(run: Path, config: ExperimentConfig, score: Score) -> list[float]:
    """A run's score at each of its evaluations: the mean over its seeds of the last few up to there."""
    of_seeds = of_algorithm(read_evaluations(run), config.env, config.algorithm.name)
    curves = []
    for steps in of_seeds.values():
        found = [step for name, step in steps.items() if name.startswith("step_")]
        found.sort(key=lambda step: step["step_count"])
        curves.append([float(np.mean(step[score.metric])) for step in found if score.metric in step])
    shortest = min(map(len, curves), default=0)
    means = np.mean([curve[:shortest] for curve in curves], axis=0) if shortest else np.zeros(0)
    return [float(np.mean(means[max(0, i + 1 - score.last) : i + 1])) for i in range(shortest)]


def tune(tuning: Tuning, *, console: Console | None = None) -> int:
    """Carries out what is left of a tuning.

    Args:
      tuning: which.
      console: what to show it on; default is standard output.

    Returns:
      0, or 128 and the number of the signal that stopped it: the same call goes on.

    Raises:
      UserError: Optuna is not installed, another process is at this tuning, its database is damaged or that of another
        file, no trials can be drawn whose settings fit together, or a trial's run cannot be made.
    """
    console = console or Terminal()
    with clear_disk_errors(tuning.path):
        tuning.path.mkdir(parents=True, exist_ok=True)
    with locked(tuning.path, console), database(tuning) as studies:
        searches = [_Search(tuning, method, studies[method.name], console) for method in tuning.methods]
        try:
            # In turn, so that all have as many trials whenever it is stopped.
            todo = searches
            while todo := [search for search in todo if search.batch()]:
                pass
        except Interrupted as stop:
            console.print(Text(f"{signal.Signals(stop.exit_code - 128).name}: saved; the same command continues"))
            return stop.exit_code
    return 0


def tried(tuning: Tuning) -> list[tuple[Method, list[Tried]]]:
    """The trials that have ended, of each method. Nothing is written.

    Raises:
      UserError: Optuna is not installed, or the tuning's database cannot be read or is that of another file.
    """
    return [(method, list(map(_tried, trials))) for method, trials in _trials(tuning)]


def importances(tuning: Tuning) -> list[dict[str, float]]:
    """Of each method, the share of each setting in what tells its best trials from the others; empty if too few.

    By PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255), whose best trials are a tenth, and five at least; from 20
    trials on. A trial that ended early counts as worse than all that did not: left out, a choice that was always given
    up early would look unimportant.

    Raises:
      UserError: as `tried`.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    found: list[dict[str, float]] = []
    for method, ended in _trials(tuning):
        # A trial that was pruned or failed has a value too, the last that it told.
        whole = [trial.value if trial.state == optuna.trial.TrialState.COMPLETE else None for trial in ended]
        worst = min((value for value in whole if value is not None), default=0.0) - 1.0
        values = [worst if value is None else value for value in whole]
        if len(ended) < _FEW or len(set(values)) < 2:
            found.append({})
            continue
        copy = optuna.create_study(direction="maximize")
        for trial, value in zip(ended, values, strict=True):
            copy.add_trial(
                optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value)
            )
        best = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _BEST / len(ended)))
        shares = get_param_importances(copy, evaluator=best)
        found.append({method.keys[name]: float(share) for name, share in shares.items()})
    return found


def _trials(tuning: Tuning) -> list[tuple[Method, list[optuna.trial.FrozenTrial]]]:
    """Of each method those that have ended, as Optuna has them."""
    with database(tuning, new=False) as studies:
        known = {name: list(filter(_ended, study.trials)) for name, study in studies.items()}
    return [(method, known.get(method.name, [])) for method in tuning.methods]


_BEST = 5
"""As many trials at least are the best ones, where they are told from the others: of one or two nothing is learnt."""
_FEW = 4 * _BEST
"""Fewer trials tell nothing of what is important."""


def _sampler(tuning: Tuning, number: int) -> Any:
    """What draws the trial of that number: the same whether or not the tuning was interrupted before."""
    import optuna

    seed = int(np.random.SeedSequence([_SEED, number]).generate_state(1)[0])
    if tuning.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _ended(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial counts; what was left half drawn, or does not fit together, is told as FAIL and does not."""
    return trial.state.name in ("COMPLETE", "PRUNED")


def _tried(trial: optuna.trial.FrozenTrial) -> Tried:
    state = "complete" if trial.state.name == "COMPLETE" else "pruned"
    if "failed" in trial.user_attrs:
        state = "failed"
    steps = trial.intermediate_values
    score = trial.value if trial.value is not None else steps[max(steps)] if steps else None
    return Tried(trial.number, dict(trial.params), score, state)


class _Search:
    """The trials of one method."""

    def __init__(self, tuning: Tuning, method: Method, study: optuna.Study, console: Console):
        self.tuning, self.method, self.study, self.console = tuning, method, study, console
        self.folder = tuning.path / method.name
        self.distributions = {name: domain.distribution() for name, domain in method.space.items()}
        self.open: dict[int, optuna.Trial] = {}
        """The batch: number -> trial."""
        self.reported: dict[int, int] = {}
        """Evaluations of each that Optuna knows."""

    def batch(self) -> bool:
        """Draws and trains the next trials, or those that were running; False if none are left."""
        self.open = {trial.number: trial for trial in self.running() or self.drawn()}
        configs = {number: self.method.trial(trial.params) for number, trial in self.open.items()}
        for group in _groups(configs, self.tuning.at_once):
            self.train({number: configs[number] for number in group})
        return bool(configs)

    def running(self) -> list[optuna.Trial]:
        """The trials of a batch that was interrupted."""
        from optuna.trial import Trial, TrialState

        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.params.keys() != self.method.space.keys():
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif not self.refused(trial):
                found.append(Trial(self.study, trial._trial_id))
                self.reported[trial.number] = len(trial.intermediate_values)
        return found

    def drawn(self) -> list[optuna.Trial]:
        """New trials, as many as one program trains or as are left; fewer if no others can be found.

        Raises:
          UserError: none can be found whose settings fit together.
        """
        left = self.tuning.trials - sum(map(_ended, self.study.get_trials(deepcopy=False)))
        found: list[optuna.Trial] = []
        shared: dict[str, Any] = {}
        in_vain: list[str] = []
        while len(found) < min(left, self.tuning.at_once) and len(in_vain) < _MOST_IN_VAIN:
            self.study.sampler = _sampler(self.tuning, len(self.study.get_trials(deepcopy=False)))
            if shared:
                self.study.enqueue_trial(shared)
            trial = self.study.ask(self.distributions)
            if why := self.refused(trial):
                in_vain.append(why)
                continue
            shared = shared or {name: trial.params[name] for name in self.method.shared}
            found.append(trial)
        if in_vain and not found:
            raise UserError(f"{self.method.name}: {len(in_vain)} trials were drawn in vain; the last: {in_vain[-1]}")
        return found

    def refused(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> str:
        """Why a trial's settings do not fit together, of which Optuna is told; empty where they do.

        The file was checked with other values, all where there are few.
        """
        from optuna.trial import TrialState

        try:
            Experiment(self.method.trial(trial.params))
        except UserError as error:
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.say(f"trial {trial.number} does not fit together, another takes its place: {error}")
            return str(error)
        return ""

    def train(self, configs: Mapping[int, ExperimentConfig]) -> None:
        """Trains some in one program, and tells Optuna what came of each."""
        paths = {number: self.folder / f"trial-{number}" for number in configs}
        numbers = {path: number for number, path in paths.items()}
        pruned: set[int] = set()

        def told(evaluation: EvaluationResult) -> bool:
            number = numbers[evaluation.run]
            if self.report(number, evaluation.run, configs[number]):
                pruned.add(number)
                self.tell(number, evaluation.run, configs[number])  # now: should the batch be interrupted, it has ended
            return number in pruned

        self.say(f"training {len(configs)} of {self.tuning.trials} trials: {_listed(paths)}")
        quiet = not self.console.is_terminal
        options = [
            RunOptions(name=path.name, runs=path.parent, resume=is_run(path), quiet=quiet) for path in paths.values()
        ]
        trouble = ""
        try:
            train_together(list(configs.values()), options, callbacks=[OfFunction(told)])
        except Interrupted:
            raise
        except Stopped as stop:
            trouble = str(stop)
        except jax.errors.JaxRuntimeError as error:  # too large for the device's memory, say
            trouble = str(error).splitlines()[0]
            if best(list(map(_tried, filter(_ended, self.study.trials)))) is None:  # so it is hardly these settings
                which = f"{self.method.name}, trials {_listed(paths)}"
                raise UserError(f"{which}: {trouble}; fewer trials_at_once may do, the same command goes on") from error
        finally:
            jax.clear_caches()  # the next batch has programs of its own
        for number in (number for number in configs if number not in pruned):
            self.tell(number, paths[number], configs[number], trouble)

    def report(self, number: int, run: Path, config: ExperimentConfig) -> bool:
        """Tells Optuna the score at an evaluation; whether the trial is to end."""
        so_far, trial = scores(run, config, self.method.score), self.open[number]
        for step in range(self.reported.get(number, 0), len(so_far)):
            trial.report(so_far[step], step + 1)
        self.reported[number] = len(so_far)
        # After the last evaluation there is nothing to save.
        return len(so_far) < config.evaluation.evaluations and trial.should_prune()

    def tell(self, number: int, run: Path, config: ExperimentConfig, trouble: str | None = None) -> None:
        """Tells Optuna how a trial ended; `trouble` is why it did not come to its end, where it was not pruned."""
        from optuna.trial import TrialState

        found = scores(run, config, self.method.score) if is_run(run) else []
        seeds = range(config.seed, config.seed + config.seeds)
        if found and not lacking(read_evaluations(run), config.env, config.algorithm.name, seeds):
            ended = _tried(self.study.tell(number, found[-1]))
        else:
            if trouble is not None:
                self.open[number].set_user_attr("failed", trouble)
            ended = _tried(self.study.tell(number, state=TrialState.PRUNED))
        score = "never evaluated" if ended.score is None else f"{self.method.score.metric} {ended.score:.4g}"
        endings = {"complete": "", "pruned": f", pruned at evaluation {len(found)}", "failed": f", {trouble}"}
        keys = self.method.keys
        values = ", ".join(f"{keys[name]} {shown(value)}" for name, value in ended.values.items())
        self.say(f"trial {number}: {score}{endings[ended.state]} ({values})")

    def say(self, text: str) -> None:
        self.console.print(Text(f"{self.method.name}: {text}"))


def _groups(configs: Mapping[int, ExperimentConfig], most: int) -> list[list[int]]:
    """Trials that one program can train, together; not more than `most`, if it was lowered since they were drawn."""
    found: list[list[int]] = []
    for number, config in configs.items():
        for group in found:
            if len(group) < most and differing(configs[group[0]], config) is None:
                group.append(number)
                break
        else:
            found.append([number])
    return found


def _listed(numbers: Mapping[int, Any]) -> str:
    return ", ".join(map(str, numbers))


def shown(value: Any) -> str:
    """A setting's value in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best(trials: Sequence[Tried]) -> Tried | None:
    """The best of those that have run to their end; of equals the first."""
    whole = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
    return max(whole, key=lambda trial: float(trial.score or 0.0), default=None)
