"""A small training that several tests look at, and how trainings are stopped and compared."""

import os
import signal

import jax
import numpy as np

from gpae.runs.checkpoint import Checkpoints
from gpae.training.config import RunOptions, configure
from gpae.training.experiment import Experiment
from gpae.training.trainer import _Training

CONFIG = configure(
    env="probe/team",
    actor_identity=True,
    num_envs=8,
    rollout_length=4,
    hidden_size=8,
    embedding_size=8,
    total_steps=300,
    evaluations=3,
    evaluation_episodes=8,
    window=2,
    updates_per_call=2,
)
TINY = [
    *("--env", "probe/team", "--preset", "none", "--actor-identity", "--num-envs", "8", "--rollout-length", "4"),
    *("--hidden-size", "8", "--embedding-size", "8", "--evaluations", "2", "--evaluation-episodes", "8"),
]
"""The words of `gpae train` for a training of a second."""


def options(folder, **changes):
    return RunOptions(name="run", runs=folder, quiet=True, **changes)


def final_state(config, path):
    """The items "state" and "best" of the last checkpoint, and its notes."""
    experiment = Experiment(config)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore({"state": experiment.shapes, "best": experiment.shapes.params})


def same_but_for_time(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def assert_same_arrays(ours, theirs):
    """Bit for bit; keys too."""
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def stop_after(updates, monkeypatch):
    """A SIGTERM at the end of that update."""
    log = _Training._log

    def log_then_stop(self, *args):
        log(self, *args)
        if self.done == updates and not self.caught():  # a second signal would kill
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Training, "_log", log_then_stop)
