"""The folder a training run leaves behind, and what keeps it whole.

    config.json        every setting
    versions.json      what the run was made with: packages, device, commit, command line
    metrics.jsonl      one line per update and seed
    evaluations.json   evaluations in the marl-eval schema
    checkpoints/       see `gpae.runs.checkpoint`
    curve.png          see `gpae.diagnostics.curves`
    replay.gif         see `gpae.diagnostics.gif`

JSON files are replaced in one piece, so a reader sees the old one or the new one. metrics.jsonl grows line by line;
after an interruption `RunDirectory.rewind` cuts it and the evaluations back to the checkpoint that is resumed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gpae.errors import UserError
from gpae.runs.evaluations import EVALUATIONS, add_evaluation, cut, read_evaluations, set_absolute
from gpae.runs.files import clear_disk_errors, read_json, replace_file, write_json
from gpae.runs.versions import VERSIONS, versions

CONFIG = "config.json"
METRICS = "metrics.jsonl"
_LOCK = ".lock"
_FILES = (METRICS, EVALUATIONS, "curve.png", "replay.gif")
_FOLDERS = ("checkpoints", "tensorboard", "wandb")


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of the run in `path`; a UserError if it is not a run directory."""
    path = Path(path)
    if not _is_run(path):
        raise UserError(f"{path} is not a gpae run directory")
    return read_json(path / CONFIG)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, oldest first. A last line that was cut off in the middle is left out.

    Raises:
      UserError: any other line is damaged.
    """
    file = Path(path) / METRICS
    if not file.exists():
        return []
    *lines, _ = file.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from error


class RunDirectory:
    """A run directory that this process alone may write.

    Made by `create` or `resume`; use it as a context manager, or call `close`. The lock goes with the process, however
    it ends.
    """

    def __init__(self, path: Path, lock: IO[str]):
        self.path = path
        self._lock = lock
        self._metrics: IO[str] | None = None

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], *, overwrite: bool = False) -> RunDirectory:
        """A new run directory with config.json and versions.json.

        Args:
          path: where; parents are made.
          config: the settings, as JSON can hold them.
          overwrite: remove the run that is there. Only files that a run writes are removed.

        Raises:
          UserError: there is a run already and `overwrite` is not set; there is something else; the directory is in
            use by another process; it cannot be written.
        """
        path = Path(path)
        if path.exists() and not _is_run(path) and not _is_blank(path):
            raise UserError(f"{path} exists and is not a gpae run directory; choose another")
        if _is_run(path) and not overwrite:
            raise UserError(f"{path} holds a run already; continue it with --resume or replace it with --overwrite")
        with clear_disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, _take_lock(path))
        try:
            if _is_run(path) and not overwrite:  # another process was faster
                raise UserError(f"{path} holds a run already; continue it with --resume or replace it with --overwrite")
            with clear_disk_errors(path):
                # The two files that mark a run are replaced last: interrupted, it can be overwritten once more.
                for name in _FOLDERS:
                    shutil.rmtree(path / name, ignore_errors=True)
                for name in _FILES:
                    (path / name).unlink(missing_ok=True)
            write_json(path / VERSIONS, versions())
            write_json(path / CONFIG, dict(config))
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def resume(
        cls, path: str | Path, config: Mapping[str, Any] | None = None, *, free: Collection[str] = ()
    ) -> RunDirectory:
        """The existing run directory `path`, to be continued.

        Args:
          path: the run directory.
          config: the settings that are asked for now; None takes those of the run.
          free: dotted names of settings that may differ.

        Raises:
          UserError: no run is there; a setting differs (each is named, with both values); another process uses it.
        """
        path = Path(path)
        if not _is_run(path):
            raise UserError(f"{path} is not a gpae run directory; there is nothing to resume")
        run = cls(path, _take_lock(path))
        try:
            if config is not None:
                before, now = _flat(run.config), _flat(json.loads(json.dumps(dict(config))))
                differing = [k for k in {**before, **now} if k not in free and before.get(k) != now.get(k)]
                if differing:
                    changes = ", ".join(f"{k} (was {_shown(before, k)}, now {_shown(now, k)})" for k in differing)
                    raise UserError(f"{path} was made with other settings: {changes}")
            record = read_json(path / VERSIONS)
            write_json(path / VERSIONS, {**record, "resumed": [*record.get("resumed", []), versions()]})
        except BaseException:
            run.close()
            raise
        return run

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return read_json(self.path / CONFIG)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    def log_metrics(
        self, *, update: int, env_steps: int, seed: int, seconds: float, metrics: Mapping[str, Any]
    ) -> None:
        """Appends one line to metrics.jsonl. A metric that is None or not finite is left out.

        Args:
          update: the update it belongs to, counted from 1.
          env_steps: environment steps done so far by this seed.
          seed: which seed.
          seconds: training time so far.
          metrics: name -> number (Python, NumPy or JAX scalar) or None.

        Raises:
          UserError: the disk is full; the lines before are intact.
        """
        line: dict[str, Any] = {"update": update, "env_steps": env_steps, "seed": seed, "seconds": round(seconds, 3)}
        for name, value in metrics.items():
            if value is not None and math.isfinite(number := float(value)):
                line[name] = number
        with clear_disk_errors(self.path / METRICS):
            if self._metrics is None:
                self._metrics = open(self.path / METRICS, "a")  # noqa: SIM115
            try:
                self._metrics.write(json.dumps(line) + "\n")
                self._metrics.flush()
            except OSError:
                # The buffer still holds the line; closing would try once more and fail once more.
                with contextlib.suppress(OSError):
                    self._metrics.close()
                self._metrics = None
                raise

    def log_evaluation(
        self,
        *,
        env: str,
        algorithm: str,
        seed: int,
        env_steps: int,
        seconds: float,
        metrics: Mapping[str, Sequence[float] | None],
    ) -> None:
        """Adds one evaluation of one seed to evaluations.json.

        Args:
          env: the environment's name, "family/task".
          algorithm: the algorithm's name.
          seed: which seed.
          env_steps: environment steps this seed had been trained for.
          seconds: training time so far.
          metrics: name -> one value per episode; one that is None, empty or not finite is left out.
        """
        everything = read_evaluations(self.path)
        add_evaluation(
            everything, env=env, algorithm=algorithm, seed=seed, env_steps=env_steps, seconds=seconds, metrics=metrics
        )
        write_json(self.path / EVALUATIONS, everything, indent=None)

    def log_absolute(
        self, *, env: str, algorithm: str, seed: int, metrics: Mapping[str, Sequence[float] | None]
    ) -> None:
        """Sets the absolute metrics of one seed: its best parameters, evaluated on many episodes."""
        everything = read_evaluations(self.path)
        set_absolute(everything, env=env, algorithm=algorithm, seed=seed, metrics=metrics)
        write_json(self.path / EVALUATIONS, everything, indent=None)

    def rewind(self, *, update: int, env_steps: int) -> None:
        """Forgets what was logged after a checkpoint, for a run that goes on from there.

        Args:
          update: the checkpoint's update; later metrics lines, and one that was half written, are dropped.
          env_steps: its environment steps; later evaluations, and absolute metrics, are dropped.

        Raises:
          UserError: a metrics file that was damaged in the middle.
        """
        self._close_metrics()
        kept = [line for line in read_metrics(self.path) if line["update"] <= update]
        with clear_disk_errors(self.path / METRICS):
            replace_file(self.path / METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
        everything = read_evaluations(self.path)
        cut(everything, env_steps)
        if everything:
            write_json(self.path / EVALUATIONS, everything, indent=None)

    def close(self) -> None:
        """Gives the directory free for other processes."""
        self._close_metrics()
        self._lock.close()

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_run(path: Path) -> bool:
    """Whether `path` is a run directory of ours: settings, and a record of versions that names this package."""
    try:
        return (path / CONFIG).is_file() and "gpae" in json.loads((path / VERSIONS).read_text())
    except (OSError, ValueError, TypeError):
        return False


def _is_blank(path: Path) -> bool:
    """Whether `path` is an empty folder, or what is left of a run that was interrupted while it was created."""
    if not path.is_dir():
        return False
    names = {p.name for p in path.iterdir()} - {_LOCK}
    return names <= {VERSIONS, f"{VERSIONS}.tmp", f"{CONFIG}.tmp"}


def _take_lock(path: Path) -> IO[str]:
    with clear_disk_errors(path / _LOCK):
        file = open(path / _LOCK, "a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise UserError(f"{path} is in use by another process (number {owner})") from error
    try:
        with clear_disk_errors(path / _LOCK):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
    except BaseException:
        with contextlib.suppress(OSError):  # the buffer is still full, and so is the disk
            file.close()
        raise
    return file


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "absent"
