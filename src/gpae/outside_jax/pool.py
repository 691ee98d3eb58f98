"""Many environments at once, in this process or shared out over worker processes.

A worker plays several environments. Gymnasium's AsyncVectorEnv has a process for each, which is too many for a learner
that wants 64 of them on a few cores; its ideas (shared memory, code sent by cloudpickle) are here.
"""

from __future__ import annotations

import functools
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from gpae.errors import UserError
from gpae.outside_jax.rows import Rows, Stream
from gpae.outside_jax.sizes import Arrays, Instance, Sizes, arrays, num_bytes
from gpae.outside_jax.worker import BEGIN, BOOT, CLOSE, ROW

_PATIENCE = 5.0
"""Seconds that environments have to close."""


class Pool:
    """E environments, played row by row. Close it, or use it as a context manager; a pool that is lost is closed too.

    Args:
      make: makes one environment; it is sent to the workers by cloudpickle.
      sizes: of the environment.
      count: E.
      processes: workers; 0: no process but this one.
      how: arguments of `gpae.outside_jax.rows.Rows`.

    Raises:
      UserError: an environment cannot be made, or fails; here and in every method.
    """

    view: Arrays
    """What is seen after the last row; `view.actions` are those of the next."""

    def __init__(self, make: Callable[[], Instance], sizes: Sizes, count: int, processes: int, **how: Any) -> None:
        processes = min(processes, count)
        self._workers: list[_Worker] = []
        self._rows: Rows | None = None
        if processes == 0:
            self.view = arrays(bytearray(num_bytes(sizes, count)), sizes, count)
            self._rows = Rows(make, self.view, **how)
            self._close = weakref.finalize(self, self._rows.close)
            return
        payload = _pickled(make)
        with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as memory:
            memory.truncate(num_bytes(sizes, count))
            self.view = arrays(mmap.mmap(memory.fileno(), num_bytes(sizes, count)), sizes, count)
            self._close = weakref.finalize(self, functools.partial(_close_all, self._workers))
            ends = [count * (i + 1) // processes for i in range(processes)]
            for begin, end in zip([0, *ends], ends, strict=False):
                job = {"make": payload, "sizes": sizes, "count": count, "begin": begin, "end": end, "how": how}
                self._workers.append(_Worker(memory.fileno(), job))
            self._answers()

    def begin(self, streams: Sequence[Stream]) -> None:
        """Begins an episode in every environment; each has its stream of seeds."""
        if self._rows is not None:
            self._rows.begin(streams)
        for worker in self._workers:
            worker.send(BEGIN + pickle.dumps(list(streams[worker.begin : worker.end])))
        self._answers()

    def row(self) -> None:
        """Plays one row of `view.actions`."""
        if self._rows is not None:
            self._rows.row()
        for worker in self._workers:
            worker.send(ROW)
        self._answers()

    def picture(self) -> np.ndarray:
        """What the first environment looks like, [H, W, 3] uint8; only where there are no workers.

        Raises:
          Undrawable: it does not show it.
        """
        assert self._rows is not None
        return self._rows.instances[0].picture()

    def close(self) -> None:
        """Closes all environments and ends the workers."""
        self._close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, by who called it or since a worker failed."""
        return not self._close.alive

    @property
    def pids(self) -> list[int]:
        """Of the workers."""
        return [worker.process.pid for worker in self._workers]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> None:
        """Waits for all workers; of what went wrong, raises the first."""
        wrong = [said for worker in self._workers if (said := worker.answer())]
        if wrong:
            self.close()
            raise UserError(wrong[0])


class _Worker:
    """A process that plays environments `begin` to `end` - 1."""

    def __init__(self, memory: int, job: dict[str, Any]) -> None:
        self.begin, self.end = job["begin"], job["end"]
        mine, its = socket.socketpair()
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, str(its.fileno()), str(memory)],
                pass_fds=(its.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        self.orders = Connection(mine.detach())
        self.send(pickle.dumps(sys.path))
        self.send(pickle.dumps(job))

    def send(self, order: bytes) -> None:
        """Gives an order; that the worker is gone shows where its answer is waited for."""
        try:
            self.orders.send_bytes(order)
        except (ConnectionError, OSError):
            return

    def answer(self) -> str:
        """What the worker says of its last order: nothing, or what went wrong."""
        try:
            return self.orders.recv_bytes().decode()
        except (EOFError, OSError):
            return self._death()

    def _death(self) -> str:
        places = f"environments {self.begin} to {self.end - 1}"
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return f"the worker process of {places} (pid {self.process.pid}) does not answer any more"
        why = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the worker process of {places} (pid {self.process.pid}) {why}"


def _close_all(workers: list[_Worker]) -> None:
    """Tells all workers to close, then sees to it that none is left."""
    for worker in workers:
        worker.send(CLOSE)
        worker.orders.close()
    while workers:
        process = workers.pop().process
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """Environment variables of a worker: one thread, for there is a worker for each core; no greeting of pygame's."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**one, "PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy", **os.environ}


def _pickled(make: Callable[[], Instance]) -> bytes:
    """`make`, by name where a worker can import its module, and by value where it cannot."""
    import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith("gpae_user_"):  # a file of `--import`, which has this name here alone
            cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(make)
    except Exception as error:  # whatever refuses to be pickled
        raise UserError(
            f"the environment cannot be sent to a worker process: {type(error).__name__}: {error}"
        ) from error
