"""Signals that ask a program to save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def signals(*numbers: int, every: bool = False) -> Iterator[list[int]]:
    """A list that receives the first of `numbers`; a second one acts as if nothing was in its way.

    With `every`, all of them are received and none acts.

    In threads other than the main one, where Python delivers no signals, the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, _: Any) -> None:
        received.append(number)
        if not every:
            restore()

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends what is inside, at the latest where it ends.

    Where Python is in a library's callback as the signal arrives (JAX has one for garbage), KeyboardInterrupt is
    printed and lost.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # another's, or not to be heard
        yield
        return
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if received:
        raise KeyboardInterrupt
