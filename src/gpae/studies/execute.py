"""Carrying out a study: starting what is left of it, one after another or side by side, and writing down what ends."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gpae.errors import UserError
from gpae.runs.files import clear_disk_errors, write_json
from gpae.runs.lock import open_lock, try_lock
from gpae.runs.record import STUDY, recorded
from gpae.studies.display import Display, Started
from gpae.studies.estimate import Estimate
from gpae.studies.launchers import Job, Launcher
from gpae.studies.study import Study, StudyRun
from gpae.studies.worker import users_main, write_job
from gpae.training.config import as_dict
from gpae.training.progress import duration
from gpae.training.signals import signals
from gpae.training.terminal import Terminal

_PATIENCE = 60.0
"""Seconds to wait for the trainings of a study that was killed to save and go."""


def machine() -> dict[str, Any]:
    """The hardware, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "machine": platform.machine(), "system": platform.system()}


def run_study(
    study: Study,
    launcher: Launcher,
    *,
    estimate: Estimate | None = None,
    console: Console | None = None,
    pause: float = 0.3,
    imports: Sequence[str] = (),
) -> int:
    """Carries out what is left of a study.

    Args:
      study: which.
      launcher: where.
      estimate: of its time.
      console: what to show it on; default is standard output.
      pause: seconds between two looks.
      imports: files or modules that trainings import first; the program that calls is one where it is a file.

    Returns:
      0, 1 if a run failed, 130 or 143 if a signal stopped it.

    Raises:
      UserError: another process is at this study, the disk refuses, or a cluster refuses a job; those that were started
        are stopped.
    """
    console = console or Terminal()
    logs = study.path / "logs"
    with clear_disk_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
    with locked(study.path, console) as lock, signals(signal.SIGINT, signal.SIGTERM, every=True) as received:
        display = Display(study, estimate or Estimate.of(study), console, launcher.slots)
        names = [*imports, *users_main()]
        return _Execution(study, launcher, display, logs, lock, names).run(received, pause)


class _Execution:
    """One call of `run_study`."""

    def __init__(
        self, study: Study, launcher: Launcher, display: Display, logs: Path, lock: int, imports: Sequence[str]
    ):
        self.study, self.launcher, self.display, self.logs, self.lock = study, launcher, display, logs, lock
        self.imports = imports
        self.waiting = [run for run in study.runs if run.state != "finished"]
        self.jobs: dict[tuple[StudyRun, ...], Job] = {}
        self.started: dict[StudyRun, Started] = {}
        self.done: list[StudyRun] = []
        self.failed: dict[StudyRun, int] = {}
        self.stopped = 0
        display.already = len(study.runs) - len(self.waiting)
        display.running, display.waiting = self.started, self.waiting
        display.done, display.failed = self.done, self.failed

    def run(self, received: list[int], pause: float) -> int:
        self.record()
        if said := self.launcher.share(list(map(self.study.shareable, self.study.groups(self.waiting)))):
            self.display.say(said)
        self.display.slots = self.launcher.slots
        console = self.display.console
        # Refreshed here and by no thread of its own, under which what it shows would change.
        live = Live(get_renderable=self.display.table, console=console, auto_refresh=False)
        try:
            with live if console.is_terminal else contextlib.nullcontext():
                while self.jobs or (self.waiting and not self.stopped):
                    self.look(received)
                    self.display.lines()
                    if console.is_terminal:
                        live.refresh()
                    time.sleep(pause)
        except BaseException:  # nobody would look after what was started
            for job in self.jobs.values():
                job.stop(signal.SIGTERM)
            if self.jobs:
                self.display.say("what was started is stopped")
            raise
        self.display.summary(self.stopped)
        return 128 + self.stopped if self.stopped else int(bool(self.failed))

    def look(self, received: list[int]) -> None:
        """Starts what there is room for, writes down what has ended, and passes signals on."""
        while self.waiting and not self.stopped and len(self.jobs) < self.launcher.slots:
            self.start(self.study.groups(self.waiting)[0])
        for group, job in list(self.jobs.items()):
            if (code := job.poll()) is not None:
                self.settle(group, job, code)
        if received and not self.stopped:
            self.stop(received[0])
        if len(received) > 1:
            for job in self.jobs.values():
                job.stop(signal.SIGKILL)

    def start(self, group: tuple[StudyRun, ...]) -> None:
        resumed = {run: run.state == "started" for run in group}
        file = self.study.path / "jobs" / f"{group[0].name}.json"
        with clear_disk_errors(file):
            trainings = [{"config": as_dict(run.config), "run": str(run.path), "resume": resumed[run]} for run in group]
            write_job(file, trainings, self.imports)
        for run in group:
            self.waiting.remove(run)
            self.started[run] = Started(time.monotonic(), run.progress[0])
        self.jobs[group] = self.launcher.start(file, self.log(group), self.lock, self.study.shareable(group))
        for run in group:
            beside = f" beside {group[0].name}" if run is not group[0] else ""
            self.say(run, ("resumed" if resumed[run] else "started") + beside)

    def log(self, group: tuple[StudyRun, ...]) -> Path:
        return self.logs / f"{group[0].name}.log"

    def say(self, run: StudyRun, text: str) -> None:
        self.display.say(f"{self.display.place(run)} {run.name}: {text}")

    def stop(self, number: int) -> None:
        self.stopped = number
        if self.jobs:
            self.display.say(f"{signal.Signals(number).name}: what runs is saved first; a second one kills")
        for job in self.jobs.values():
            job.stop(number)

    def settle(self, group: tuple[StudyRun, ...], job: Job, code: int) -> None:
        del self.jobs[group]
        for run in group:
            took = duration(time.monotonic() - self.started.pop(run).began)
            if job.memory:
                self.record({run.name: job.memory})
            # Of several in one program, one may fail alone.
            if run.state == "finished" and (code == 0 or len(group) > 1):
                self.done.append(run)
                self.display.estimate.learn(run)
                self.say(run, f"done in {took}")
            elif self.stopped:
                self.say(run, "stopped")
            else:
                self.failed[run] = code
                self.say(run, f"failed after {took} (exit code {code}); end of {self.log(group)}:")
                self.display.tail(self.log(group))

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
                "algorithm": run.algorithm,
                "setting": run.setting,
                "method": run.label,
                **({"peak_memory_mb": memory} if memory else {}),
            }
        write_json(self.study.path / STUDY, {"name": self.study.name, "machine": machine(), "runs": of_runs})


@contextlib.contextmanager
def locked(path: Path, console: Console) -> Iterator[int]:
    """The number of a file that no other process has locked. Trainings inherit it, so that those of a study that was
    killed are waited for while they save.

    Raises:
      UserError: another process keeps it for longer than that takes; or the disk refuses.
    """
    with open_lock(path) as file:
        until = time.monotonic() + _PATIENCE
        said = False
        while not try_lock(file, path):
            if time.monotonic() > until:
                raise UserError(f"another process is at the study in {path}")
            if not said:
                console.print(Text(f"another process is at the study in {path}; waiting for it to save and go ..."))
            said = True
            time.sleep(0.5)
        yield file.fileno()
