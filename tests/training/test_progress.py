"""The live line, or plain lines where there is no terminal."""

import io
import re

import pytest
from rich.console import Console

from gpae.training.progress import Progress
from gpae.training.recorder import shown
from reference.terminal import unread


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make(clock, *, terminal=False, width=120, **settings):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False, soft_wrap=True)
    return Progress(1000, console=console, clock=clock, **settings), out


def test_plain_lines_tell_compiling_apart(clock):
    progress, out = make(clock)
    with progress:
        with progress.phase("compiling update"):
            clock.now += 30
        clock.now += 10
        progress.update(100, 1)
        clock.now += 10
        with progress.phase("evaluating", once=False):
            clock.now += 10
        progress.update(200, 2, win_rate=0.25)
    assert out.getvalue().splitlines() == [
        "compiling update ...",
        "compiling update: 30.0 s",
        " 10%  100 / 1,000 steps  10 steps/s  1:30 left  update 1",
        " 20%  200 / 1,000 steps  7 steps/s  2:00 left  win rate 25%  update 2",
    ]
    assert progress.steps_per_second == pytest.approx(200 / 30)


def test_lines_come_at_intervals_and_the_last_one_always(clock):
    progress, out = make(clock)
    with progress:
        for update in range(1, 501):
            clock.now += 1
            progress.update(2 * update, update)
    updates = [int(line.split()[-1]) for line in out.getvalue().splitlines()]
    assert updates[:3] == [1, 11, 21]
    assert updates[-1] == 500
    assert updates[-3] - updates[-4] == 60
    assert len(updates) < 25


def test_a_phase_in_a_phase_is_counted_once(clock):
    progress, _ = make(clock)
    with progress, progress.phase("compiling"):
        clock.now += 5
        with progress.phase("loading"):
            clock.now += 5
    clock.now += 10
    progress.update(100, 1)
    assert progress.steps_per_second == pytest.approx(10)


def test_a_phase_may_end_while_the_live_line_is_drawn(clock, monkeypatch):
    """By a thread of its own: what it looked at once may be gone when it looks again."""
    progress, _ = make(clock, terminal=True)
    looks = iter([("evaluating", clock.now)])
    monkeypatch.setattr(Progress, "_phase", property(lambda self: next(looks, None)), raising=False)
    assert "evaluating 0 s" in progress._status()


def test_resumed_runs_count_their_own_speed_only(clock):
    progress, _ = make(clock, start_steps=500)
    clock.now += 10
    progress.update(600, 6)
    assert progress.steps_per_second == pytest.approx(10)
    assert progress.seconds_left == pytest.approx(40)
    clock.now += 15
    assert progress.seconds_left == pytest.approx(25)


def test_return_where_there_is_no_win_rate_and_the_score_stays(clock):
    progress, out = make(clock)
    with progress:
        clock.now += 10
        progress.update(100, 1, episode_return=-12.345)
        clock.now += 20
        progress.update(200, 2)
    assert [("return -12.3" in line) for line in out.getvalue().splitlines()] == [True, True]


def test_quiet_shows_nothing(clock):
    for terminal in (False, True):
        progress, out = make(clock, terminal=terminal, quiet=True)
        with progress, progress.phase("compiling update"):
            progress.update(100, 1, win_rate=0.5)
            progress.line("a line")
        assert out.getvalue() == ""


def test_terminal_shows_one_live_line(clock):
    progress, out = make(clock, terminal=True, width=80)
    with progress:
        with progress.phase("compiling update"):
            clock.now += 30
        clock.now += 10
        progress.update(100, 1, win_rate=0.5)
        progress.line("[not markup] /a/path")
    text = out.getvalue()
    assert "[not markup] /a/path\n" in text
    assert "compiling update: 30.0 s\n" in text
    assert " 10%  100 / 1,000 steps  10 steps/s  1:30 left  win rate 50%  update 1" in text
    assert "\x1b[2K" in text  # a line that is written over
    last = text.rsplit("\x1b[2K", 1)[-1]
    assert last.count("update 1") == 1


def test_live_line_shows_the_phase_and_how_long_it_takes(clock):
    progress, _ = make(clock, terminal=True)
    with progress.phase("compiling update"):
        clock.now += 7
        assert "compiling update 7 s" in progress._render().plain
    assert "compiling" not in progress._render().plain


def test_what_is_printed_after_the_end_stands_below_the_last_state(clock):
    """On a terminal, where the live line stays below all other lines until then, and without one."""
    for terminal in (True, False):
        progress, out = make(clock, terminal=terminal)
        with progress:
            clock.now += 10
            progress.update(900, 9)
            clock.now += 1
            progress.update(1000, 10, win_rate=0.5)
            progress.finish()
            progress.line("done in 11 s: /runs/x")
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line) for line in out.getvalue().splitlines()]
        lines = [line for line in lines if line.strip()]
        assert lines[-1] == "done in 11 s: /runs/x"
        assert "100%" in lines[-2]
        assert sum("1,000 / 1,000" in line for line in lines[-3:]) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_an_ascii_terminal_costs_nothing(clock, terminal):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    console = Console(file=file, force_terminal=terminal, width=120, highlight=False, soft_wrap=True)
    with Progress(1000, console=console, clock=clock) as progress:
        clock.now += 10
        progress.update(500, 5, win_rate=0.25)
        assert progress._render().plain.isascii()
    file.flush()
    assert b"win rate 25%" in file.buffer.getvalue()


def test_rates_are_per_cent_wherever_they_are_shown(clock):
    assert shown("win_rate", 0.997) == "win rate 99.7%"
    assert shown("sampled_win_rate", 1.0) == "sampled win rate 100.0%"
    assert shown("return", 0.997) == "return 0.997"
    progress, out = make(clock)
    with progress:
        clock.now += 1
        progress.update(10, 1, win_rate=0.97)
    assert "win rate 97%" in out.getvalue()


def test_a_training_goes_on_when_its_reader_has_gone():
    with unread():
        progress = Progress(1000)
        progress.line("nobody reads this")
        progress.line("nor this")
