import io
import sys
import types

import pytest
from rich.console import Console

from gpae.errors import UserError
from gpae.training.recorder import Progress, TensorBoard, WeightsAndBiases


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


def test_tensorboard_writes_one_curve_per_seed(tmp_path):
    board = TensorBoard(tmp_path, start_steps=50)
    for seed in (0, 1):
        board.log(100, seed, {"policy_loss": 0.5 + seed})
    board.close()
    for seed in (0, 1):
        (file,) = (tmp_path / f"seed_{seed}").iterdir()
        assert b"policy_loss" in file.read_bytes()


class FakeRun:
    def __init__(self):
        self.logged, self.finished = [], False

    def define_metric(self, name, step_metric=None):
        pass

    def log(self, metrics):
        self.logged.append(metrics)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """W&B as far as it is used; the package itself is an extra."""
    module = types.ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.Settings = dict
    module.runs = []

    def init(**settings):
        module.runs.append((settings, FakeRun()))
        return module.runs[-1][1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_is_told_and_a_resumed_run_stays_the_same(tmp_path, wandb):
    for resume in (False, True, False):
        board = WeightsAndBiases(tmp_path / "run", config={"a": 1}, seeds=2, resume=resume)
        board.log(100, 1, {"return": 2.0})
        board.close()
    (first, run), (second, _), (third, _) = wandb.runs
    assert run.logged == [{"return/seed_1": 2.0, "env_steps": 100}]
    assert run.finished
    assert first["name"] == "run"
    assert first["config"] == {"a": 1}
    assert first["id"] == second["id"] != third["id"]
    assert (first["resume"], second["resume"]) == (None, "allow")


def test_wandb_errors_are_one_line(tmp_path, wandb):
    def init(**_):
        raise wandb.Error("no API key")

    wandb.init = init
    with pytest.raises(UserError, match=r"no API key; WANDB_MODE=offline"):
        WeightsAndBiases(tmp_path, config={})


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[tensorboard\]'"):
        TensorBoard(tmp_path)
    with pytest.raises(UserError, match=r"pip install -e '.\[wandb\]'"):
        WeightsAndBiases(tmp_path, config={})
