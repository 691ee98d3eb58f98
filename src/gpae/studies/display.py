"""What a study shows: its plan, and what happens meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gpae.studies.estimate import Estimate
from gpae.studies.study import Study, StudyRun
from gpae.training.progress import duration

_TAIL = 6
"""Lines shown of a failed run's log."""


def show_plan(study: Study, estimate: Estimate, slots: int, console: Console) -> None:
    """Prints what there is to do, and how long it may take."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "seeds", "steps of each", "state", "time"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right", no_wrap=True)
    for run in study.runs:
        left = estimate.seconds_left(run)
        time_ = duration(left) if run.state != "finished" else ""
        table.add_row(run.name, str(run.config.seeds), f"{run.config.num_steps:,}", run.state, time_)
    console.print(table)
    for run in study.runs:
        for sentence in run.remarks:
            console.print(Text(f"{run.name}: {sentence}"))
    open_runs = [run for run in study.runs if run.state != "finished"]
    todo, steps = len(open_runs), sum(max(0, run.steps - run.progress[0]) for run in open_runs)
    at_once = min(slots, max(todo, 1))
    seconds = sum(map(estimate.seconds_left, open_runs)) / at_once
    console.print(
        f"{study.name}: {runs(len(study.runs))}, {len(study.runs) - todo} finished; {steps:,} steps to do, "
        f"{at_once} at once: about {duration(seconds)} ({estimate.source})",
        highlight=False,
    )


def runs(number: int) -> str:
    """So many runs, in words."""
    return f"{number} run{'s' * (number != 1)}"


@dataclass
class Started:
    """A training under way, as far as is shown."""

    began: float
    steps_before: int


class Display:
    """What is shown of a study that is being carried out."""

    def __init__(self, study: Study, estimate: Estimate, console: Console, slots: int):
        """Shows nothing yet."""
        self.study, self.estimate, self.console, self.slots = study, estimate, console, slots
        self.running: Mapping[StudyRun, Started] = {}
        self.waiting: Sequence[StudyRun] = ()
        self.done: Sequence[StudyRun] = ()
        self.failed: Mapping[StudyRun, int] = {}
        self.already = 0
        self.next_line = time.monotonic() + 60

    def place(self, run: StudyRun) -> str:
        """Its number among all."""
        return f"[{self.study.runs.index(run) + 1}/{len(self.study.runs)}]"

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(Text(text))

    def left(self, run: StudyRun) -> float:
        """Seconds that a running run still needs, by its own speed once it has one."""
        started = self.running[run]
        steps, _ = run.progress
        if steps > started.steps_before:
            spent = time.monotonic() - started.began
            return spent * (run.steps - steps) / (steps - started.steps_before)
        return self.estimate.seconds_left(run)

    def time_left(self) -> float:
        """Of the whole study."""
        seconds = sum(map(self.left, self.running)) + sum(map(self.estimate.seconds_left, self.waiting))
        return seconds / max(1, min(self.slots, len(self.running) + len(self.waiting)))

    def counts(self) -> str:
        """How many runs are in which state."""
        numbers = Counter(
            {
                "running": len(self.running),
                "waiting": len(self.waiting),
                "done": self.already + len(self.done),
                "failed": len(self.failed),
            }
        )
        return ", ".join(f"{number} {name}" for name, number in numbers.items())

    def lines(self) -> None:
        """Where nothing can be live: a line now and then."""
        if not self.console.is_terminal and self.running and time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + 60
            now = ", ".join(f"{run.name} {run.progress[0] / run.steps:.0%}" for run in list(self.running)[:4])
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
        for run in self.running:
            rows.append((run.name, "running", f"{run.progress[0] / run.steps:.0%}", duration(self.left(run)), "cyan"))
        rows += [(run.name, "done", "100%", "", "green") for run in reversed(self.done)]
        rows += [(run.name, "waiting", "", duration(self.estimate.seconds_left(run)), "dim") for run in self.waiting]
        for name, state, done, left, style in rows[:room]:
            table.add_row(name, state, done, left, style=style)
        if len(rows) > room:
            table.add_row(f"... and {len(rows) - room} more", "", "", "", style="dim")
        return Group(Text(title), table)

    def tail(self, log: Path) -> None:
        """The end of a failed run's log."""
        try:
            lines = log.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in [line for line in lines if line.strip()][-_TAIL:]:
            self.say(f"    {line}")

    def summary(self, stopped: int) -> None:
        """How it ended, and what to do next."""
        self.say(f"{self.study.name}: {self.counts()}")
        if self.failed:
            self.say(f"failed: {', '.join(run.name for run in self.failed)}; the same command tries again")
        if stopped:
            self.say("the same command continues")
        elif not self.failed:
            self.say(f"gpae report {self.study.path} tells what was found")
