"""A process that plays some of the environments: reads orders from a socket, and writes rows into shared memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

from gpae.errors import UserError
from gpae.outside_jax.rows import Rows
from gpae.outside_jax.sizes import arrays

BEGIN, ROW, CLOSE = b"begin", b"row", b"close"
BOOT = """
import pickle, sys
from multiprocessing.connection import Connection
orders = Connection(int(sys.argv[1]))
sys.path[:] = pickle.loads(orders.recv_bytes())
from gpae.outside_jax.worker import serve
serve(orders, int(sys.argv[2]))
"""
"""What Python is started with: modules are looked for where the parent looks, before any of ours is imported."""


def serve(orders: Connection, memory: int) -> None:
    """Plays until told to close, or until the parent is gone.

    Args:
      orders: from the parent. Each order is answered: by nothing where it was carried out, by a line where it was not.
      memory: file descriptor of the shared arrays.
    """
    _outlive_signals()
    warnings.simplefilter("ignore")  # each would be shown by every process
    rows: Rows | None = None
    try:
        job = pickle.loads(orders.recv_bytes())
        answer, rows = _attempt(lambda: _rows(job, memory))
        orders.send_bytes(answer)
        while rows is not None:
            order = orders.recv_bytes()
            if order == CLOSE:
                break
            if order == ROW:
                answer, _ = _attempt(rows.row)
            else:
                streams = pickle.loads(order[len(BEGIN) :])
                answer, _ = _attempt(lambda streams=streams: rows.begin(streams))
            orders.send_bytes(answer)
    except (EOFError, ConnectionError):
        pass  # the parent is gone
    finally:
        if rows is not None:
            rows.close()


def _rows(job: dict[str, Any], memory: int) -> Rows:
    import cloudpickle

    make = cloudpickle.loads(job["make"])
    view = arrays(mmap.mmap(memory, os.fstat(memory).st_size), job["sizes"], job["count"])
    return Rows(make, view.part(job["begin"], job["end"]), **job["how"])


def _attempt(action: Any) -> tuple[bytes, Any]:
    """What to answer, and what `action` returned."""
    try:
        return b"", action()
    except UserError as error:
        return str(error).encode(), None
    except Exception as error:  # ours, or of unpickling the user's
        return f"{type(error).__name__}: {error}".encode(), None


def _outlive_signals() -> None:
    """The parent decides when to end: at Ctrl-C, which the terminal sends to all, it first finishes its update."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # a step that never returns must not outlive the parent
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
