"""Several processes, on one machine or on many, that train one run: each has devices, the first writes the files.

All of them run the same program in the same order. What only the first can know, such as the state of the disk, it
tells the others; what any of them may notice, such as a signal, they agree upon before anybody acts.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from gpae.errors import UserError
from gpae.training.stopped import HostLost

Found = TypeVar("Found")
_TEXT = 2048
"""Bytes of what the first process tells the others."""
_PATIENCE = 20
"""Seconds that a process which has failed waits for the others to end."""


@dataclass(frozen=True)
class Place:
    """A process among those that train one run."""

    coordinator: str
    """HOST:PORT of the first process, as all others reach it; the port must be free there."""
    hosts: int
    """How many processes there are."""
    host: int
    """Which one this is, from 0."""

    def join(self) -> None:
        """Waits for the others: from now on JAX knows all their devices. To be called before JAX computes anything.

        Raises:
          UserError: they do not come, or JAX has begun already.
        """
        _, _, port = self.coordinator.rpartition(":")
        if not port.isdigit():
            raise UserError(f"--coordinator {self.coordinator}: it must be HOST:PORT, the first process's")
        if not 0 <= self.host < self.hosts:
            raise UserError(f"--host {self.host}: with --hosts {self.hosts} they are 0 to {self.hosts - 1}")
        # Signals are the trainer's.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.hosts,
                self.host,
                cluster_detection_method="deactivate",
                shutdown_timeout_seconds=_PATIENCE,
            )
        except (RuntimeError, ValueError) as error:
            words = (str(error).splitlines() or [""])[0][:200]
            met = f"--coordinator {self.coordinator}: the {self.hosts} hosts did not meet"
            raise UserError(f"{met} ({words})") from error


@contextlib.contextmanager
def lost(run: Path) -> Iterator[None]:
    """What ends one of several processes is said in one line: an error of its own, or that another one has gone.

    Args:
      run: the run directory, for the command that goes on.

    Raises:
      HostLost: that is so. Where one process trains alone, errors are what they were.
    """
    try:
        yield
    except UserError as error:
        if not several():
            raise
        raise HostLost(str(error)) from error
    except jax.errors.JaxRuntimeError as error:
        if not several():
            raise
        words = str(error).splitlines()[0][:200]
        raise HostLost(f"another host has ended ({words}); start all again with --resume {run}") from error


def place(coordinator: str | None = None, hosts: int | None = None, host: int | None = None) -> Place | None:
    """Where this process stands; None: it trains alone.

    What is not given is what SLURM says to the tasks of `srun`.

    Args:
      coordinator: HOST:PORT of the first process.
      hosts: how many processes there are; None or 1: this one trains alone.
      host: which one this is.

    Raises:
      UserError: something is not given and SLURM does not say it, or says otherwise.
    """
    if hosts is None or hosts == 1:
        if coordinator is not None or host is not None:
            raise UserError("--coordinator and --host are for several hosts: say how many with --hosts")
        return None
    known = os.environ
    if (coordinator is None or host is None) and "SLURM_STEP_NODELIST" in known:
        tasks = int(known["SLURM_NTASKS"])
        if tasks != hosts:
            raise UserError(f"--hosts {hosts}: srun has started {tasks} tasks; it must be one of them per host")
        head = _first_node(known["SLURM_STEP_NODELIST"])
        coordinator = coordinator or f"{head}:{port(int(known['SLURM_JOB_ID']))}"
        host = int(known["SLURM_PROCID"]) if host is None else host
    if coordinator is None or host is None:
        raise UserError(
            f"--hosts {hosts}: each needs --coordinator HOST:PORT, the first one's, and its number --host I;"
            " srun says both to the tasks that it starts"
        )
    return Place(coordinator, hosts, host)


def port(job: int) -> int:
    """Where the processes of a cluster's job meet, which all of them know without a word; other jobs meet elsewhere."""
    return 61_440 + job % 4096


def _first_node(nodes: str) -> str:
    """The first of SLURM's list of nodes: a[07-09,12],b -> a07."""
    name, bracket, rest = nodes.partition("[")
    if "," in name or not bracket:
        return name.split(",")[0]
    return name + rest.replace("]", ",").replace("-", ",").split(",")[0]


def several() -> bool:
    """Whether more than one process trains."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def by_first(action: Callable[[], Found], otherwise: Found) -> Found:
    """What the first process does alone, such as opening files, while the others wait; `otherwise` in the others.

    Raises:
      UserError: in all of them, where `action` raises one. What else it raises ends the others with its words.
    """
    if not several():
        return action()
    found, failed = otherwise, None
    if first():
        try:
            found = action()
        except BaseException as error:
            failed = error
    words = "" if failed is None else str(failed) or type(failed).__name__
    told = np.zeros(_TEXT, np.uint8)
    encoded = np.frombuffer(words.encode()[:_TEXT], np.uint8)
    told[: encoded.size] = encoded
    told = np.asarray(multihost_utils.broadcast_one_to_all(told))
    if failed is not None:
        raise failed
    if told.any():
        raise UserError(bytes(told[told > 0]).decode(errors="replace"))
    return found


def leave(code: int) -> NoReturn:
    """Ends this process, which goes on alone in vain, without JAX's waiting for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Signals:
    """Signals that any process has caught, so that all stop after the same update. To be asked once an update."""

    def __init__(self, caught: list[int]):
        """Of this process's own list, which grows."""
        self._caught = caught
        self._asked: deque[jax.Array] = deque()

    def __call__(self) -> list[int]:
        """The signal to stop at, if there is one.

        With several processes it is one that was caught an update ago: so nobody waits for the devices.
        """
        if not several():
            return list(self._caught)
        mine = np.asarray([self._caught[0] if self._caught else 0], np.int32)
        self._asked.append(_highest(mine))
        if len(self._asked) == 1:
            return []
        highest = int(self._asked.popleft())
        return [highest] if highest else []


def _highest(mine: np.ndarray) -> jax.Array:
    """The highest of every process's number [1], on its way."""
    mesh = Mesh(np.array([jax.local_devices(process_index=i)[0] for i in range(jax.process_count())]), ("host",))
    every = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("host")), mine)
    return jax.jit(jax.numpy.max, out_shardings=NamedSharding(mesh, PartitionSpec()))(every)


def put(tree: Any, where: Any) -> Any:
    """`tree`, which every process has whole, laid over devices of all of them.

    Args:
      tree: of arrays. What lies over devices already is moved.
      where: a sharding, or a tree of them.
    """
    if isinstance(where, Sharding):
        where = jax.tree.map(lambda _: where, tree)
    return jax.tree.map(_put, tree, where)


def _put(x: Any, where: Sharding) -> Any:
    if where.is_fully_addressable or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return jax.device_put(x, where)
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), where), impl=jax.random.key_impl(x))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, where, lambda index: host[index])


def whole(tree: Any) -> Any:
    """A tree of arrays without keys that lies over devices of all processes, as NumPy arrays in each."""
    return multihost_utils.process_allgather(tree, tiled=True) if several() else tree
