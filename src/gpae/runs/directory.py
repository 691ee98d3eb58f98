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
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gpae._version import __version__
from gpae.errors import UserError

CONFIG = "config.json"
VERSIONS = "versions.json"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.json"
_LOCK = ".lock"
_FILES = (METRICS, EVALUATIONS, "curve.png", "replay.gif")
_FOLDERS = ("checkpoints", "tensorboard", "wandb")
_PACKAGES = ("jax", "jaxlib", "jaxmarl", "flax", "optax", "numpy", "orbax-checkpoint")


@contextlib.contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" and "no permission", met while writing `path`, into a UserError that says so."""
    try:
        yield
    except Exception as error:
        # TensorStore reports a full disk as a ValueError or RuntimeError with the system's words in it.
        words = str(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in words:
            raise UserError(
                f"the disk is full: {path} could not be written; what was saved before is intact"
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        raise


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Replaces `path` by `value` as JSON, in one piece: whatever happens, the old file or the new one is there.

    Raises:
      UserError: the disk is full, or writing is not permitted.
      ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=indent, allow_nan=False) + "\n"
    with clear_disk_errors(path):
        _replace(path, text.encode())


def read_json(path: Path) -> Any:
    """The JSON value in `path`; a UserError if there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no {path}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


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


def read_evaluations(path: str | Path) -> dict[str, Any]:
    """What evaluations.json holds; empty if there is none yet."""
    file = Path(path) / EVALUATIONS
    return read_json(file) if file.exists() else {}


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
        of_seed = _of_seed(everything, env, algorithm, seed)
        number = sum(name.startswith("step_") for name in of_seed)
        of_seed[f"step_{number}"] = {
            "step_count": int(env_steps),
            "elapsed_time": round(float(seconds), 3),
            **_episodes(metrics),
        }
        write_json(self.path / EVALUATIONS, everything, indent=None)

    def log_absolute(
        self, *, env: str, algorithm: str, seed: int, metrics: Mapping[str, Sequence[float] | None]
    ) -> None:
        """Sets the absolute metrics of one seed: its best parameters, evaluated on many episodes."""
        everything = read_evaluations(self.path)
        _of_seed(everything, env, algorithm, seed)["absolute_metrics"] = _episodes(metrics)
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
            _replace(self.path / METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
        everything = read_evaluations(self.path)
        for tasks in everything.values():
            for algorithms in tasks.values():
                for seeds in algorithms.values():
                    for name, steps in seeds.items():
                        seeds[name] = {
                            k: v for k, v in steps.items() if k.startswith("step_") and v["step_count"] <= env_steps
                        }
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


def versions() -> dict[str, Any]:
    """What a run is made with: packages, Python, device, the checkout's commit, the command line."""
    import jax

    devices = jax.devices()
    return {
        "gpae": __version__,
        "python": platform.python_version(),
        **{name.removesuffix("-checkpoint"): importlib.metadata.version(name) for name in _PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "commit": _commit(),
        "command": sys.argv,
    }


def _commit() -> str | None:
    """The commit the package was run from, with "+" if its files were changed; None outside of a checkout."""
    here = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        # An installed copy may lie inside someone else's checkout; its files are then not tracked there.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


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


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _of_seed(everything: dict[str, Any], env: str, algorithm: str, seed: int) -> dict[str, Any]:
    family, _, task = env.partition("/")
    return (
        everything.setdefault(family, {})
        .setdefault(task or family, {})
        .setdefault(algorithm, {})
        .setdefault(f"seed_{seed}", {})
    )


def _episodes(metrics: Mapping[str, Sequence[float] | None]) -> dict[str, list[float]]:
    lists = {name: [float(v) for v in values] for name, values in metrics.items() if values is not None}
    return {name: values for name, values in lists.items() if values and all(map(math.isfinite, values))}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "absent"
