"""Ctrl-C before a training's first update and after its last one."""

import contextlib
import os
import signal
import threading

import pytest

import gpae
from gpae.training.signals import interruptible
from gpae.training.trainer import _Training


def lose_an_interrupt():
    """As where the signal arrives in a callback of JAX's: the exception is printed and lost."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1.0)
        pytest.fail("not interrupted")


def test_an_interrupt_that_was_lost_is_raised_at_the_end():
    reached = []

    def work():
        with interruptible():
            lose_an_interrupt()
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_ends_what_is_inside_at_once():
    def work():
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(1.0)
            pytest.fail("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens():
    with interruptible():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_interrupts_are_ignored_they_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


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
