"""Room for long answers: what those who don't read them cost is bounded for all together."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kfd.daemon.methods.calls import Caller
from kfd.errors import KfdError

SHORT: Final = 64  # rows; an answer of so few needs no room
AT_ONCE: Final = 2  # long answers that are made or sent
AT_ONCE_OF_A_USER: Final = 1
_PATIENCE = 10.0  # seconds; as long as one may be kept by who doesn't read it


class LongAnswers:
    """Who makes one now. Any thread; the condition guards ``_users``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users: Counter[int] = Counter()

    @contextmanager
    def room(self, rows: int, caller: Caller, *, begun: bool = False) -> Iterator[bool]:
        """For an answer of so many rows, until it is sent. The daemon's owners always have it.

        Where others take it all: False in a stream that has ``begun``, which tells it with a later
        look; else raises :class:`KfdError`.
        """
        if rows <= SHORT or caller.owner:
            yield True
            return
        found = self._enter(caller.uid)
        if not found and not begun:
            raise KfdError(
                "other long answers are on their way",
                fix=f"try again, or ask for {SHORT} at most",
            )
        try:
            yield found
        finally:
            if found:
                self._leave(caller.uid)

    def _enter(self, uid: int) -> bool:
        """Whether there was room before it took too long."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._is_free(uid), _PATIENCE)
            if found:
                self._users[uid] += 1
            return found

    def _is_free(self, uid: int) -> bool:
        return self._users.total() < AT_ONCE and self._users[uid] < AT_ONCE_OF_A_USER

    def _leave(self, uid: int) -> None:
        with self._changed:
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid]
            self._changed.notify_all()
