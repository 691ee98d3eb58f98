"""The folder a training run leaves behind, and what keeps it whole.

    config.json        every setting
    versions.json      what the run was made with: packages, device, commit, command line
    metrics.jsonl      one line per update and seed
    evaluations.json   evaluations in the marl-eval schema
    checkpoints/       see `gpae.runs.checkpoint`
    curve.png          see `gpae.diagnostics.curves`
    replay.gif         see `gpae.diagnostics.gif`

JSON files are replaced in one piece, so a reader sees the old one or the new one. metrics.jsonl grows line by line;
after an interruption `RunDirectory.rewind` cuts it and the evaluations back to the checkpoint that is resumed. A run
that is overwritten is kept aside until `RunDirectory.commit`. Links in a run directory are not followed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gpae.errors import UserError, one_line
from gpae.runs import schema
from gpae.runs.evaluations import EVALUATIONS, add_evaluation, cut, read_evaluations, set_absolute
from gpae.runs.files import clear_disk_errors, exists, read_json, write_json
from gpae.runs.lock import LOCK, holds, take_lock
from gpae.runs.metrics import METRICS, MetricsFile, read_metrics
from gpae.runs.replacement import Replacement, is_pending
from gpae.runs.shared import CURVE, FILM, is_shared
from gpae.runs.versions import VERSIONS, read_versions, versions

__all__ = ["CONFIG", "METRICS", "RunDirectory", "check_name", "is_run", "read_config", "read_metrics"]

CONFIG = "config.json"
_FILES = (CONFIG, VERSIONS, METRICS, EVALUATIONS, CURVE, FILM)
_FOLDERS = ("checkpoints", "tensorboard", "wandb")
_LONGEST_NAME = 100
"""Bytes: with what is added to it, it stays below what every kind of disk allows."""


def check_name(name: str) -> str:
    """`name`, if a run directory may have it.

    Raises:
      UserError: it is empty or long, begins with a dot, would lead into another folder, or does not print.
    """
    printable = all(c.isprintable() or "\ud800" <= c <= "\udfff" for c in name)  # the latter: bytes of no encoding
    if not name.strip():
        wrong = "it is empty"
    elif "/" in name or "\\" in name:
        wrong = "it holds a path separator; --runs chooses the folder"
    elif name.startswith("."):
        wrong = "it begins with a dot"
    elif not printable or name != name.strip():
        wrong = "it holds characters that do not print, or begins or ends with a space"
    elif len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
        wrong = f"it is longer than {_LONGEST_NAME} bytes"
    else:
        return name
    raise UserError(f"a run cannot be named {one_line(name[:_LONGEST_NAME])!r}: {wrong}")


def is_run(path: str | Path) -> bool:
    """Whether `path` is a run directory of ours: settings, and a record of versions that names this package.

    Raises:
      UserError: it looks like one, but the record of versions is damaged.
    """
    path = Path(path)
    if not exists(path / CONFIG) or not exists(path / VERSIONS):
        return False
    content = read_json(path / VERSIONS)
    return isinstance(content, dict) and "gpae" in schema.versions(content, path / VERSIONS)


def read_config(path: str | Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """The settings of the run in `path`.

    Args:
      path: the run directory. If a process died while it replaced the run, the old run is put back first.
      needs: settings without which it is of no use.

    Raises:
      UserError: it is not a run directory, or its settings are damaged.
    """
    path = Path(path)
    if is_pending(path):
        with contextlib.suppress(UserError), take_lock(path):  # not if a process is at it: then the new run is read
            _replacement(path).restore()
    if not is_run(path):
        raise UserError(f"{path} is not a gpae run directory")
    return _settings(path, needs)


def refuse_other_settings(
    path: Path, before: Mapping[str, Any], now: Mapping[str, Any], *, free: Collection[str] = ()
) -> None:
    """Raises a UserError that names each setting in which a run differs from what is asked for, with both values."""
    now = json.loads(json.dumps(dict(now)))

    def shown(settings: Mapping[str, Any], name: str) -> str:
        return json.dumps(settings[name]) if name in settings else "absent"

    differing = [k for k in {**before, **now} if k not in free and before.get(k) != now.get(k)]
    if differing:
        changes = ", ".join(f"{k[:60]} (was {shown(before, k)}, now {shown(now, k)})" for k in differing)
        raise UserError(f"{path} was made with other settings: {changes}")


class RunDirectory:
    """A run directory that this process alone may write.

    Made by `create` or `resume`; use it as a context manager, or call `close`. The lock goes with the process, however
    it ends.

    Attributes:
      path: where it is.
      resuming: whether an existing run is continued. Only then may a state be restored.
    """

    def __init__(self, path: Path, lock: IO[bytes], *, resuming: bool):
        self.path = path
        self.resuming = resuming
        self._lock = lock
        self._metrics = MetricsFile(path)
        self._replaced: Replacement | None = None
        self._abandoned = False

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], *, overwrite: bool = False) -> RunDirectory:
        """A new run directory with config.json and versions.json.

        Args:
          path: where; parents are made.
          config: the settings, flat, as JSON can hold them.
          overwrite: replace the run that is there. It is moved aside, and comes back when this directory is closed, or
            opened after the process has died, unless `commit` has been called. Only files that a run writes are moved.

        Raises:
          UserError: there is a run already and `overwrite` is not set; there is something else, or a shared policy; the
            directory is in use by another process; it cannot be written; the run that is there cannot be removed.
        """
        path = Path(path)
        settings = schema.settings(json.loads(json.dumps(dict(config))), path / CONFIG)
        there = UserError(f"{path} holds a run already; continue it with --resume or replace it with --overwrite")
        foreign = UserError(f"{path} exists and is not a gpae run directory; choose another")
        with clear_disk_errors(path):
            if is_shared(path):
                raise UserError(f"{path} holds a shared policy; choose another name, or remove it")
            if is_pending(path) or _is_ours(path):
                if not overwrite:
                    raise there
            elif exists(path) and not _is_blank(path):
                raise foreign
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, take_lock(path), resuming=False)
        try:
            run._tidy()
            if is_run(path):
                if not overwrite:  # another process was faster
                    raise there
                replacement = _replacement(path)
                replacement.begin()
                run._replaced = replacement
            elif not _is_blank(path):
                raise foreign
            write_json(path / VERSIONS, versions())
            write_json(path / CONFIG, settings)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def resume(
        cls,
        path: str | Path,
        config: Mapping[str, Any] | None = None,
        *,
        free: Collection[str] = (),
        completed: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
    ) -> RunDirectory:
        """The existing run directory `path`, to be continued.

        Args:
          path: the run directory.
          config: the settings that are asked for now; None takes those of the run.
          free: names of settings that may differ.
          completed: the run's settings -> the same with those that gpae did not have when it was made.

        Raises:
          UserError: no run is there; a setting differs (each is named, with both values); another process uses it; a
            file of it is damaged or a link.
        """
        path = Path(path)
        nothing = UserError(f"{path} is not a gpae run directory; there is nothing to resume")
        if not is_pending(path) and not is_run(path):
            raise nothing
        run = cls(path, take_lock(path), resuming=True)
        try:
            run._tidy()
            if not is_run(path):
                raise nothing
            before = run.config
            if config is not None:
                refuse_other_settings(path, completed(before), config, free=free)
            record = read_versions(path)
            write_json(path / VERSIONS, {**record, "resumed": [*record.get("resumed", []), versions()]})
        except BaseException:
            run.close()
            raise
        return run

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return _settings(self.path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def lines(self) -> int:
        """The lines of metrics.jsonl; a checkpoint remembers them for `rewind`."""
        return self._metrics.lines

    def commit(self) -> None:
        """Removes the run that this one replaces, if there is one: to be called once this one is under way.

        Raises:
          UserError: something of the old run cannot be removed. The new run may go on; opened again, it is tried again.
        """
        if self._replaced is not None:
            replaced, self._replaced = self._replaced, None
            replaced.discard()

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
          UserError: the disk is full, or the directory was removed; the lines before are intact.
        """
        line: dict[str, Any] = {"update": update, "env_steps": env_steps, "seed": seed, "seconds": round(seconds, 3)}
        for name, value in metrics.items():
            if value is not None and schema.is_number(number := float(value)):
                line[name] = number
        self._check()
        self._metrics.append(line)

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

        Raises:
          UserError: the disk is full, or the directory was removed; the evaluations before are intact.
        """
        self._check()
        everything = read_evaluations(self.path)
        add_evaluation(
            everything, env=env, algorithm=algorithm, seed=seed, env_steps=env_steps, seconds=seconds, metrics=metrics
        )
        write_json(self.path / EVALUATIONS, everything, indent=None)

    def log_absolute(
        self, *, env: str, algorithm: str, seed: int, metrics: Mapping[str, Sequence[float] | None]
    ) -> None:
        """Sets the absolute metrics of one seed: its best parameters, evaluated on many episodes.

        Raises:
          UserError: as `log_evaluation`.
        """
        self._check()
        everything = read_evaluations(self.path)
        set_absolute(everything, env=env, algorithm=algorithm, seed=seed, metrics=metrics)
        write_json(self.path / EVALUATIONS, everything, indent=None)

    def sync(self) -> None:
        """Waits until everything that was logged is on the disk: to be called before a checkpoint refers to it.

        Raises:
          UserError: the disk is full, or the directory was removed.
        """
        self._check()
        self._metrics.sync()

    def rewind(self, *, update: int, env_steps: int, lines: int | None = None) -> None:
        """Forgets what was logged after a checkpoint, for a run that goes on from there.

        Args:
          update: the checkpoint's update; later metrics lines, and one that was half written, are dropped.
          env_steps: its environment steps; later evaluations, and absolute metrics, are dropped.
          lines: the lines that metrics.jsonl had then; None if the checkpoint does not say.

        Raises:
          UserError: a metrics file that was damaged in the middle, or has more or fewer than `lines` up to `update`.
        """
        self._check()
        everything = read_evaluations(self.path)
        self._metrics.rewind(update, lines)
        cut(everything, env_steps)
        if everything:
            write_json(self.path / EVALUATIONS, everything, indent=None)

    def abandon(self) -> None:
        """To be called if nothing was learnt: a run that is new is removed when it is closed, a resumed one is not."""
        self._abandoned = not self.resuming

    def close(self) -> None:
        """Gives the directory free for other processes; puts a run back that was to be replaced, unless `commit` was
        called.

        Raises:
          UserError: the old run cannot be put back; the next who opens the directory tries again.
        """
        self._metrics.close()
        try:
            if self._replaced is not None:
                replaced, self._replaced = self._replaced, None
                replaced.restore()
            elif self._abandoned:
                _replacement(self.path).remove()
        finally:
            self._lock.close()

    def _tidy(self) -> None:
        """Completes what a process has left that died, and refuses what is not a run's."""
        replacement = _replacement(self.path)
        replacement.restore()
        replacement.refuse_links()
        for name in _FILES:
            with clear_disk_errors(self.path / f"{name}.tmp", "removed"):
                (self.path / f"{name}.tmp").unlink(missing_ok=True)

    def _check(self) -> None:
        if not holds(self._lock, self.path):
            raise UserError(f"{self.path} was removed, or replaced by another, while it was in use")

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _replacement(path: Path) -> Replacement:
    return Replacement(path, _FILES, _FOLDERS)


def _settings(path: Path, needs: Collection[str] = ()) -> dict[str, Any]:
    return schema.settings(read_json(path / CONFIG), path / CONFIG, needs)


def _is_ours(path: Path) -> bool:
    """As `is_run`, with what would do if that cannot be told."""
    try:
        return is_run(path)
    except UserError as error:
        raise UserError(f"{error}; or remove {path}, or choose another name") from error


def _is_blank(path: Path) -> bool:
    """Whether `path` is an empty folder, or what is left of a run that was interrupted while it was created."""
    if not path.is_dir():
        return False
    names = {p.name for p in path.iterdir()} - {LOCK}
    return names <= {VERSIONS, f"{VERSIONS}.tmp", f"{CONFIG}.tmp"}
