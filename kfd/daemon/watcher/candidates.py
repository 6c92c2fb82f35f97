"""Files that may still be written: they have to stand still for a while before they are sent."""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from kfd.daemon.fileversion import FileVersion


class _Candidate(NamedTuple):
    version: FileVersion
    due: float


class Candidates:
    """At most ``limit`` files, in the order in which they are to be looked at again.

    Used by the watcher's thread only; all times are monotonic seconds.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: OrderedDict[bytes, _Candidate] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more files may wait."""
        return self._limit - len(self._waiting)

    def add(self, version: FileVersion, due: float) -> bool:
        """Wait for this file; false if there is no room. One that waits already goes on waiting."""
        if self._knows(version):
            return True
        if version.path not in self._waiting and self.room <= 0:
            return False
        self._put(version, due)
        return True

    def discard(self, path: bytes) -> None:
        self._waiting.pop(path, None)

    def clear(self) -> None:
        self._waiting.clear()

    def next_due(self) -> float:
        """When the first is to be looked at; infinity if there is none."""
        return next((candidate.due for candidate in self._waiting.values()), math.inf)

    def due(self, now: float, limit: int) -> list[bytes]:
        """The paths to be looked at by now, at most ``limit``. Each is to be passed to
        :meth:`stands` or :meth:`discard` next."""
        first = islice(self._waiting.items(), limit)
        return [path for path, candidate in first if candidate.due <= now]

    def stands(self, version: FileVersion, again: float) -> bool:
        """Whether the file is as it was, and so no candidate any more; if not, it is to be looked
        at ``again``."""
        if self._knows(version):
            del self._waiting[version.path]
            return True
        self._put(version, again)
        return False

    def _knows(self, version: FileVersion) -> bool:
        known = self._waiting.get(version.path)
        return known is not None and known.version.same_content(version)

    def _put(self, version: FileVersion, due: float) -> None:
        self._waiting[version.path] = _Candidate(version, due)
        self._waiting.move_to_end(version.path)
