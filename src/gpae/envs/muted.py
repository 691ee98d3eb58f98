"""Calls of other people's code without what it prints and warns."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Nothing that is printed or warned inside reaches the user; all streams are afterwards as they were.

    `contextlib.redirect_stdout` is not enough: importing JaxMARL sets sys.stdout to sys.__stdout__ on its way.
    """
    names = ("stdout", "stderr", "__stdout__", "__stderr__")
    before = {name: getattr(sys, name) for name in names}
    sink = io.StringIO()
    try:
        for name in names:
            setattr(sys, name, sink)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
