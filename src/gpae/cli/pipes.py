"""What a command prints where nobody may read it: a pipe's reader can go, as `head` does, before the work is done."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


@contextlib.contextmanager
def readers_may_go() -> Iterator[None]:
    """What is inside does and answers the same whoever reads its output, to the last line."""
    with contextlib.ExitStack() as stack:
        for stream, redirect in (
            (sys.stdout, contextlib.redirect_stdout),
            (sys.stderr, contextlib.redirect_stderr),
        ):
            if stream is not None:  # closed by whoever called
                lasting = _Lasting(stream)
                stack.callback(lasting.flush)  # at exit Python could only complain
                stack.enter_context(redirect(cast(TextIO, lasting)))
        yield


class _Lasting:
    """A stream that leads nowhere from the moment that its reader has gone."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._lead_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        """Also what is buffered still, and what is written past this object."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
