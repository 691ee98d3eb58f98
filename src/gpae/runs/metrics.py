"""metrics.jsonl: one line per update and seed, which grows while a run trains."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from gpae.errors import UserError
from gpae.runs import schema
from gpae.runs.files import (
    atomic_write,
    clear_disk_errors,
    exists,
    open_regular,
    parse_json,
    read_regular,
    sync_folder,
)

METRICS = "metrics.jsonl"
_LIMIT = 1 << 34


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, oldest first. A last line that was cut off in the middle is left out.

    Raises:
      UserError: any other line is damaged, or does not hold what a line holds.
    """
    file = Path(run) / METRICS
    return [schema.metrics(parse_json(line, file, i), file, i) for i, line in enumerate(_lines(file), 1)]


def _lines(file: Path) -> list[bytes]:
    """The whole lines of a file, without their ends."""
    if not exists(file):
        return []
    *lines, _ = read_regular(file, most=_LIMIT).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return lines


class MetricsFile:
    """metrics.jsonl of a run directory that this process alone writes."""

    def __init__(self, run: Path):
        self._path = run / METRICS
        self._file: IO[bytes] | None = None
        self._lines: int | None = None

    @property
    def lines(self) -> int:
        """How many whole lines there are."""
        if self._lines is None:
            self._lines = len(_lines(self._path))
        return self._lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds a line.

        Raises:
          UserError: the disk is full or refuses, or the file was removed; the lines before are intact.
        """
        text = (json.dumps(line, allow_nan=False) + "\n").encode()
        lines = self.lines
        with clear_disk_errors(self._path):
            if self._file is None:
                self._file = open_regular(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            before = os.fstat(self._file.fileno())
            if not before.st_nlink:
                raise UserError(f"{self._path} was removed while it was in use")
            try:
                written = 0
                while written < len(text):
                    written += self._file.write(text[written:])
            except OSError:
                with contextlib.suppress(OSError):  # half a line would spoil the next one
                    self._file.truncate(before.st_size)
                self.close()
                raise
        self._lines = lines + 1

    def rewind(self, update: int, lines: int | None = None) -> None:
        """Drops the lines after an update, and one that was half written.

        Args:
          update: the last one that is kept.
          lines: how many lines there were up to that update; None if that is not known.

        Raises:
          UserError: a line is damaged, or there are more or fewer than `lines`.
        """
        self.close()
        kept = [line for line in read_metrics(self._path.parent) if line["update"] <= update]
        if lines is not None and len(kept) != lines:
            wrong = f"lacks {lines - len(kept)} of" if len(kept) < lines else f"has {len(kept) - lines} more than"
            raise UserError(
                f"{self._path} {wrong} the {lines} lines that it had at the checkpoint of update {update}; "
                "put a copy in its place, or make the run again with --overwrite"
            )
        atomic_write(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._lines = len(kept)

    def sync(self) -> None:
        """Waits until every line is on the disk.

        Raises:
          UserError: the disk is full or refuses.
        """
        with clear_disk_errors(self._path):
            if self._file is not None:
                os.fsync(self._file.fileno())
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Closes the file; a further line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
