"""Files that are written in one piece, links that are not followed, and what is said where a disk refuses.

Every error of a disk becomes a `UserError` here, by `clear_disk_errors`. Text is UTF-8 whatever the locale.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from gpae.errors import UserError

LARGEST = 1 << 30
"""Bytes of a file that is read at once; none of a run comes near it."""
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "files may not be that large here (ulimit -f)",
}
_REASONS = {
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.ENOENT: "its folder does not exist, or was removed",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "there are links in a circle, or a link where none is followed",
    errno.EISDIR: "it is a folder, and a file belongs there",
    errno.EEXIST: "it exists already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EXDEV: "it lies on another disk than its folder",
    errno.EBUSY: "it is in use",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network disk has lost it",
}
_NOT_OF_DISKS = (ConnectionError, ChildProcessError, InterruptedError, ProcessLookupError)
_MISSING = object()
Doing = Literal["written", "read", "removed", "locked"]


@contextlib.contextmanager
def clear_disk_errors(path: str | Path, doing: Doing = "written") -> Iterator[None]:
    """Turns every error of a disk, met while `path` is written, read, removed or locked, into a UserError naming it.

    Args:
      path: what errors name.
      doing: what is being done with it.
    """
    try:
        yield
    except Exception as error:
        if (clear := disk_error(error, path, doing)) is None:
            raise
        raise clear from error


def disk_error(error: BaseException, path: str | Path, doing: Doing = "written") -> UserError | None:
    """What to say of an error that a disk may have caused; None if it is none of a disk's.

    TensorStore reports errors of disks as ValueError or RuntimeError with the system's number in the words.
    """
    if isinstance(error, (UserError, *_NOT_OF_DISKS)):
        return None
    name = _named(path)
    if isinstance(error, ValueError) and (wrong := _unnameable(path)):
        return UserError(f"{name} cannot be {doing}: {wrong}")
    code = error.errno if isinstance(error, OSError) else _number_in(str(error))
    if code is None and not isinstance(error, OSError):
        return None
    if code in _FULL:
        return UserError(f"{_FULL[code]}: {name} could not be {doing}; what was saved before is intact")
    if doing == "read" and code in (errno.ENOENT, errno.ENOTDIR):
        return UserError(f"there is no {name}")
    if code in (errno.ENOTDIR, errno.EEXIST) and (obstacle := _obstacle(Path(path))):
        return UserError(f"{name} cannot be {doing}: {_named(obstacle)} is not a folder")
    words = getattr(error, "strerror", None) or (os.strerror(code) if code else str(error)) or type(error).__name__
    return UserError(f"{name} cannot be {doing}: {_REASONS.get(code or 0, words)}")


# -- reading -------------------------------------------------------------------------------------------------------


def read_regular(path: str | Path, *, most: int = LARGEST, follow: bool = False) -> bytes:
    """The bytes of a regular file.

    Args:
      path: the file.
      most: the largest size in bytes that is accepted.
      follow: whether `path` may be a link: only where the user has named it, never inside a run directory.

    Raises:
      UserError: it is not there, cannot be read, is larger than `most`, or is a link, folder, pipe or device.
    """
    path = Path(path)
    with clear_disk_errors(path, "read"), open_regular(path, os.O_RDONLY, follow=follow) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise _too_large(path, most)
        return file.read(size)  # what is added to it in this moment is not awaited


def read_json(path: str | Path, default: Any = _MISSING, *, follow: bool = False) -> Any:
    """The JSON value in `path`. A byte order mark is accepted.

    Args:
      path: the file.
      default: what to return if there is no such file; without it that is an error.
      follow: whether `path` may be a link; see `read_regular`.

    Raises:
      UserError: there is no such regular file, or it is not JSON, or says one name twice.
    """
    path = Path(path)
    if default is not _MISSING and not exists(path):
        return default
    return parse_json(read_regular(path, follow=follow), path)


def read_text(path: str | Path) -> str:
    """The text of a file that the user has named, in UTF-8; a byte order mark is accepted.

    Raises:
      UserError: it is not there, cannot be read, or is not text in UTF-8.
    """
    content = read_regular(path, follow=True)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{_named(path)} is not text in UTF-8: byte {error.start}") from error


def parse_json(content: bytes, file: str | Path, line: int | None = None) -> Any:
    """The JSON value that `content` spells.

    Args:
      content: its bytes; a byte order mark is accepted.
      file: what errors name.
      line: which line of it this is, where each is a value of its own.

    Raises:
      UserError: it is not JSON in UTF-8 (or UTF-16 or UTF-32), or says one name twice.
    """
    place = f"{_named(file)} is damaged: " + ("" if line is None else f"line {line}: ")
    remedy = "; put a copy in its place"
    if not content.strip():
        raise UserError(f"{place}it is empty{remedy}")
    try:
        return json.loads(content.decode(json.detect_encoding(content)), object_pairs_hook=_each_once)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}byte {error.start} is not {error.encoding.upper()}{remedy}") from error
    except RecursionError as error:
        raise UserError(f"{place}its brackets are nested too deeply{remedy}") from error
    except ValueError as error:
        raise UserError(f"{place}{error}{remedy}") from error


def exists(path: str | Path) -> bool:
    """Whether there is anything of that name, a link that leads nowhere too.

    Raises:
      UserError: the disk does not say.
    """
    with clear_disk_errors(path, "read"):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


# -- writing -------------------------------------------------------------------------------------------------------


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Replaces `path` by `value` as JSON, in one piece: whatever happens, the old file or the new one is there.

    Raises:
      UserError: as `atomic_write`.
      ValueError: a number is not finite.
    """
    atomic_write(path, (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode())


def atomic_write(path: str | Path, content: bytes) -> None:
    """Replaces `path` by `content` in one piece: whatever happens, the old file or the new one is there, whole.

    Raises:
      UserError: the disk is full or refuses, or a link, folder, pipe or device is in the file's place.
    """
    path = Path(path)
    with clear_disk_errors(path):
        refuse_irregular(path)
        temporary, file = _begin(path)
        ours = os.fstat(file.fileno())
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if not _is_same(temporary, ours):
                raise UserError(f"{_named(path)}: its folder was removed, or another process writes it as well")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                if _is_same(temporary, ours):
                    temporary.unlink()
            raise


def ensure_parent(path: str | Path) -> Path:
    """`path`, after its folder has been made where it was missing.

    Raises:
      UserError: the folder cannot be made.
    """
    path = Path(path)
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def writable_file(path: str | Path, ending: str | None = None) -> Path:
    """`path`, where a file can be written; commands call it before they compute what they will write.

    The folder is made where it was missing. A file that is there already is left as it is.

    Args:
      path: the file.
      ending: of such files, as ".png"; a name with another one is refused, one without any is not. None: any.

    Raises:
      UserError: the name promises another kind of file, the folder cannot be made or written to, or a folder, link,
        pipe or device is in the file's place.
    """
    if ending and Path(path).suffix.lower() not in ("", ending):
        raise UserError(f"{path} will be a {ending[1:].upper()}; name it {Path(path).with_suffix(ending)}")
    path = ensure_parent(path)
    with clear_disk_errors(path):
        refuse_irregular(path)
        temporary, file = _begin(path)
        file.close()
        temporary.unlink()
    return path


def open_regular(path: str | Path, flags: int, *, follow: bool = False) -> IO[bytes]:
    """A regular file, unbuffered where it is written to. Links are not followed; pipes and devices are not touched.

    Args:
      path: the file.
      flags: of `os.open`, such as `os.O_RDWR | os.O_CREAT`.
      follow: whether `path` may be a link.

    Raises:
      UserError: something else than a regular file is there; or, where it is written to, the file has another name as
        well (a hard link), so that another file would be changed.
      OSError: as `os.open`.
    """
    refuse_irregular(path, follow=follow)
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), 0o666)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):  # put there in the meantime
            raise _irregular(path, found.st_mode)
        if not flags & (os.O_WRONLY | os.O_RDWR):
            return open(descriptor, "rb")
        if found.st_nlink > 1:
            raise UserError(f"{_named(path)} is another file as well (a hard link); put a copy in its place")
        return open(descriptor, "ab" if flags & os.O_APPEND else "r+b", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def refuse_irregular(path: str | Path, *, folder: bool = False, follow: bool = False, most: int | None = None) -> None:
    """Raises a UserError if something else than a regular file (or a folder, if `folder`) is at `path`.

    Args:
      path: where; there may be nothing.
      folder: whether a folder belongs there.
      follow: whether a link may be there that leads to one.
      most: the largest size in bytes that a file may have.
    """
    with clear_disk_errors(path, "read"):
        try:
            found = os.stat(path) if follow else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
    if not (stat.S_ISDIR(found.st_mode) if folder else stat.S_ISREG(found.st_mode)):
        raise _irregular(path, found.st_mode, folder=folder)
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def sync_folder(path: str | Path) -> None:
    """Waits until the names in a folder are on the disk, where its kind of disk can say so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network disks do not know it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begin(path: Path) -> tuple[Path, IO[bytes]]:
    """A new empty file beside `path`; what a killed process has left of the same name is removed, not followed."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    return temporary, open(descriptor, "wb")


def _is_same(path: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), file)
    except FileNotFoundError:
        return False


def _irregular(path: str | Path, mode: int, *, folder: bool = False) -> UserError:
    kind = {
        stat.S_IFLNK: "a link, which is not followed",
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }.get(stat.S_IFMT(mode), "a device")
    return UserError(f"{_named(path)} is {kind}; only a {'folder' if folder else 'regular file'} may be there")


def _too_large(path: str | Path, most: int) -> UserError:
    return UserError(f"{_named(path)} is larger than {most:,} bytes; it is not read")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return found


def _named(path: str | Path) -> str:
    """A path as errors show it: cut in the middle if it is very long."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}"


def _unnameable(path: str | Path) -> str:
    """Why no file can have this name; empty if one can."""
    try:
        return "its name holds a null character" if b"\0" in os.fsencode(path) else ""
    except UnicodeEncodeError:
        return "its name cannot be written in this locale; set PYTHONUTF8=1"


def _number_in(words: str) -> int | None:
    """The system's number of an error, from the words of one that has no such field."""
    if found := re.search(r"os_error_code='?(\d+)|OS error (\d+)", words):
        return int(found[1] or found[2])
    return next((code for code in (*_FULL, errno.EROFS, errno.EACCES) if os.strerror(code) in words), None)


def _obstacle(path: Path) -> Path | None:
    """The nearest thing above `path` that exists, if it is not a folder."""
    for above in path.parents:
        if os.path.lexists(above):
            return None if above.is_dir() else above
    return None
