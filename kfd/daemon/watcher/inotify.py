"""The inotify watches on a route's directory and all below it.

Built on watchdog's ``InotifyFD``, which owns the descriptor, the thread that reads it and the
parsing. watchdog's recursive observer isn't used: its thread dies of a KeyError when a directory
that was moved out of the tree is removed after its successor of the same name; it hides that the
limit of watches was reached; it holds everything behind a move out of the tree; and its queues
have no bound.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from kfd.daemon.watcher.signs import Sign, Signs

# Neither modifications, which would flood the kernel's queue, nor opens and reads, which kfd does
# itself.
_MASK: Final = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)

_RETRY_EVERY: Final = 3600.0  # seconds


class WatchLimitReached(Exception):  # noqa: N818 - it is answered by polling, nothing fails
    """The kernel refuses more watches; ``setting`` is the sysctl that says how many."""

    def __init__(self, setting: str) -> None:
        super().__init__(setting)
        self.setting = setting
        self.value = self._read()
        self._since = time.monotonic()

    def lifted(self) -> bool:
        """Whether it may work again: the setting was raised, or others had time to let go."""
        return self._read() > self.value or time.monotonic() > self._since + _RETRY_EVERY

    def _read(self) -> int:
        return int(Path("/proc/sys", self.setting.replace(".", "/")).read_text())


class TreeWatch:
    """The watches of one route. ``add``, ``forget`` and ``close`` are the watcher's thread's.

    The lock guards ``_watched`` and orders the adding of a watch before the news that its
    directory is gone, which comes in the reader's thread.
    """

    def __init__(self, name: str, root: bytes, signs: Signs) -> None:
        """Raises :class:`WatchLimitReached`."""
        self.signs = signs
        self.closed = False
        self._root = root
        self._lock = threading.Lock()
        self._watched: dict[bytes, _DirectoryWatch] = {}
        self._reader = _open_reader()
        self._reader.name = f"{name}-inotify"
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._reader.is_alive()

    def add(self, path: bytes) -> None:
        """Watch the directory at ``path`` below the root, b"" for the root itself.

        Raises :class:`WatchLimitReached`, or OSError where this directory cannot be watched.
        """
        with self._lock:
            if path in self._watched:
                return
            watch = _DirectoryWatch(self, path)
            watch.descriptor = self._add(path, watch)
            self._watched[path] = watch

    def forget(self, left: Collection[bytes]) -> None:
        """Take the watches off these directories and all below them: they are elsewhere now."""
        if not left:
            return
        with self._lock:
            gone = [watch for path, watch in self._watched.items() if _within(path, left)]
            for watch in gone:
                del self._watched[watch.path]
        self._reader.remove_callbacks([(watch.descriptor, watch.id) for watch in gone])

    def gone(self, watch: _DirectoryWatch) -> None:
        """The kernel took off this watch: the directory was removed or unmounted."""
        with self._lock:
            if self._watched.get(watch.path) is watch:
                del self._watched[watch.path]

    def close(self) -> None:
        """End the reader's thread and with it all watches."""
        self.closed = True
        self._reader.stop()
        self._reader.join()

    def _add(self, path: bytes, watch: _DirectoryWatch) -> WatchDescriptor:
        try:
            absolute = os.path.join(self._root, path)
            descriptor = self._reader.add_callback(absolute, _MASK, watch, watch.id)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise WatchLimitReached("fs.inotify.max_user_watches") from error
            raise
        if descriptor < 0:  # this is how watchdog tells of EACCES
            self._reader.remove_callbacks([(descriptor, watch.id)])
            raise PermissionError(errno.EACCES, "may not be watched")
        return descriptor


class _DirectoryWatch:
    """One watched directory; called by watchdog in the reader's thread."""

    __slots__ = ("_tree", "descriptor", "path")

    def __init__(self, tree: TreeWatch, path: bytes) -> None:
        self._tree = tree
        self.path = path
        self.descriptor = WatchDescriptor(-1)

    @property
    def id(self) -> CallbackId:
        return CallbackId(id(self))

    def on_event(self, event: InotifyEvent) -> None:
        if not event.name:
            return
        path = self.path + b"/" + event.name if self.path else event.name
        if event.is_directory:
            self._on_directory(path, event)
        elif event.is_create:
            self._tree.signs.file(path, Sign.FOUND)
        elif not event.is_moved_from:
            self._tree.signs.file(path, Sign.CLOSED)

    def _on_directory(self, path: bytes, event: InotifyEvent) -> None:
        if event.is_moved_from:
            self._tree.signs.left(path)
        else:
            self._tree.signs.directory(path)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002 - watchdog's signature
        if self._tree.closed:
            return
        self._tree.gone(self)
        if not self.path:
            self._tree.signs.lost()

    def on_queue_overflow(self) -> None:
        self._tree.signs.lost()


def _open_reader() -> InotifyFD:
    try:
        return InotifyFD()
    except OSError as error:
        raise WatchLimitReached("fs.inotify.max_user_instances") from error


def _within(path: bytes, directories: Collection[bytes]) -> bool:
    while path:
        if path in directories:
            return True
        path = path.rpartition(b"/")[0]
    return False
