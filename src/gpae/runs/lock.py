"""The lock of a folder that one process writes. It goes with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from gpae.errors import UserError
from gpae.runs.files import clear_disk_errors, open_regular

LOCK = ".lock"


def open_lock(folder: str | Path) -> IO[bytes]:
    """The file that is to be locked, made if it was missing; what it holds is left as it is.

    Raises:
      UserError: it cannot be opened, or a link, pipe or device is in its place.
    """
    file = Path(folder) / LOCK
    with clear_disk_errors(file):
        return open_regular(file, os.O_RDWR | os.O_CREAT)


def try_lock(lock: IO[bytes], folder: str | Path) -> bool:
    """Takes the lock of `folder`, whose file `open_lock` has opened; False if another process has it.

    Raises:
      UserError: the disk refuses, as some network disks do, which know no locks.
    """
    with clear_disk_errors(Path(folder) / LOCK, "locked"):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def take_lock(folder: str | Path) -> IO[bytes]:
    """The lock of `folder`, held until the file that is returned is closed.

    Raises:
      UserError: another process has it; or the disk refuses.
    """
    lock = open_lock(folder)
    try:
        got = try_lock(lock, folder)
        with clear_disk_errors(Path(folder) / LOCK):
            if not got:
                owner = lock.read(20).strip()
                number = owner.decode() if owner.isdigit() else "unknown"
                raise UserError(f"{folder} is in use by another process (number {number})")
            lock.truncate(0)
            lock.seek(0)
            lock.write(f"{os.getpid()}\n".encode())
    except BaseException:
        lock.close()
        raise
    return lock


def holds(lock: IO[bytes], folder: str | Path) -> bool:
    """Whether `lock` is still the one of `folder`: not if the folder was removed, or another is in its place."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.lstat(Path(folder) / LOCK))
    except OSError:
        return False
