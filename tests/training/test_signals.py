"""Ctrl-C that arrives where Python can raise nothing; and before a training's first update and after its last one."""

import contextlib
import gc
import os
import signal
import sys
import threading

import pytest

import gpae
from gpae.cli import commands
from gpae.studies import worker
from gpae.training.signals import interruptible
from gpae.training.trainer import _Training


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C raises, also where the tests run in the background, for which shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dropped:
    """Ctrl-C arrives as this is finalised, where Python can raise nothing."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(5.0)
        pytest.fail("not interrupted")


class Callback:
    """Ctrl-C arrives in a callback for garbage, as JAX has one."""

    def __call__(self, *_):
        gc.callbacks.remove(self)
        Dropped.__del__(self)


def lose_an_interrupt():
    Dropped()


def lose_an_interrupt_to_the_collector():
    gc.callbacks.append(Callback())
    gc.collect()


LOSSES = [lose_an_interrupt, lose_an_interrupt_to_the_collector]


@pytest.mark.parametrize("lose", LOSSES)
def test_an_interrupt_that_was_lost_is_raised_while_the_work_goes_on(lose, capsys):
    hook, reached = sys.unraisablehook, []

    def work():
        with interruptible():
            lose()
            reached.append(True)
            threading.Event().wait(5.0)
            pytest.fail("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is hook


@pytest.mark.parametrize("lose", LOSSES)
def test_an_interrupt_that_was_lost_is_raised_at_the_end(lose):
    reached = []

    def work():
        with interruptible():
            lose()
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached


def test_one_that_is_lost_again_is_raised_again():
    reached = []

    def work():
        with interruptible():
            for _ in range(3):
                lose_an_interrupt()
                reached.append(True)
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait(5.0)
                    pytest.fail("not interrupted")

    work()
    assert len(reached) == 3


def test_whatever_else_is_lost_is_said_as_usual(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Broken:
        def __del__(self):
            raise ValueError("in a finaliser")

    with interruptible():
        Broken()
    assert len(told) == 1
    assert sys.unraisablehook == told.append


def test_where_interrupts_are_ignored_they_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_command_and_every_child_hears_an_interrupt_that_was_lost(monkeypatch, tmp_path):
    def lost(*_):
        lose_an_interrupt()
        threading.Event().wait(5.0)
        pytest.fail("not interrupted")

    monkeypatch.setattr(commands, "_run", lost)
    assert commands.main(["envs"]) == 130
    monkeypatch.setattr(worker, "work", lost)
    monkeypatch.setattr(sys, "platform", "elsewhere")  # else the parent's death would be told to the tests
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path / "job.json")])
    with pytest.raises(KeyboardInterrupt):
        worker.main()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["begin", "finish"])
def test_a_training_ends_though_its_interrupt_was_lost(phase, tmp_path, monkeypatch):
    usual = getattr(_Training, phase)

    def interrupted(self):
        lose_an_interrupt()
        usual(self)

    monkeypatch.setattr(_Training, phase, interrupted)
    config = gpae.preset("quickstart", "gpae", env="probe/team", total_steps=64, num_envs=8, rollout_length=8)
    config = config.replace(chunk_length=8, evaluations=1, evaluation_episodes=1, hidden_size=8)
    with pytest.raises(KeyboardInterrupt):
        gpae.train(config, gpae.RunOptions(name="run", runs=tmp_path, quiet=True))
    metrics = tmp_path / "run" / "metrics.jsonl"
    learnt = metrics.read_text() if metrics.exists() else ""
    assert learnt.count("\n") == (1 if phase == "finish" else 0)
    assert (tmp_path / "run").exists() == (phase == "finish")  # the same command can be given again
