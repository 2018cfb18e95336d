"""Files on the disk: written whole, flushed, and never over another's name.

A name is claimed by the file system itself, in one step: to look whether it is free and to write
it then would lose a file when two programs do so at once.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DiskError, NameTakenError

try:
    import fcntl as locks
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    locks = None

_MARK, _UNFINISHED = ".personalize-", ".tmp"  # name of a file that is being written
_YOUNG = 10.0  # seconds in which an unfinished file is left alone
_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4)  # seconds; a virus scanner lets go of a file by then
_MAPPED = 1224  # ERROR_USER_MAPPED_FILE
_RENAME_KEEPS = os.name == "nt"  # there a rename overwrites nothing, and an open file stays

Stamp = tuple[int, int, int, int]


def write_whole(data: bytes, path: Path) -> None:
    """Write a file in the place of what is there; no reader ever sees half of it.

    Raises DiskError with a sentence, and then leaves what was there.
    """
    with _told(path), _written(data, path.parent) as unfinished:
        _patiently(os.replace, unfinished, path)
        _flush(path.parent)


def write_new(data: bytes, path: Path) -> None:
    """Write a file under a free name. Raises NameTakenError, and DiskError with a sentence."""
    with _told(path), _written(data, path.parent) as unfinished:
        _claim(unfinished, path)
        _flush(path.parent)


def move_new(source: Path, target: Path) -> None:
    """Move a file, or a link itself, to a free name on the same disk.

    Raises NameTakenError, and DiskError with a sentence; the file is then where it was.
    """
    if source == target:
        return
    with _told(source, "moved", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if _is_other_spelling(source, target):
            _patiently(os.replace, source, target)
        else:
            _claim(source, target)
            if os.path.lexists(source):  # else it was moved, and the target is the only one
                try:
                    _gone(source)
                except OSError:
                    _gone(target)
                    raise
        _flush(source.parent, target.parent)


def remove(path: Path) -> None:
    """Delete a file, if it is there. Raises DiskError with a sentence."""
    with _told(path, "deleted"):
        _gone(path)


def stamp(path: Path) -> Stamp:
    """Changes whenever a file is written, or another one takes its place."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def tidy(folder: Path) -> None:
    """Remove unfinished files of killed programs. What another program is writing stays."""
    for unfinished in folder.glob(f"{_MARK}*{_UNFINISHED}"):
        with suppress(OSError):
            if _is_left_over(unfinished):
                unfinished.unlink()


@contextmanager
def _written(data: bytes, folder: Path) -> Iterator[Path]:
    """An unfinished file with the data, on the disk itself; afterwards it is gone."""
    unfinished, file = _new_unfinished(folder)
    try:
        with file:
            _lock(file)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if not _RENAME_KEEPS:
                yield unfinished
        if _RENAME_KEEPS:
            yield unfinished
    finally:
        with suppress(OSError):
            _gone(unfinished)
    tidy(folder)


def _new_unfinished(folder: Path) -> tuple[Path, BinaryIO]:
    for _ in _WAITS:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{_MARK}{secrets.token_hex(8)}{_UNFINISHED}"
        with suppress(FileNotFoundError):  # another program has tidied up the folder meanwhile
            return path, path.open("xb")
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _claim(source: Path, target: Path) -> None:
    """Give a file a free name. The old one may remain."""
    try:
        if _RENAME_KEEPS:
            _patiently(os.rename, source, target)
        else:
            _link(source, target)
    except FileExistsError as error:
        raise NameTakenError(
            f"There is a file '{target.name}' already. Choose another name."
        ) from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a disk without links: an empty file claims the name
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            _patiently(os.replace, source, target)
        except OSError:
            _gone(target)
            raise


def _is_other_spelling(source: Path, target: Path) -> bool:
    """Is it the same file, on a disk for which capitals are all one?"""
    same = source.parent == target.parent and source.name.casefold() == target.name.casefold()
    return same and target.exists() and target.samefile(source)


def _gone(path: Path) -> None:
    with suppress(FileNotFoundError):
        _patiently(os.unlink, path)


def _patiently(action: Callable[..., Any], *paths: Path) -> None:
    """On Windows a file that anything has open can be neither replaced, moved nor deleted."""
    for wait in _WAITS:
        try:
            return action(*paths)
        except OSError as error:
            if not _is_in_use(error):
                raise
        time.sleep(wait)
    return action(*paths)


def _is_in_use(error: OSError) -> bool:
    """Windows has an error of its own for a file that is mapped, which Python calls no permission
    but EINVAL."""
    return isinstance(error, PermissionError) or getattr(error, "winerror", None) == _MAPPED


def _flush(*folders: Path) -> None:
    """Bring new names to the disk itself; where a folder cannot be flushed, its system does it."""
    for folder in {*folders, *(folder.parent for folder in folders)}:
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _lock(file: BinaryIO) -> None:
    """Mark a file as being written: the system forgets the mark when the program dies."""
    if locks is not None:
        with suppress(OSError):
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)


def _is_left_over(unfinished: Path) -> bool:
    if time.time() - unfinished.stat().st_mtime < _YOUNG:
        return False
    if locks is not None:
        with unfinished.open("r+b") as file:
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)  # OSError: its writer lives
    return True


@contextmanager
def _told(path: Path, done: str = "written", to: Path | None = None) -> Iterator[None]:
    """Turn what a system says of a file into a sentence."""
    try:
        yield
    except OSError as error:
        reason = _reason(error, to or path)
        raise DiskError(f"'{path}' cannot be {done}: {reason}") from error


def _reason(error: OSError, path: Path) -> str:
    if path.is_dir():
        return "there is a folder of that name. Choose another name."
    if _is_in_use(error):
        return _REASONS[errno.EACCES]
    if error.errno in _REASONS:
        return _REASONS[error.errno]
    if len(str(path)) >= 260 and isinstance(error, FileNotFoundError):  # as Windows puts it
        return _REASONS[errno.ENAMETOOLONG]
    return f"{error.strerror or error}."


_REASONS = {
    errno.ENOSPC: "the disk is full. Make room, or choose a folder on another disk.",
    errno.EDQUOT: "your share of the disk is full. Make room, or choose a folder on another disk.",
    errno.EROFS: "the disk is read-only. Choose a folder on another one.",
    errno.EACCES: "another program has it open, or the folder is not yours. Close that program, or "
    "choose another folder.",
    errno.ENAMETOOLONG: "its path is too long for this system. Choose a shorter name.",
    errno.ENOTDIR: "a file stands in a folder's place. Choose another name.",
    errno.EEXIST: "a file stands in a folder's place. Choose another name.",
}
_REASONS[errno.EPERM] = _REASONS[errno.EACCES]
