"""When copies for the spool may be written: they give way to the data that is on its way.

A disk and its scheduler don't know whose bytes they write, and priorities mean nothing to most of
them. So while kfd moves data, copies are written in turns: one step at a time, of all users
together, and after each a rest in proportion to how long it took. Where none moves, nobody waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

SHARE = 0.1  # of the time, in which copies may be written while data moves
LEASE = 2.0  # seconds; a step that takes longer (a share that hangs) holds up nobody any more
_LOOK_SECONDS = 0.25  # between two looks whether data still moves, and whether somebody still waits


@dataclass(eq=False, slots=True)
class _Ticket:
    """One who waits for a turn, or has it. ``order``: the seconds that its user had had before,
    counted from ``floor``, what others had had when this one came."""

    uid: int
    floor: float
    order: float = 0.0
    begun: float = 0.0  # monotonic


class Turns:
    """Turns of all users: who has had less time comes first. Any thread.

    The condition's lock guards all attributes. Nothing is done while it is held.
    """

    def __init__(self, moving: Callable[[], bool]) -> None:
        """``moving`` tells whether data is on its way; called often, from any thread."""
        self.moving = moving
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._holder: _Ticket | None = None
        self._free_at = 0.0  # monotonic; the end of the rest
        self._now = 0.0  # the order of who was last served: newcomers begin there
        self._used: dict[int, float] = {}  # seconds that users have had, where that is more

    def take(self, uid: int, check: Callable[[], None]) -> _Ticket:
        """Wait for a turn, which :meth:`give_back` ends. ``check`` is called now and then, and may
        raise to end the waiting."""
        with self._changed:
            ticket = _Ticket(uid, self._now)
            self._waiting.append(ticket)
        try:
            while not self._taken(ticket):
                check()
        finally:
            with self._changed:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                self._changed.notify_all()
        return ticket

    def give_back(self, ticket: _Ticket) -> None:
        """The step is done."""
        now = time.monotonic()
        took = min(now - ticket.begun, LEASE)
        moving = self.moving()
        with self._changed:
            self._used[ticket.uid] = max(ticket.order, self._used.get(ticket.uid, 0.0)) + took
            self._used = {uid: used for uid, used in self._used.items() if used > self._now}
            if moving:
                self._free_at = max(self._free_at, now + took * (1 / SHARE - 1))
            if self._holder is ticket:
                self._holder = None
            self._changed.notify_all()

    def _taken(self, ticket: _Ticket) -> bool:
        """Whether the turn has come, within the time between two looks."""
        moving = self.moving()
        with self._changed:
            left = self._left(ticket)
            if moving and left > 0:
                self._changed.wait(min(left, _LOOK_SECONDS))
                return False
            self._waiting.remove(ticket)
            self._holder = ticket
            ticket.order = self._order(ticket)
            self._now = max(self._now, ticket.order)
            ticket.begun = time.monotonic()
            return True

    def _left(self, ticket: _Ticket) -> float:
        """Seconds until it may be this one's turn, unless something changes; 0 if it is now."""
        if min(self._waiting, key=self._order) is not ticket:
            return _LOOK_SECONDS
        now = time.monotonic()
        end = self._holder.begun + LEASE if self._holder is not None else 0.0
        return max(0.0, self._free_at - now, end - now)

    def _order(self, ticket: _Ticket) -> float:
        return max(ticket.floor, self._used.get(ticket.uid, 0.0))


class Writer:
    """The turns of one copy: each ends with the next, the last one at the end of ``with``."""

    def __init__(self, turns: Turns, uid: int) -> None:
        self._turns = turns
        self._uid = uid
        self._ticket: _Ticket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def next(self, check: Callable[[], None]) -> None:
        """Wait for the next turn; ``check`` as in :meth:`Turns.take`."""
        self._end()
        self._ticket = self._turns.take(self._uid, check)

    def _end(self) -> None:
        if self._ticket is not None:
            self._turns.give_back(self._ticket)
            self._ticket = None
