"""Where the trainings of a study run: processes of this machine, or jobs of a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gpae.errors import UserError
from gpae.runs.files import read_json, write_json
from gpae.settings import named_values
from gpae.studies import worker
from gpae.training.device import shared_by


class Job(Protocol):
    """A training under way."""

    memory: float | None
    """Peak memory in MB, once it has ended; None where it is not known."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        ...

    def stop(self, number: int) -> None:
        """Passes a signal on."""
        ...


class Launcher(Protocol):
    """Where trainings run."""

    slots: int
    """How many at once."""

    def share(self, programs: Sequence[tuple[int, int]]) -> str:
        """Decides how many devices each training is to have, before any of them starts.

        Args:
          programs: of each training, its groups of environments and its seeds.

        Returns:
          What is decided, in a line; empty where there is nothing to decide.
        """
        ...

    def start(self, job: Path, log: Path, keep: int, program: tuple[int, int] = (1, 1)) -> Job:
        """Starts a training.

        Args:
          job: the file that says what to do (`gpae.studies.worker`).
          log: the file its output is added to.
          keep: number of a file that the process keeps open as long as it lives.
          program: its groups of environments and its seeds, which are what devices can share.
        """
        ...


class LocalLauncher:
    """Processes of this machine: one per GPU, or one at a time without any.

    Trainings that have a GPU each send each other nothing. So several GPUs share one only where there are more of them
    than trainings, and as many as its seeds and groups of environments can be shared out over evenly.
    """

    def __init__(self, devices: Sequence[str] | None = None, command: Sequence[str] | None = None):
        """Starts nothing yet.

        Args:
          devices: numbers of GPUs, or "" for whatever JAX finds; default: see `devices_here`.
          command: what carries a job out, for tests.
        """
        self._free = list(devices_here() if devices is None else devices)
        self._command = list(command or (sys.executable, "-m", "gpae.studies.worker"))
        self.slots = len(self._free)
        self._each = 1

    def share(self, programs: Sequence[tuple[int, int]]) -> str:
        """See `Launcher`."""
        number = len(self._free)
        if number == 1 or not programs:
            return ""
        self._each = max(1, number // len(programs))
        self.slots = number // self._each
        if self._each == 1:
            return f"{number} GPUs, {len(programs)} to train: one GPU for each training, with all of its seeds"
        shared = sorted({shared_by(self._each, *program) for program in programs})
        each = " to ".join(dict.fromkeys(map(str, (shared[0], shared[-1]))))
        return f"{number} GPUs, {len(programs)} to train: {each} for each training, shared by seeds first, then groups"

    def start(self, job: Path, log: Path, keep: int, program: tuple[int, int] = (1, 1)) -> Job:
        """See `Launcher`."""
        devices = [self._free.pop(0) for _ in range(shared_by(self._each, *program))]
        environment = os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
        if devices != [""]:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        with open(log, "ab") as file:
            process = subprocess.Popen(
                [*self._command, str(job)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(keep,),
                # Out of the terminal's reach: Ctrl-C comes once, from here, and not a second time, which would kill.
                start_new_session=True,
            )
        return _Process(process, lambda: self._free.extend(devices))


class _Process:
    """A process that is waited for with its use of memory."""

    def __init__(self, process: subprocess.Popen[bytes], ended: Callable[[], None]):
        self._process, self._ended = process, ended
        self.memory: float | None = None

    def poll(self) -> int | None:
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.memory = round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
                self._ended()
        return self._process.returncode

    def stop(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)


class SubmititLauncher:
    """Jobs of a cluster, all handed over at once; the cluster decides when they run."""

    slots = 10_000

    def __init__(self, folder: Path, cluster: str = "slurm", parameters: dict[str, Any] | None = None):
        """Starts nothing yet.

        Args:
          folder: where submitit keeps its files; all nodes see it.
          cluster: "slurm", or "local" for processes of this machine.
          parameters: of `submitit.AutoExecutor`, such as slurm_partition, gpus_per_node, timeout_min.

        Raises:
          UserError: submitit is not installed, there is no such cluster, or it does not know a parameter.
        """
        try:
            import submitit
        except ImportError as error:
            raise UserError("submitit is not installed; it comes with `pip install -e '.[slurm]'`") from error
        self._cluster = cluster
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**{"name": "gpae", "timeout_min": 24 * 60} | (parameters or {}))
        except Exception as error:  # submitit asserts, and raises whatever a value of a wrong type leads to
            raise _refused(error) from error

    def share(self, programs: Sequence[tuple[int, int]]) -> str:
        """See `Launcher`: a job has the devices that the cluster's options ask for."""
        return ""

    def start(self, job: Path, log: Path, keep: int, program: tuple[int, int] = (1, 1)) -> Job:
        """See `Launcher`. A job that an earlier call has handed over is not handed over again while it waits or runs.

        Raises:
          UserError: the cluster refuses it.
        """
        note = job.with_suffix(".submitted")
        submitted = self._under_way(note)
        if submitted is None:
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                    submitted = self._executor.submit(
                        worker.ClusterJob(), str(job.absolute()), str(log.absolute()), os.getcwd()
                    )
            except Exception as error:  # whatever it meets, in the cluster's commands and on the disk
                raise _refused(error) from error
        made = _Submitted(submitted, note)
        try:
            write_json(note, {"job": submitted.job_id, "tasks": submitted.num_tasks})
        except BaseException:
            made.stop(signal.SIGTERM)
            raise
        return made

    def _under_way(self, note: Path) -> Any:
        """The job that a note tells of, if the cluster says that it waits or runs; else None."""
        from submitit import SlurmJob

        known = read_json(note, None) if self._cluster == "slurm" else None
        if known is None:
            return None
        job: Any = SlurmJob(self._executor.folder, known["job"], range(known["tasks"]))
        return None if job.done() or job.state == "UNKNOWN" else job


def _refused(error: Exception) -> UserError:
    words = str(error).strip() or type(error).__name__
    return UserError(f"submitit: {words.splitlines()[0]}")


class _Submitted:
    """A job of a cluster. Where it has several tasks, the first one writes, and says how it ended."""

    def __init__(self, job: Any, note: Path):
        self._job, self._first, self._note = job, job.task(0), note
        self.memory: float | None = None

    def poll(self) -> int | None:
        if not self._first.done():
            return None
        # A job that was killed, or never started, has no result.
        error = self._first.exception()
        return int(self._first.result()) if error is None else 1

    def stop(self, number: int) -> None:
        with contextlib.suppress(OSError):  # the cluster's command is not there
            self._job.cancel(check=False)
        self._note.unlink(missing_ok=True)  # while it saves it runs still, and is not to be taken for another


def devices_here() -> list[str]:
    """Names of the GPUs that JAX can use, for CUDA_VISIBLE_DEVICES; [""], whatever JAX finds, without several.

    JAX itself is not asked: it would take the memory that the trainings need.
    """
    usable = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    if not usable or os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return [""]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        tool = shutil.which("nvidia-smi")
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False).stdout if tool else ""
        names = [str(i) for i, line in enumerate(x for x in listed.splitlines() if x.startswith("GPU "))]
    else:
        names = [name for name in chosen.split(",") if name]
    return names if len(names) > 1 else [""]


def slurm_parameters(options: Sequence[str]) -> dict[str, Any]:
    """Options given as name=value, the values as TOML has them: 4, 1.5, true, "gpu", ["a", "b"], {x = 1}.

    A value that is no TOML is text: slurm_partition=gpu.

    Raises:
      UserError: no "=", a name that cannot be one, or one that stands there twice.
    """
    found: dict[str, Any] = {}
    for name, text in named_values("--slurm", options).items():
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, KeyError):
            if text[:1] in tuple("[{\"'"):
                raise UserError(f"--slurm {name}={text}: the value is not TOML") from None
            found[name] = text
    return found
