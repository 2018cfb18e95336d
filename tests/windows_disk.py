"""A disk that acts as on Windows, played under one folder of a Linux disk.

There a rename overwrites nothing; a file that anyone has open or mapped can be neither replaced,
moved nor deleted; capitals are all one; a path is shorter than 260 characters. What this process
has open is read from /proc, what other programs have is told by `use`.
"""

import builtins
import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from personalize.concepts import disk

LONGEST_PATH = 259


class WindowsDisk:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.used: dict[Path, int] = {}
        self.refused: list[str] = []  # names of files that were asked for in vain
        self._real = {
            name: getattr(os, name)
            for name in ("stat", "lstat", "open", "mkdir", "rename", "replace", "unlink", "link")
        }
        for name in ("stat", "lstat", "open", "mkdir"):
            monkeypatch.setattr(os, name, self._found(self._real[name]))
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self._found(io.open))
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(os, "unlink", self.unlink)
        monkeypatch.setattr(os, "link", self.no_links)
        monkeypatch.setattr(disk, "_RENAME_KEEPS", True)
        monkeypatch.setattr(disk, "_WAITS", (0, 0, 0))
        monkeypatch.setattr(disk, "locks", None)

    def use(self, path: Path, times: int = 10**9) -> None:
        """Let another program have a file open, so often as it is asked for."""
        self.used[self.spelled(path)] = times

    def spelled(self, path: Any) -> Any:
        """The path with the capitals that the disk has, as far as it exists."""
        if isinstance(path, int) or not Path(path).is_relative_to(self.root):
            return path
        found = self.root
        for part in Path(path).relative_to(self.root).parts:
            same = [n for n in _names(found) if n.casefold() == part.casefold()]
            found = found / (same[0] if same else part)
        return found

    def rename(self, source, target, **options):
        self._check(source)
        _check_length(target)
        place = self.spelled(target)
        if _exists(place) and place != self.spelled(source):
            raise FileExistsError(errno.EEXIST, "file exists", str(target))
        self._real["rename"](self.spelled(source), Path(place).with_name(Path(target).name))

    def replace(self, source, target, **options):
        self._check(source)
        self._check(target)
        _check_length(target)
        place = self.spelled(target)
        if place != self.spelled(source) and _exists(place):
            self._real["unlink"](place)
        self._real["replace"](self.spelled(source), Path(place).with_name(Path(target).name))

    def unlink(self, path, **options):
        self._check(path)
        self._real["unlink"](self.spelled(path), **options)

    def no_links(self, *args, **options):
        raise OSError(errno.EPERM, "links are for administrators")

    def _check(self, path) -> None:
        place = self.spelled(path)
        if self.used.get(place, 0) > 0:
            self.used[place] -= 1
        elif not _open_here(place):
            return
        self.refused.append(Path(place).name)
        raise PermissionError(errno.EACCES, "used by another process", str(path))

    def _found(self, real):
        def act(path, *args, **options):
            if not isinstance(path, int):
                _check_length(path)
            return real(self.spelled(path), *args, **options)

        return act


def _check_length(path) -> None:
    if len(os.fspath(path)) > LONGEST_PATH:
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _exists(path: Path) -> bool:
    return Path(path).name in _names(Path(path).parent)


def _open_here(path: Path) -> bool:
    links = (f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd"))
    opened = {os.readlink(link) for link in links if os.path.lexists(link)}
    return str(path) in opened or str(path) in _maps()


def _maps() -> set[str]:
    handle = os.open("/proc/self/maps", os.O_RDONLY)
    with os.fdopen(handle) as file:
        return {line.split(maxsplit=5)[-1].strip() for line in file if "/" in line}
