"""How a new run takes the place of an old one in the same folder, such that the old one is lost only when it may be.

The old run's files are moved into a folder inside the run directory, whose name says how far the replacement is:

    .old-run-moving       the files in the run directory are still old ones: those in here belong beside them
    .old-run              the files in the run directory are the new run's
    .old-run-discarded    the new run is under way: what is in here can go

Each step from one to the next is a single renaming, so that a process that dies at any moment leaves one of the three,
and whoever takes the lock next completes what it says: puts the old run back, or removes it. Only files and folders
that a run writes are ever moved or removed.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from gpae.errors import UserError
from gpae.runs.files import clear_disk_errors, exists, refuse_irregular, sync_folder
from gpae.runs.lock import LOCK

_MOVING, _MOVED, _DISCARDED = ".old-run-moving", ".old-run", ".old-run-discarded"
_SUFFIX = ".old"
"""Files in there have other names, so that nobody who looks for runs takes them for one."""


def is_pending(run: Path) -> bool:
    """Whether a replacement was begun in `run` and has not been completed."""
    return any(exists(run / name) for name in (_MOVING, _MOVED, _DISCARDED))


class Replacement:
    """One replacement of the run in a folder whose lock this process has."""

    def __init__(self, run: Path, files: tuple[str, ...], folders: tuple[str, ...]):
        """Says what may be moved and removed.

        Args:
          run: the folder.
          files: names of the files that a run writes.
          folders: names of the folders that it writes.
        """
        self._run, self._files, self._folders = run, files, folders

    def begin(self) -> None:
        """Moves the old run's files aside.

        Raises:
          UserError: something of the old run is a link, or can be neither moved nor removed. Nothing is changed then.
        """
        self.refuse_links()
        for name in self._folders:
            self._refuse_fixed(self._run / name)
        moving = self._run / _MOVING
        try:
            with clear_disk_errors(moving):
                moving.mkdir()
            for name in (*self._folders, *self._files):
                if exists(self._run / name):
                    with clear_disk_errors(self._run / name, "removed"):
                        os.rename(self._run / name, moving / f"{name}{_SUFFIX}")
            self._step(_MOVING, _MOVED)
        except BaseException:
            self.restore()
            raise

    def discard(self) -> None:
        """Removes the old run for good.

        Raises:
          UserError: it cannot be removed; the new run is not concerned.
        """
        if exists(self._run / _MOVED):
            self._step(_MOVED, _DISCARDED)
        self._remove(self._run / _DISCARDED)

    def remove(self) -> None:
        """Removes the files that a run writes, and the folder where nothing else is in it.

        Raises:
          UserError: something cannot be removed.
        """
        for name in (*self._files, *self._folders):
            self._remove(self._run / name)
        if {path.name for path in self._run.iterdir()} <= {LOCK}:
            self._remove(self._run)

    def restore(self) -> None:
        """Puts the old run back, wherever the replacement was; does nothing if there is none or it was discarded.

        Raises:
          UserError: something cannot be moved or removed; another call goes on where this one ended.
        """
        for name in (_MOVING, _MOVED, _DISCARDED):
            refuse_irregular(self._run / name, folder=True)
        if exists(self._run / _MOVED):
            if not any(exists(self._run / _MOVED / f"{name}{_SUFFIX}") for name in self._files):
                raise UserError(f"{self._run / _MOVED} holds no run; remove it")
            for name in (*self._files, *self._folders):
                self._remove(self._run / name)
            self._step(_MOVED, _MOVING)
        if exists(moving := self._run / _MOVING):
            for name in (*self._files, *self._folders):
                if exists(moving / f"{name}{_SUFFIX}"):
                    with clear_disk_errors(self._run / name):
                        os.rename(moving / f"{name}{_SUFFIX}", self._run / name)
            with clear_disk_errors(moving, "removed"):
                moving.rmdir()
        self._remove(self._run / _DISCARDED)

    def refuse_links(self) -> None:
        """Raises a UserError if one of a run's files or folders is a link, or otherwise not what a run writes."""
        for name in self._files:
            refuse_irregular(self._run / name)
        for name in self._folders:
            refuse_irregular(self._run / name, folder=True)

    def _step(self, before: str, after: str) -> None:
        with clear_disk_errors(self._run / after):
            os.rename(self._run / before, self._run / after)
            sync_folder(self._run)

    def _remove(self, path: Path) -> None:
        """Removes a file or folder that may not be there; what cannot be removed is an error."""
        with clear_disk_errors(path, "removed"):
            try:
                is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            except FileNotFoundError:
                return
            if is_folder:
                shutil.rmtree(path)
            else:
                path.unlink()

    def _refuse_fixed(self, folder: Path) -> None:
        """Raises a UserError if files in a folder or below it cannot be removed, as those of another owner."""

        def fail(error: OSError) -> None:
            raise error

        with clear_disk_errors(folder, "removed"):
            if not exists(folder):
                return
            for place, _, _ in os.walk(folder, onerror=fail):
                if not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
                    raise UserError(f"{place} cannot be removed (no permission), so that the run cannot be replaced")
