"""Whether a route reads a topic for the first time: only then may ``start: latest`` skip anything.

Later a missing commit means a new partition, or one that the group has forgotten.
"""

from __future__ import annotations

import threading

from kfd.daemon.ledger import Ledger, beginnings


class Beginnings:
    """Shared by the threads of a route. The lock guards ``_first`` and the look behind it."""

    def __init__(self, route: str, ledger: Ledger) -> None:
        self._route = route
        self._ledger = ledger
        self._first: dict[str, bool] = {}  # by topic id; as it was when this life asked first
        self._lock = threading.Lock()

    def first_time(self, topic_id: str) -> bool:
        """Whether this life of the daemon is the first in which the route reads this topic."""
        with self._lock:
            if topic_id not in self._first:
                before = beginnings.has_read(self._ledger.reader(), self._route, topic_id)
                self._first[topic_id] = not before
                self._ledger.write_patiently(
                    lambda db: beginnings.begin_to_read(db, self._route, topic_id)
                )
            return self._first[topic_id]

    def next_offset(self, topic_id: str, partition: int) -> int:
        """The lowest offset that this host may not have read, by what ended here before."""
        last = beginnings.last_offset(self._ledger.reader(), self._route, topic_id, partition)
        return 0 if last is None else last + 1
