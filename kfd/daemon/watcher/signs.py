"""What the kernel and other threads tell the watcher: a bounded inbox that never blocks them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import Final

_LIMIT: Final = 50_000  # paths; at some 200 bytes each


class Sign(Enum):
    """What was last heard of a file."""

    CLOSED = auto()  # closed after writing, or renamed to here: it has settled
    FOUND = auto()  # created, hard-linked to here, or found: perhaps it is being written
    CHANGED = auto()  # it changed while it was read


@dataclass(frozen=True, slots=True)
class Heard:
    """Signs taken out of the inbox."""

    files: dict[bytes, Sign]
    directories: list[bytes]  # new or renamed to here, with whatever they hold
    left: frozenset[bytes]  # directories that were renamed away, from before ``directories``
    rescan: bool  # somebody asks for a scan
    lost: bool  # signs were lost, and with them perhaps directories to be watched


@dataclass(slots=True)
class Signs:
    """The inbox. The condition's lock guards all else; the watcher waits on it.

    Of a file only the last sign counts: one that was closed, deleted and created again is open.
    """

    _files: dict[bytes, Sign] = field(default_factory=dict)
    _directories: dict[bytes, None] = field(default_factory=dict)
    _left: set[bytes] = field(default_factory=set)
    _rescan: bool = False
    _lost: bool = False
    _awake: bool = False
    _news: threading.Condition = field(default_factory=threading.Condition)

    def file(self, path: bytes, sign: Sign) -> None:
        with self._news:
            self._files[path] = sign
            self._added()

    def directory(self, path: bytes) -> None:
        with self._news:
            self._directories[path] = None
            self._added()

    def left(self, path: bytes) -> None:
        with self._news:
            self._left.add(path)
            self._added()

    def rescan(self) -> None:
        with self._news:
            self._rescan = True
            self._news.notify()

    def lost(self) -> None:
        with self._news:
            self._lost = True
            self._news.notify()

    def wake(self) -> None:
        """End the watcher's wait, or its next one."""
        with self._news:
            self._awake = True
            self._news.notify()

    def wait(self, timeout: float) -> None:
        """Wait for signs, at most ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(self._anything, timeout)
            self._awake = False

    def take(self, files: int) -> Heard:
        """Take out all signs, but those of at most so many files, oldest first."""
        with self._news:
            some = dict(islice(self._files.items(), files))
            for path in some:
                del self._files[path]
            heard = Heard(
                some, list(self._directories), frozenset(self._left), self._rescan, self._lost
            )
            self._directories.clear()
            self._left.clear()
            self._rescan = self._lost = False
            return heard

    def _anything(self) -> bool:
        return bool(
            self._files
            or self._directories
            or self._left
            or self._rescan
            or self._lost
            or self._awake
        )

    def _added(self) -> None:
        if len(self._files) + len(self._directories) + len(self._left) > _LIMIT:
            self._files.clear()
            self._directories.clear()
            self._left.clear()
            self._lost = True
        self._news.notify()
