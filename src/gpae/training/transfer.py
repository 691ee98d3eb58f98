"""A training that starts from what another run has learnt, as far as its parameters fit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpae.errors import UserError
from gpae.networks.normalisers import STATISTICS
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.training import version_0_1
from gpae.training.experiment import Experiment


@dataclass(frozen=True)
class Transfer:
    """Trained parameters of another run that fit an experiment, by their paths in `state.params`."""

    fitted: Mapping[str, np.ndarray]
    """With the experiment's own seeds, where it has several."""
    report: tuple[str, ...]
    """What fitted and what did not: lines for the user."""

    def begin(self, experiment: Experiment, state: Any) -> Any:
        """A first state with these parameters; all else of it, the optimiser's state too, is as it was."""

        def put(path: Any, fresh: Any) -> Any:
            found = self.fitted.get(jax.tree_util.keystr(path))
            return fresh if found is None else jax.device_put(found, fresh.sharding)

        params = jax.tree_util.tree_map_with_path(put, state.params)
        return experiment.algorithm.begun_with(state, params)


def read_trained(path: str, experiment: Experiment) -> Transfer:
    """What of a run's last parameters fits the networks of an experiment: what has the same place and the same shape.

    A run of several seeds gives them in turn: place k takes the one at place k modulo their number. Running statistics
    (of observations, the state, values) keep mean and variance, but their counts are cut to the environment steps of
    one rollout: what the first one shows then weighs at least as much as all that was seen before. With the counts of a
    long run the normalisers would stay as they were, whatever the new task shows.

    Args:
      path: the run directory; it may still be training.
      experiment: that is to begin.

    Raises:
      UserError: not a run directory, no whole checkpoint, or no matrix of the actor fits.
    """
    config = read_config(path, needs=("seeds",))
    with Checkpoints(Path(path) / "checkpoints", read_only=True) as checkpoints:
        info = checkpoints.info()
        there = checkpoints.arrays("best" if version_0_1.made(config) else "params")
    count, seeds = config["seeds"], experiment.seeds
    leaves = jax.tree_util.tree_leaves_with_path(experiment.shapes.params)
    here = {jax.tree_util.keystr(p): (x.shape[int(seeds.count > 1) :], x.dtype) for p, x in leaves}
    shapes = {name: (x.shape[int(count > 1) :], x.dtype) for name, x in there.items()}
    fitting = [name for name, wanted in here.items() if shapes.get(name) == wanted]
    if not any(name.startswith(".actor") and len(here[name][0]) > 1 for name in fitting):
        raise UserError(f"--from {path}: nothing that its actor has learnt fits: {_differences(here, shapes)}")
    fitted = {name: there[name] for name in fitting}
    if count > 1:
        places = np.arange(seeds.count) % count
        fitted = {name: x[places if seeds.count > 1 else 0] for name, x in fitted.items()}
    elif seeds.count > 1:
        fitted = {name: np.stack([x] * seeds.count) for name, x in fitted.items()}
    most = experiment.algorithm.steps_per_update
    fitted = {name: np.minimum(x, x.dtype.type(most)) if _is_count(name) else x for name, x in fitted.items()}
    return Transfer(
        fitted,
        (
            f"starts from {path}, its update {info['update']} ({info['env_steps']:,} steps)"
            + (f", its {count} seeds in turn" if count > 1 else ""),
            *(line for network in ("actor", "critic") for line in _lines(network, here, shapes)),
            *_renamed(info.get("action_names"), experiment.spec.action_names),
        ),
    )


def _is_count(name: str) -> bool:
    """Whether this is how many rows running statistics have seen."""
    return f"['{STATISTICS}']" in name and name.endswith("['count']")


Shapes = Mapping[str, tuple[tuple[int, ...], Any]]


def _lines(network: str, here: Shapes, there: Shapes) -> list[str]:
    """What of a network fits, layer by layer, what begins afresh, and what is not used."""
    layers: dict[str, list[str]] = defaultdict(list)
    for name in here:
        if name.startswith(f".{network}"):
            layers[_called(name).rpartition(".")[0]].append(name)
    whole = [layer for layer, names in layers.items() if all(there.get(n) == here[n] for n in names)]
    rest = [name for layer, names in layers.items() if layer not in whole for name in names]
    part = [_called(name) for name in rest if there.get(name) == here[name]]
    afresh = [f"{_called(n)} {_shape(here[n])} ({_there(there.get(n))})" for n in rest if there.get(n) != here[n]]
    unused = [_called(n) for n in there if n.startswith(f".{network}") and n not in here]
    found = {"fits": [*whole, *part] or ["nothing"], "begins afresh": afresh, "not used": unused}
    return [f"  {network}, {what}: {', '.join(names)}" for what, names in found.items() if names and layers]


def _called(name: str) -> str:
    """`.actor['params']['Torso_0']['Dense_0']['kernel']` as Torso_0.Dense_0.kernel."""
    return ".".join(word for word in re.findall(r"\w+", name)[1:] if word != "params")


def _shape(described: tuple[tuple[int, ...], Any]) -> str:
    return str(list(described[0]))


def _there(described: tuple[tuple[int, ...], Any] | None) -> str:
    return "not there" if described is None else f"{_shape(described)} there"


def _differences(here: Shapes, there: Shapes) -> str:
    names = [n for n in here if n.startswith(".actor") and len(here[n][0]) > 1]
    return ", ".join(f"{_called(n)} is {_shape(here[n])} here and {_there(there.get(n))}" for n in names[:3])


def _renamed(there: list[str] | None, here: tuple[str, ...]) -> list[str]:
    """A warning where as many actions are other ones."""
    if there is None or len(there) != len(here):
        return []
    other = [(i, a, b) for i, (a, b) in enumerate(zip(there, here, strict=True)) if a != b]
    return [f"  action {i} is {a} there and {b} here, though the last layer fits" for i, a, b in other[:1]]
