"""Following what changes: the looks of a stream, and which of them are worth a reply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from kfd.control import Transfer
from kfd.daemon.methods.calls import Caller

REPORT_INTERVAL = 0.5  # seconds between replies of a stream while only bytes move
_LEAST_INTERVAL = 0.05  # seconds between two looks at the ledger for one stream


class Changes:
    """Tells the streams when to look at the ledger again."""

    def __init__(self, wait_for_change: Callable[[int, float], int], stopping: threading.Event):
        """``wait_for_change``: as in :class:`kfd.daemon.operations.TransferOperations`."""
        self._wait_for_change = wait_for_change
        self._stopping = stopping

    def follow(
        self, caller: Caller | None = None, least: float = _LEAST_INTERVAL
    ) -> Iterator[None]:
        """Now, and then after each change but at least every :data:`REPORT_INTERVAL`, and at most
        every ``least`` seconds.

        Ends when the caller is gone, and when the daemon stops.
        """
        seen = self._wait_for_change(0, 0.0)
        while not (self._stopping.is_set() or (caller is not None and caller.gone())):
            yield
            if caller is not None:
                caller.rest()
            self._stopping.wait(least)
            seen = self._wait_for_change(seen, REPORT_INTERVAL)


class Pace:
    """Lets a reply through where a state is new, or where bytes moved since one a while ago."""

    def __init__(self) -> None:
        self._last: Sequence[Transfer] = ()
        self._at = 0.0

    def due(self, transfers: Sequence[Transfer]) -> bool:
        states = [one.state for one in transfers] != [one.state for one in self._last]
        now = time.monotonic()
        if not states and (transfers == self._last or now - self._at < REPORT_INTERVAL):
            return False
        self._last, self._at = transfers, now
        return True
