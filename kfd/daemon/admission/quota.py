"""Who may put how much into the spool: a share for each user that leaves room for the next one.

A user may hold as much as is left free: alone one half of all, of two users each a third. So
whatever others hold, who comes new finds half of what they left.
"""

from __future__ import annotations

import threading
from collections import Counter


class Quota:
    """Bytes that are held or reserved, by user. Any thread; the lock guards all attributes."""

    def __init__(self, limit: int) -> None:
        """``limit``: bytes of all users together."""
        self._limit = limit
        self._lock = threading.Lock()
        self._held: Counter[int] = Counter()

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        """May be less than what is held: nothing more is taken then until that has gone."""
        with self._lock:
            self._limit = limit

    @property
    def used(self) -> int:
        """Bytes of all users."""
        with self._lock:
            return self._held.total()

    def take(self, uid: int, size: int) -> bool:
        """Reserve ``size`` bytes for a user, if that one may have them."""
        with self._lock:
            if self._missing(uid, size) > 0:
                return False
            self._held[uid] += size
            return True

    def count(self, uid: int, size: int) -> None:
        """So many bytes are there already."""
        with self._lock:
            self._held[uid] += size

    def give_back(self, uid: int, size: int) -> None:
        """So many bytes of a user are free again."""
        with self._lock:
            self._held[uid] -= size
            if not self._held[uid]:
                del self._held[uid]

    def missing(self, uid: int, size: int) -> int:
        """How much a user has to give up before ``size`` bytes fit."""
        with self._lock:
            return max(0, self._missing(uid, size))

    def most(self, uid: int) -> int:
        """How many bytes a user may have in all as it is now."""
        with self._lock:
            return self._share(uid)

    def _missing(self, uid: int, size: int) -> int:
        return self._held[uid] + size - self._share(uid)

    def _share(self, uid: int) -> int:
        others = self._held.total() - self._held[uid]
        return max(0, (self._limit - others) // 2)
