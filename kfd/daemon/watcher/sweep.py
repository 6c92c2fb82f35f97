"""Looking at a directory tree: all of it, or single paths in it, never through a symbolic link.

Every step goes by descriptor with O_NOFOLLOW, so that nobody who may write in the tree can lead
kfd out of it. What vanishes meanwhile is passed over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Final, NamedTuple

Enter = Callable[[bytes], bool]
Failed = Callable[[bytes, OSError], None]

# What shows that a name isn't that of a directory, or of a file, any more.
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(NamedTuple):
    """A name in the tree. ``entry`` is only good until the next one is asked for."""

    path: bytes  # relative to the tree's root
    entry: os.DirEntry[str]


def walk(root: int, top: bytes, enter: Enter, failed: Failed) -> Iterator[Found]:
    """All that lies below the directory ``top`` of the tree whose descriptor is ``root``.

    A directory is listed only if ``enter`` says so, which is asked before it is opened. Holds two
    descriptors a level and never a whole list. ``failed`` hears of what cannot be read.
    """
    walker = _Walker(enter, failed)
    try:
        walker.descend(root, top, top)
        yield from walker.run()
    finally:
        walker.close()


def look_up(
    root: int, paths: Iterable[bytes], failed: Failed
) -> Iterator[tuple[bytes, os.stat_result]]:
    """The status of each path that is still there, below the tree's root, in their order."""
    for directory, group in groupby(paths, key=_parent):
        names = list(group)
        try:
            with _opened_below(root, directory) as descriptor:
                yield from _statuses(descriptor, names, failed)
        except OSError as error:
            _tell(directory, error, failed)


def _statuses(
    directory: int, paths: Iterable[bytes], failed: Failed
) -> Iterator[tuple[bytes, os.stat_result]]:
    for path in paths:
        name = path.rpartition(b"/")[2]
        try:
            yield path, os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            _tell(path, error, failed)


def unreadable(root: int, paths: Iterable[bytes], failed: Failed) -> Iterator[bytes]:
    """Those of the files below the tree's root that kfd may not read; ``failed`` hears why."""
    for directory, group in groupby(paths, key=_parent):
        names = list(group)
        try:
            with _opened_below(root, directory) as descriptor:
                for path in names:
                    if (error := _refused(descriptor, path.rpartition(b"/")[2])) is not None:
                        failed(path, error)
                        yield path
        except OSError as error:
            if error.errno not in _VANISHED:
                failed(directory, error)
                yield from names


def _refused(directory: int, name: bytes) -> PermissionError | None:
    """Why a file may not be read. Only opening it tells for sure: an older C library answers for
    the mode alone, without access control lists. But that costs more, and few are refused."""
    if os.access(name, os.R_OK, dir_fd=directory, effective_ids=True):
        return None
    try:
        os.close(os.open(name, _READ, dir_fd=directory))
    except PermissionError as error:
        return error
    except OSError:  # it is gone, or something else now
        pass
    return None


class _Walker:
    """The directories that are open on the way down, the deepest last."""

    def __init__(self, enter: Enter, failed: Failed) -> None:
        self._enter = enter
        self._failed = failed
        self._levels: list[_Level] = []

    def run(self) -> Iterator[Found]:
        while self._levels:
            level = self._levels[-1]
            found = self._next(level)
            if found is None:
                self._levels.pop().close()
                continue
            if self._is_directory(found):
                self.descend(level.descriptor, os.fsencode(found.entry.name), found.path)
            yield found

    def descend(self, base: int, name: bytes, path: bytes) -> None:
        """Go on with the directory ``name`` below ``base`` if it is to be entered and opens."""
        if not self._enter(path):
            return
        try:
            with _opened_below(base, _parent(name)) as parent:
                descriptor = os.open(name.rpartition(b"/")[2] or b".", _LIST, dir_fd=parent)
            self._levels.append(_Level(descriptor, path))
        except OSError as error:
            _tell(path, error, self._failed)

    def close(self) -> None:
        for level in self._levels:
            level.close()

    def _next(self, level: _Level) -> Found | None:
        try:
            return level.next()
        except OSError as error:
            _tell(level.path, error, self._failed)
            return None

    def _is_directory(self, found: Found) -> bool:
        try:
            return found.entry.is_dir(follow_symlinks=False)
        except OSError as error:  # where the file system doesn't tell the type along with the name
            _tell(found.path, error, self._failed)
            return False


class _Level:
    """An open directory, and how far its list was read."""

    def __init__(self, descriptor: int, path: bytes) -> None:
        self.descriptor = descriptor
        self.path = path
        self._prefix = path + b"/" if path else b""
        try:
            self._entries = os.scandir(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def next(self) -> Found | None:
        entry = next(self._entries, None)
        return Found(self._prefix + os.fsencode(entry.name), entry) if entry is not None else None

    def close(self) -> None:
        self._entries.close()
        os.close(self.descriptor)


@contextmanager
def _opened_below(root: int, directory: bytes) -> Iterator[int]:
    """A descriptor of ``directory`` below ``root``; b"" is the root itself."""
    descriptor = os.dup(root)
    try:
        for name in directory.split(b"/") if directory else ():
            parent, descriptor = descriptor, os.open(name, _STEP, dir_fd=descriptor)
            os.close(parent)
        yield descriptor
    finally:
        os.close(descriptor)


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _tell(path: bytes, error: OSError, failed: Failed) -> None:
    if error.errno not in _VANISHED:
        failed(path, error)
