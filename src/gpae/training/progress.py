"""What a run shows while it trains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gpae.training.terminal import Terminal


class Progress:
    """How far a run is: one live line on a terminal, a plain line now and then elsewhere, nothing when quiet.

    Time spent in phases that happen once, such as compiling, is shown apart: neither the speed nor the time left
    contains it. Phases that recur, such as evaluation, are part of both.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_steps: int = 0,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts nothing yet; use as a context manager.

        Args:
          total_steps: environment steps of the whole run.
          start_steps: steps done before, by the run that is resumed.
          quiet: show nothing.
          console: where; default is standard output.
          clock: seconds, for tests.
        """
        self._total = total_steps
        self._start = self._steps = start_steps
        self._quiet = quiet
        self._console = console or Terminal()
        self._clock = clock
        self._began = clock()
        self._once = 0.0
        self._phase: tuple[str, float] | None = None
        self._number = 0
        self._score = self._halves = ""
        self._speed: float | None = None
        self._updated = self._began
        self._next_line = 0.0
        self._last_line = ""
        self._finished = False
        self._live: Live | None = None
        if not quiet and self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)

    def update(
        self,
        env_steps: int,
        update: int,
        *,
        win_rate: float | None = None,
        episode_return: float | None = None,
        halves: tuple[float, float] | None = None,
    ) -> None:
        """Tells that `env_steps` environment steps and `update` updates are done.

        Args:
          env_steps: all told, those before a resume included.
          update: number of the last update.
          win_rate: the latest, in [0, 1]; None keeps what was shown before.
          episode_return: the latest; shown where there is no win rate.
          halves: steps per second of collecting and of learning, where environments are outside JAX.
        """
        self._steps, self._number, self._updated = env_steps, update, self._clock()
        if halves is not None:
            self._halves = "collect {:,.0f} + learn {:,.0f} steps/s".format(*halves)
        if env_steps > self._start and self._elapsed() > 0:
            self._speed = (env_steps - self._start) / self._elapsed()
        if win_rate is not None:
            self._score = f"win rate {win_rate:.0%}"
        elif episode_return is not None:
            self._score = f"return {episode_return:.3g}"
        if self._live is None and self._elapsed() >= self._next_line:
            # Often enough to see that it works, seldom enough for a log file.
            self._next_line = self._elapsed() + (10.0 if self._elapsed() < 120 else 60.0)
            self._last_line = self._status()
            self.line(self._last_line)

    @contextlib.contextmanager
    def phase(self, name: str, *, once: bool = True) -> Iterator[None]:
        """Shows what is going on, such as "compiling update", and how long it has taken.

        Args:
          name: what is going on.
          once: it does not happen again, so speed and time left do not count it, and a line tells how long it took.
        """
        outer, began = self._phase, self._clock()
        self._phase = (name, began)
        if once and self._live is None:
            self.line(f"{name} ...")
        try:
            yield
        finally:
            self._phase = outer
            took = self._clock() - began
            if once:
                # Inside another such phase, the outer one counts the time.
                self._once += took if outer is None else 0.0
        if once:
            self.line(f"{name}: {took:.1f} s")

    def line(self, text: str) -> None:
        """Prints a line, above the live one if there is one."""
        if not self._quiet:
            self._console.print(Text(text))

    @property
    def steps_per_second(self) -> float | None:
        """Environment steps per second from the start or resume to the last update; None before the first."""
        return self._speed

    @property
    def seconds_left(self) -> float | None:
        """Time left at that speed; None before the first update."""
        if self._speed is None:
            return None
        return max(0.0, (self._total - self._steps) / self._speed - (self._clock() - self._updated))

    def _elapsed(self) -> float:
        return self._clock() - self._began - self._once

    def _status(self) -> str:
        """The most telling first: a narrow terminal cuts off the end."""
        parts = [f"{self._steps / self._total:4.0%}", f"{self._steps:,} / {self._total:,} steps"]
        speed, left = self.steps_per_second, self.seconds_left
        if speed is not None and left is not None:
            parts += [f"{speed:,.0f} steps/s", f"{duration(left)} left"]
        parts += [part for part in (self._score, self._halves) if part]
        if (phase := self._phase) is not None and self._live is not None:  # read once: it ends in another thread
            name, began = phase
            parts.insert(1, f"{name} {self._clock() - began:.0f} s")
        elif self._number:
            parts.append(f"update {self._number}")
        return "  ".join(parts)

    def _render(self) -> Text:
        done = round(16 * min(1.0, self._steps / self._total))
        full, empty = ("━", "━") if self._console.encoding.startswith("utf") else ("#", "-")
        bar = Text(full * done, style="cyan") + Text(empty * (16 - done) + " ", style="bright_black")
        line = Text(self._status(), no_wrap=True, overflow="ellipsis")
        return bar + line if self._console.width >= 100 else line

    def finish(self) -> None:
        """Shows the last state of all; lines that are printed after this stand below it."""
        if self._finished:
            return
        self._finished = True
        if self._live is not None:
            self._live.stop()
        elif self._number and self._last_line != (status := self._status()):
            self.line(status)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
