"""Files that are written in one piece, and what is said where a disk refuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpae.errors import UserError


@contextlib.contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" and "no permission", met while writing `path`, into a UserError that says so."""
    try:
        yield
    except Exception as error:
        # TensorStore reports a full disk as a ValueError or RuntimeError with the system's words in it.
        words = str(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in words:
            raise UserError(
                f"the disk is full: {path} could not be written; what was saved before is intact"
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        raise


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Replaces `path` by `value` as JSON, in one piece: whatever happens, the old file or the new one is there.

    Raises:
      UserError: the disk is full, or writing is not permitted.
      ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=indent, allow_nan=False) + "\n"
    with clear_disk_errors(path):
        replace_file(path, text.encode())


def read_json(path: Path) -> Any:
    """The JSON value in `path`; a UserError if there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no {path}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one piece."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def ensure_parent(path: Path) -> Path:
    """`path`, after its folder has been made where it was missing.

    Raises:
      UserError: the folder cannot be made.
    """
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path
