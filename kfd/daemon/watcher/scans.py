"""Which scans of a route are due or in progress, and a step of them at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator

Scan = Generator[None, None, None]


class Scans:
    """The full scan, and those of single new directories, which go before it.

    ``scan`` starts one, of the directory b"" for a full one; ``interval`` gives the seconds until
    the next full one. Used by the watcher's thread only; times are monotonic seconds.
    """

    def __init__(self, scan: Callable[[bytes], Scan], interval: Callable[[], float]) -> None:
        self._scan = scan
        self._interval = interval
        self._full: Scan | None = None
        self._full_due = math.inf
        self._part: Scan | None = None
        self._new: dict[bytes, None] = {}  # in order

    def ask_for_all(self) -> None:
        """Begin a full scan as soon as none is in progress, which may have passed the news by."""
        self._full_due = time.monotonic()

    def ask_for(self, directory: bytes) -> None:
        """Scan a new directory."""
        self._new[directory] = None

    def abandon(self) -> None:
        """Give up what is in progress or asked for."""
        for scan in (self._full, self._part):
            if scan is not None:
                scan.close()
        self._full = self._part = None
        self._full_due = math.inf
        self._new.clear()

    def due(self) -> float:
        """When :meth:`advance` has something to do."""
        busy = self._full is not None or self._part is not None or bool(self._new)
        return 0.0 if busy else self._full_due

    def advance(self) -> None:
        """Look at some more files."""
        if self._part is None and self._new:
            directory = next(iter(self._new))
            del self._new[directory]
            self._part = self._scan(directory)
        if self._part is not None:
            self._part = _step(self._part)
        else:
            self._advance_full()

    def _advance_full(self) -> None:
        if self._full is None:
            if time.monotonic() < self._full_due:
                return
            self._full = self._scan(b"")
            self._full_due = math.inf
        self._full = _step(self._full)
        if self._full is None:
            self._full_due = min(self._full_due, time.monotonic() + self._interval())


def _step(scan: Scan) -> Scan | None:
    """The scan, a step further on; None if that was its last."""
    ended = object()
    return None if next(scan, ended) is ended else scan
