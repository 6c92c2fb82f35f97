"""What anybody could see in a directory: each arrival under a final name, told by the kernel.

Unlike a look now and then, inotify misses nothing: neither a name that was there for a moment, nor
a byte that was written under a name that was there already.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.integration.oracle import digest

_MODIFY, _MOVED_TO, _CREATE = 0x2, 0x80, 0x100
_OVERFLOW, _IS_DIRECTORY = 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")
_LIBC = ctypes.CDLL(None, use_errno=True)
_MARK = "user.kfd.transfer"
_TID = slice(25, 41)  # where docs/wire-format.md's mark has it


@dataclass(frozen=True)
class Arrival:
    """A file as it was when its name appeared."""

    path: bytes
    digest: str
    tid: bytes | None  # None: no mark


class Arrivals:
    """Every file that came under a final name below ``directory``, from entering until leaving.

    The thread that reads the kernel's events owns all fields until it is left; ``seen`` and
    ``wrong`` only grow.
    """

    def __init__(self, directory: Path) -> None:
        self.seen: list[Arrival] = []
        self.wrong: list[str] = []  # what must never be
        self._top = os.fsencode(directory)
        self._inotify = _LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._inotify >= 0, os.strerror(ctypes.get_errno())
        self._watched: dict[int, bytes] = {}
        self._own = tempfile.TemporaryDirectory(
            prefix="kfd-test-"
        )  # whose events tell how far it is
        self._own_watch = _LIBC.inotify_add_watch(
            self._inotify, os.fsencode(self._own.name), _CREATE
        )
        self._caught_up = threading.Event()
        self._files: set[tuple[Arrival, int]] = set()
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._run, name="arrivals")

    def times(self) -> Counter[bytes]:
        """How often each transfer arrived, by tid."""
        return Counter(one.tid for one in list(self.seen) if one.tid)

    def catch_up(self) -> None:
        """Wait until all that has happened so far has been looked at."""
        if self._thread.is_alive():
            self._caught_up.clear()
            os.close(tempfile.mkstemp(dir=self._own.name)[0])
            assert self._caught_up.wait(60), "what watches has not come so far"

    def __enter__(self) -> Self:
        self._watch(b"", arrived=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopping)
        self._thread.join()
        os.close(self._stop)
        os.close(self._inotify)
        self._own.cleanup()

    def _run(self) -> None:
        ready: list[int] = []
        while self._stop not in ready:
            ready, _, _ = select.select([self._inotify, self._stop], [], [])
            for watch, mask, name in self._events():
                self._happened(watch, mask, name)

    def _events(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                events = os.read(self._inotify, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, at)
                at += _EVENT.size + length
                yield watch, mask, events[at - length : at].rstrip(b"\0")

    def _happened(self, watch: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            self.wrong.append("the kernel's queue of events overflowed: too much for this test")
        elif watch == self._own_watch:
            self._caught_up.set()
        elif watch in self._watched:
            self._named(os.path.join(self._watched[watch], name), mask)

    def _named(self, path: bytes, mask: int) -> None:
        if path == b".kfd":
            return
        if mask & _IS_DIRECTORY:
            if mask & (_CREATE | _MOVED_TO):
                self._watch(path, arrived=True)
        elif mask & _MODIFY:
            self.wrong.append(f"written under its final name: {path!r}")
        else:
            self._file(path)

    def _watch(self, directory: bytes, *, arrived: bool) -> None:
        """From now on; what is there already has arrived unless it was there on entering."""
        full = os.path.join(self._top, directory)
        mask = _MODIFY | _MOVED_TO | _CREATE
        number = _LIBC.inotify_add_watch(self._inotify, full, mask)
        if number < 0:  # gone again
            return
        self._watched[number] = directory
        for entry in os.scandir(full):
            path = os.path.join(directory, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if path != b".kfd":
                    self._watch(path, arrived=arrived)
            elif arrived:
                self._file(path)

    def _file(self, path: bytes) -> None:
        """Look at a file that came. What several events or a scan tell of is one arrival: a file
        that is published again is another inode, or of another transfer."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(os.path.join(self._top, path), flags)
        except OSError:  # replaced or removed at once, or no file at all
            return
        with open(descriptor, "rb") as file:
            one = Arrival(path, digest(file.read()), _tid(descriptor))
            key = (one, os.fstat(descriptor).st_ino)
        if key not in self._files:
            self._files.add(key)
            self.seen.append(one)


def _tid(descriptor: int) -> bytes | None:
    try:
        return os.getxattr(descriptor, _MARK)[_TID]
    except OSError:
        return None
