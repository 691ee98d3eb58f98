"""Carrying out a study: where its runs run, one after another or side by side, and what is shown meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gpae.errors import UserError
from gpae.runs.files import clear_disk_errors, write_json
from gpae.runs.record import STUDY, recorded
from gpae.studies.study import Study, StudyRun
from gpae.training.recorder import duration

STEPS_PER_SECOND = 2500.0
"""Assumed until a run of the study has finished: about that of small SMAX maps on two CPU cores."""
STARTUP = 60.0
"""Seconds that each run compiles, assumed likewise; measured speeds contain it."""
_TAIL = 6
"""Lines shown of a failed run's log."""
_PATIENCE = 60.0
"""Seconds to wait for the trainings of a study that was killed to save and go."""


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

    def start(self, arguments: Sequence[str], log: Path, keep: int) -> Job:
        """Starts `gpae` with these arguments.

        Args:
          arguments: of `gpae`.
          log: the file its output is added to.
          keep: number of a file that the process keeps open as long as it lives.
        """
        ...


class LocalLauncher:
    """Processes of this machine: one per GPU, or one at a time without any."""

    def __init__(self, devices: Sequence[str] | None = None, command: Sequence[str] | None = None):
        """Starts nothing yet.

        Args:
          devices: numbers of GPUs, or "" for whatever JAX finds; default: see `devices_here`.
          command: what runs `gpae`, for tests.
        """
        self._free = list(devices_here() if devices is None else devices)
        self._command = list(command or (sys.executable, "-m", "gpae.studies.execute"))
        self.slots = len(self._free)

    def start(self, arguments: Sequence[str], log: Path, keep: int) -> Job:
        """See `Launcher`."""
        device = self._free.pop(0)
        environment = os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
        if device:
            environment["CUDA_VISIBLE_DEVICES"] = device
        with open(log, "ab") as file:
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(keep,),
                # Out of the terminal's reach: Ctrl-C comes once, from here, and not a second time, which would kill.
                start_new_session=True,
            )
        return _Process(process, lambda: self._free.append(device))


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
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**{"name": "gpae", "timeout_min": 24 * 60} | (parameters or {}))
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"submitit: {error}") from error

    def start(self, arguments: Sequence[str], log: Path, keep: int) -> Job:
        """See `Launcher`."""
        return _Submitted(self._executor.submit(_train_here, list(arguments), str(log.absolute()), os.getcwd()))


def _train_here(arguments: list[str], log: str, folder: str) -> int:
    """What a cluster's job does: train in this very process, so that its signals reach the trainer."""
    os.chdir(folder)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from gpae.cli import main

    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


class _Submitted:
    """A job of a cluster."""

    def __init__(self, job: Any):
        self._job = job
        self.memory: float | None = None

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        # A job that was killed, or never started, has no result.
        error = self._job.exception()
        return int(self._job.result()) if error is None else 1

    def stop(self, number: int) -> None:
        self._job.cancel(check=False)


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


def machine() -> dict[str, Any]:
    """The hardware, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "machine": platform.machine(), "system": platform.system()}


@dataclass
class Estimate:
    """How long runs take, from those that have finished."""

    assumed: float = STEPS_PER_SECOND
    rates: dict[StudyRun, float] = field(default_factory=dict)
    """Steps per second of finished runs, all seeds together."""

    @classmethod
    def of(cls, study: Study, assumed: float = STEPS_PER_SECOND) -> Estimate:
        """From what a study has finished so far."""
        found = cls(assumed)
        for run in study.runs:
            if run.state == "finished":
                found.learn(run)
        return found

    def learn(self, run: StudyRun) -> None:
        """Takes a finished run into account."""
        steps, seconds = run.progress
        if seconds > 0:
            self.rates[run] = steps / seconds

    def rate(self, run: StudyRun) -> float:
        """Steps per second of a run: the mean of the most similar ones that have finished."""
        for like in (
            lambda r: (r.config.env, r.setting),
            lambda r: r.config.env,
            lambda r: None,
        ):
            rates = [rate for other, rate in self.rates.items() if like(other) == like(run)]
            if rates:
                return sum(rates) / len(rates)
        return self.assumed

    def seconds_left(self, run: StudyRun) -> float:
        """Of a run that may have begun."""
        if run.state == "finished":
            return 0.0
        return max(0, run.steps - run.progress[0]) / self.rate(run) + (0.0 if self.rates else STARTUP)

    @property
    def source(self) -> str:
        """Where the estimate comes from."""
        if self.rates:
            return f"measured on {len(self.rates)} finished run{'s' * (len(self.rates) != 1)} of this study"
        return (
            f"assuming {self.assumed:,.0f} steps/s and a minute per run to compile: no run of this study has finished"
        )


def show_plan(study: Study, estimate: Estimate, slots: int, console: Console) -> None:
    """Prints what there is to do, and how long it may take."""
    table = Table(box=None, header_style="bold")
    for name in ("run", "seeds", "steps of each", "state", "time"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    for run in study.runs:
        left = estimate.seconds_left(run)
        time_ = duration(left) if run.state != "finished" else ""
        table.add_row(run.name, str(run.config.seeds), f"{run.config.num_steps:,}", run.state, time_)
    console.print(table)
    open_runs = [run for run in study.runs if run.state != "finished"]
    todo, steps = len(open_runs), sum(max(0, run.steps - run.progress[0]) for run in open_runs)
    at_once = min(slots, max(todo, 1))
    seconds = sum(map(estimate.seconds_left, open_runs)) / at_once
    console.print(
        f"{study.name}: {len(study.runs)} runs, {len(study.runs) - todo} finished; {steps:,} steps to do, "
        f"{at_once} at once: about {duration(seconds)} ({estimate.source})",
        highlight=False,
    )


def run_study(
    study: Study,
    launcher: Launcher,
    *,
    estimate: Estimate | None = None,
    console: Console | None = None,
    pause: float = 0.3,
) -> int:
    """Carries out what is left of a study.

    Args:
      study: which.
      launcher: where.
      estimate: of its time.
      console: what to show it on; default is standard output.
      pause: seconds between two looks.

    Returns:
      0, 1 if a run failed, 130 or 143 if a signal stopped it.

    Raises:
      UserError: another process is at this study.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    logs = study.path / "logs"
    with clear_disk_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
    with _lock(study.path, console) as lock, _signals() as received:
        return _Execution(study, launcher, estimate or Estimate.of(study), console, logs, lock).run(received, pause)


class _Execution:
    """One call of `run_study`."""

    def __init__(self, study: Study, launcher: Launcher, estimate: Estimate, console: Console, logs: Path, lock: int):
        self.study, self.launcher, self.estimate = study, launcher, estimate
        self.console, self.logs, self.lock = console, logs, lock
        self.waiting = [run for run in study.runs if run.state != "finished"]
        self.already = len(study.runs) - len(self.waiting)
        self.jobs: dict[StudyRun, tuple[Job, float, int]] = {}
        self.done: list[StudyRun] = []
        self.failed: dict[StudyRun, int] = {}
        self.stopped = 0
        self.next_line = time.monotonic() + 60

    def run(self, received: list[int], pause: float) -> int:
        self.record()
        live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2)
        with live if self.console.is_terminal else contextlib.nullcontext():
            while self.jobs or (self.waiting and not self.stopped):
                while self.waiting and not self.stopped and len(self.jobs) < self.launcher.slots:
                    self.start(self.waiting.pop(0))
                for run, (job, _, _) in list(self.jobs.items()):
                    if (code := job.poll()) is not None:
                        self.settle(run, job, code)
                if received and not self.stopped:
                    self.stop(received[0])
                if len(received) > 1:
                    for job, _, _ in self.jobs.values():
                        job.stop(signal.SIGKILL)
                self.lines()
                time.sleep(pause)
        self.summary()
        return 128 + self.stopped if self.stopped else int(bool(self.failed))

    def start(self, run: StudyRun) -> None:
        resumed = run.state == "started"
        job = self.launcher.start(run.arguments(), self.log(run), self.lock)
        self.jobs[run] = (job, time.monotonic(), run.progress[0])
        self.say(f"{self.place(run)} {run.name}: {'resumed' if resumed else 'started'}")

    def stop(self, number: int) -> None:
        self.stopped = number
        if self.jobs:
            self.say(f"{signal.Signals(number).name}: what runs is saved first; a second one kills")
        for job, _, _ in self.jobs.values():
            job.stop(number)

    def settle(self, run: StudyRun, job: Job, code: int) -> None:
        _, began, _ = self.jobs.pop(run)
        took = duration(time.monotonic() - began)
        if job.memory:
            self.record({run.name: job.memory})
        if code == 0 and run.state == "finished":
            self.done.append(run)
            self.estimate.learn(run)
            self.say(f"{self.place(run)} {run.name}: done in {took}")
        elif self.stopped:
            self.say(f"{self.place(run)} {run.name}: stopped")
        else:
            self.failed[run] = code
            self.say(f"{self.place(run)} {run.name}: failed after {took} (exit code {code}); end of {self.log(run)}:")
            for line in _tail(self.log(run)):
                self.say(f"    {line}")

    def record(self, measured: dict[str, float] | None = None) -> None:
        """Writes down what the report has to know, besides what the runs say themselves.

        Args:
          measured: the peak memory in MB of runs whose process has just ended; of a run's several, the largest stays.
        """
        before, of_runs = recorded(self.study.path).get("runs", {}), {}
        for run in self.study.runs:
            known = [(measured or {}).get(run.name)]
            if run.state != "new":
                known.append(before.get(run.name, {}).get("peak_memory_mb"))
            memory = max((x for x in known if x), default=None)
            of_runs[run.name] = {
                "env": run.config.env,
                "algorithm": run.config.algorithm,
                "setting": run.setting,
                "method": run.label,
                **({"peak_memory_mb": memory} if memory else {}),
            }
        write_json(self.study.path / STUDY, {"name": self.study.name, "machine": machine(), "runs": of_runs})

    # -- what is shown -------------------------------------------------------------------------------------------

    def log(self, run: StudyRun) -> Path:
        return self.logs / f"{run.name}.log"

    def place(self, run: StudyRun) -> str:
        return f"[{self.study.runs.index(run) + 1}/{len(self.study.runs)}]"

    def say(self, text: str) -> None:
        self.console.print(Text(text))

    def left(self, run: StudyRun) -> float:
        """Seconds that a running run still needs, by its own speed once it has one."""
        _, began, before = self.jobs[run]
        steps, _ = run.progress
        if steps > before:
            return (time.monotonic() - began) * (run.steps - steps) / (steps - before)
        return self.estimate.seconds_left(run)

    def time_left(self) -> float:
        """Of the whole study."""
        seconds = sum(map(self.left, self.jobs)) + sum(map(self.estimate.seconds_left, self.waiting))
        return seconds / max(1, min(self.launcher.slots, len(self.jobs) + len(self.waiting)))

    def counts(self) -> str:
        numbers = Counter(
            {
                "running": len(self.jobs),
                "waiting": len(self.waiting),
                "done": self.already + len(self.done),
                "failed": len(self.failed),
            }
        )
        return ", ".join(f"{number} {name}" for name, number in numbers.items())

    def lines(self) -> None:
        """Where nothing can be live: a line now and then."""
        if not self.console.is_terminal and self.jobs and time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + 60
            now = ", ".join(f"{run.name} {run.progress[0] / run.steps:.0%}" for run in list(self.jobs)[:4])
            self.say(f"{self.counts()}; about {duration(self.time_left())} left; {now}")

    def table(self) -> Group:
        """What runs, what has failed, and what came last; the rest is counted."""
        title = f"{self.study.name}: {self.counts()}; about {duration(self.time_left())} left"
        table = Table(box=None, header_style="bold")
        for name in ("run", "state", "done", "time left"):
            table.add_column(name, justify="left" if name in ("run", "state") else "right", no_wrap=True)
        room = max(3, self.console.height - 6)
        rows: list[tuple[str, str, str, str, str]] = []
        for run in self.failed:
            rows.append((run.name, "failed", f"{run.progress[0] / run.steps:.0%}", "", "red"))
        for run in self.jobs:
            rows.append((run.name, "running", f"{run.progress[0] / run.steps:.0%}", duration(self.left(run)), "cyan"))
        rows += [(run.name, "done", "100%", "", "green") for run in reversed(self.done)]
        rows += [(run.name, "waiting", "", duration(self.estimate.seconds_left(run)), "dim") for run in self.waiting]
        for name, state, done, left, style in rows[:room]:
            table.add_row(name, state, done, left, style=style)
        if len(rows) > room:
            table.add_row(f"... and {len(rows) - room} more", "", "", "", style="dim")
        return Group(Text(title), table)

    def summary(self) -> None:
        self.say(f"{self.study.name}: {self.counts()}")
        if self.failed:
            self.say(f"failed: {', '.join(run.name for run in self.failed)}; the same command tries again")
        if self.stopped:
            self.say("the same command continues")
        elif not self.failed:
            self.say(f"gpae report {self.study.path} tells what was found")


@contextlib.contextmanager
def _lock(path: Path, console: Console) -> Iterator[int]:
    """The number of a file that no other process has locked. Trainings inherit it, so that those of a study that was
    killed are waited for while they save.
    """
    with clear_disk_errors(path / ".lock"):
        file = open(path / ".lock", "a")  # noqa: SIM115
    with file:
        until = time.monotonic() + _PATIENCE
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise UserError(f"another process is at the study in {path}") from error
                if not said:
                    console.print(Text(f"another process is at the study in {path}; waiting for it to save and go ..."))
                said = True
                time.sleep(0.5)
        yield file.fileno()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that receives SIGINT and SIGTERM."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tail(log: Path) -> list[str]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_TAIL:]


def _train_beside_parent() -> int:
    """`gpae` as a child of a study: told to save and stop (SIGTERM) if the study is killed. Linux alone knows how."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    from gpae.cli import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_train_beside_parent())
