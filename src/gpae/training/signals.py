"""Signals that ask a program to save and stop."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_LATER = 0.05
"""Seconds after which an interrupt that was lost is raised again."""


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
    """Ctrl-C ends what is inside, also where Python cannot raise it.

    In a finaliser or a callback (JAX has one for garbage) KeyboardInterrupt is printed and lost. Here it is raised
    again, a moment later, and at the latest where this ends.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    before = sys.unraisablehook
    late: list[threading.Timer] = []

    def again(lost: Any) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            before(lost)
            return
        # From another thread and later, since in here it would be lost once more.
        late.append(threading.Timer(_LATER, signal.pthread_kill, (main.ident, signal.SIGINT)))
        late[-1].daemon = True
        late[-1].start()

    sys.unraisablehook = again
    try:
        try:
            yield
        finally:
            for timer in late:
                timer.join()
    finally:
        sys.unraisablehook = before
