"""A run's policy as a small folder with a card, to be committed or sent: see `gpae.runs.shared` for what is in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

import jax

from gpae.diagnostics.pictures import drawable, replay
from gpae.errors import UserError
from gpae.report.card import card
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import CONFIG, read_config
from gpae.runs.evaluations import Entry, entries, read_evaluations
from gpae.runs.files import atomic_write, clear_disk_errors, ensure_parent, exists, write_json
from gpae.runs.record import recorded
from gpae.runs.shared import CARD, EVALUATION, FILM, SHARED, is_shared, read_shared
from gpae.runs.versions import VERSIONS, read_versions, versions
from gpae.training.config import ExperimentConfig, as_dict, from_dict
from gpae.training.experiment import Experiment
from gpae.training.items import check_evaluated, item_of

EPISODES = 1_000_000
"""Seed of the episodes that are played, which is that of `gpae evaluate`."""


def share(
    run: str | Path,
    folder: str | Path,
    *,
    best: bool = False,
    seed: int | None = None,
    episodes: int = 1000,
    license: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the parameters of one seed of a run, what they are, and how they did on new episodes, as one folder.

    It is a run directory: `load_policy` and every command about a run take it. Actor and critic are both in it, since
    the credit of an episode is the critic's word. An episode is drawn where the environment can be. The folder appears
    in one piece.

    Args:
      run: a run directory, finished or not, or a shared policy, whose card is then made again.
      folder: to be made.
      best: the parameters with the best evaluation, instead of the last.
      seed: which seed of the run; None: the one that did best in the run's own evaluations.
      episodes: new ones to play, greedy and sampled alike; 0 plays none, and draws no film.
      license: under which others may use the policy, as Hugging Face names them, such as "apache-2.0".
      overwrite: replace a shared policy that is there.

    Returns:
      The folder.

    Raises:
      UserError: no such run, seed or parameters; the folder exists; an environment that cannot be made.
    """
    run, folder = Path(run), Path(folder)
    config = from_dict(read_config(run))
    _refuse(folder, overwrite)
    item = item_of(run, best=best, whole=True)
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        update = checkpoints.latest  # a run that is still training makes others
        info = checkpoints.info(update)
    check_evaluated(run, info, best=best)
    found = _Found(run, config, best, info)
    seed = found.chosen() if seed is None else found.checked(seed)
    notes = {key: value for key, value in info.items() if key != "lines"} | found.moment(seed)
    experiment = Experiment(config.replace(seed=seed, seeds=1), only_played=True)
    files = {
        CONFIG: {name: _public(value) for name, value in as_dict(experiment.config).items()},
        VERSIONS: _without_places(read_versions(run)),
        SHARED: found.about() | ({} if license is None else {"license": license}),
    }
    with contextlib.closing(experiment), _made(folder) as made:
        params = _params(run, item, update, config, experiment.shapes.params, seed)
        if episodes:
            (played,) = experiment.evaluate(params.actor, purpose=3, number=EPISODES, episodes=episodes)
            of_seed = {"seed": EPISODES, "episodes": {f"seed_{seed}": played}}
            files[EVALUATION] = of_seed | {"evaluation": _without_places(versions())}
            if drawable(experiment):
                replay(experiment, params.actor, made / FILM, number=1)
        for name, content in files.items():
            write_json(made / name, content, indent=None if name == EVALUATION else 1)
        if is_shared(run):  # its files as they are: Orbax would give them other names
            shutil.copytree(run / "checkpoints", made / "checkpoints")
        else:
            with Checkpoints(made / "checkpoints") as checkpoints:
                checkpoints.save(notes["update"], {"params": params}, notes)
        for said in made.rglob("commit_success.txt"):  # Orbax's, with the path on this machine; nobody reads it
            said.unlink()
        atomic_write(made / CARD, card(made, name=folder.name).encode())
    return folder


def _params(run: Path, item: str, update: int | None, config: ExperimentConfig, shapes: Any, seed: int) -> Any:
    """The parameters of one seed, whose shapes are given."""
    several = config.seeds > 1
    if several:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((config.seeds, *x.shape), x.dtype), shapes)
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        params = checkpoints.restore({item: shapes}, update)[0][item]
    return jax.tree.map(lambda x: x[seed - config.seed], params) if several else params


class _Found:
    """How the seeds of a run did with the parameters that are to be shared, by the run's own evaluations."""

    def __init__(self, run: Path, config: ExperimentConfig, best: bool, info: Mapping[str, Any]):
        self.run, self.config, self.best, self.info = run, config, best, info
        self.before = read_shared(run) if is_shared(run) else None
        seeds = range(config.seed, config.seed + config.seeds)
        there = {
            entry.seed: entry
            for entry in entries(read_evaluations(run), run)
            if (entry.env, entry.algorithm) == (config.env, config.algorithm.name)
        }
        self.seeds = {seed: there.get(f"seed_{seed}", Entry("", "", "", {})) for seed in seeds}
        measured = {name for entry in self.seeds.values() for step in entry.steps.values() for name in step}
        self.metric = "win_rate" if "win_rate" in measured else "return"
        self.absolute = best and all(self.metric in entry.absolute for entry in self.seeds.values())

    def checked(self, seed: int) -> int:
        if seed not in self.seeds:
            first, last = min(self.seeds), max(self.seeds)
            raise UserError(f"{self.run} has seeds {first} to {last}, not {seed}")
        return seed

    def chosen(self) -> int:
        """The seed with the best score; of equals the first."""
        scores = {seed: self.score(seed) for seed in self.seeds}
        if len(scores) > 1 and None in scores.values():
            raise UserError(f"{self.run} has not evaluated all of its seeds: say which to share, --seed")
        return max(scores, key=lambda seed: (scores[seed] is not None, scores[seed]))

    def score(self, seed: int) -> float | None:
        """The mean over episodes of a seed's score with these parameters; None where it was not evaluated."""
        values = self._values(seed)
        return fmean(values) if values else None

    def moment(self, seed: int) -> dict[str, Any]:
        """When the parameters of a seed were what they are: "update", "env_steps", "seconds", "best_scores"."""
        if self.before is not None:
            return {}
        info = self.info
        scores = info["best_scores"][seed - self.config.seed : seed - self.config.seed + 1]
        if not self.best:
            return {"best_scores": scores}
        if (step := self._evaluation(seed)) is None:
            raise UserError(f"{self.run} has not evaluated seed {seed}, so that none of its parameters are the best")
        steps = step["step_count"]
        return {
            "update": steps // self.config.algorithm.steps_per_update,
            "env_steps": steps,
            "seconds": step.get("elapsed_time", info["seconds"]),
            "best_scores": scores,
        }

    def about(self) -> dict[str, Any]:
        """What shared.json says."""
        if self.before is not None:
            return self.before
        return {
            "run": self.run.resolve().name,
            "study": recorded(self.run.resolve().parent).get("name"),
            "parameters": "best" if self.best else "last",
            "trained_steps": self.info["env_steps"],
            "metric": self.metric,
            "episodes": max(len(self._values(seed)) for seed in self.seeds),
            "seeds": {str(seed): self.score(seed) for seed in self.seeds},
            "license": None,
        }

    def _values(self, seed: int) -> list[float]:
        """Of each episode, the score."""
        found = self.seeds[seed].absolute if self.absolute else self._evaluation(seed) or {}
        values = found.get(self.metric, [])
        return values if isinstance(values, list) else [values]

    def _evaluation(self, seed: int) -> Mapping[str, Any] | None:
        """The one of the best parameters (of equals those trained longer); or the last one before the checkpoint."""
        done = [step for step in self.seeds[seed].evaluations if step["step_count"] <= self.info["env_steps"]]
        done = [step for step in done if isinstance(step.get(self.metric), list)]
        if self.best:
            return max(done, key=lambda step: (fmean(step[self.metric]), step["step_count"]), default=None)
        return max(done, key=lambda step: step["step_count"], default=None)


def _refuse(folder: Path, overwrite: bool) -> None:
    if not exists(folder):
        return
    if not is_shared(folder):
        raise UserError(f"{folder} exists and is not a shared policy; choose another folder")
    if not overwrite:
        raise UserError(f"{folder} holds a shared policy already; replace it with --overwrite")


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its place when it is whole; nothing is left of it otherwise."""
    beside = ensure_parent(folder).with_name(f".{folder.name}.{os.getpid()}")
    with clear_disk_errors(folder):
        beside.mkdir()
        try:
            yield beside
            if exists(folder):
                shutil.rmtree(folder)
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """versions.json without the folders of the machine: whoever is sent a policy need not know them."""
    found = {**record, "command": [_public(word) for word in record.get("command", [])]}
    if "resumed" in record:
        found["resumed"] = [_without_places(later) for later in record["resumed"]]
    return found


def _public(value: Any) -> Any:
    """A word or setting; of an absolute path, also behind "=", the last part alone."""
    if not isinstance(value, str):
        return value
    head, equals, tail = value.rpartition("=")
    return head + equals + (PurePath(tail).name if tail.startswith("/") else tail)
