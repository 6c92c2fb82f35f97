"""The bound on what lies between reading a file and the broker's acknowledgement.

Memory does not grow with the backlog, because a chunk is read only after it was granted room here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Budget:
    """Records and bytes that may be in flight. Shared by all producer threads.

    First come, first served: a large request can't be starved by small ones that fit sooner. The
    condition's lock guards the two counts, the queue of those who wait, and ``_closed``.
    """

    def __init__(self, records: int, size: int) -> None:
        self.max_records = records
        self.max_size = size  # bytes
        self._records = 0
        self._size = 0
        self._waiting: deque[object] = deque()  # one for each thread that waits
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, records: int, size: int, while_waiting: Callable[[], None]) -> bool:
        """Wait for room and take it; false when the budget was closed. Any thread.

        What is larger than the whole budget is let through alone, so that it can't wait for ever.
        ``while_waiting`` is called every second.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            while not self._changed.wait_for(
                lambda: self._closed or self._admits(ticket, records, size), timeout=1.0
            ):
                while_waiting()
            self._waiting.remove(ticket)
            self._changed.notify_all()  # for the next in the queue
            if self._closed:
                return False
            self._records += records
            self._size += size
            return True

    def release(self, records: int, size: int) -> None:
        """Give room back. Any thread."""
        if records:
            with self._changed:
                self._records -= records
                self._size -= size
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse all who wait or will ask: the daemon is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def used(self) -> tuple[int, int]:
        """Records and bytes in flight."""
        with self._changed:
            return self._records, self._size

    def _admits(self, ticket: object, records: int, size: int) -> bool:
        if self._waiting[0] is not ticket:
            return False
        return self._records == 0 or (
            self._records + records <= self.max_records and self._size + size <= self.max_size
        )
