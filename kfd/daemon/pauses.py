"""Which routes are paused: asked by all who move bytes, kept in the ledger across restarts."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from kfd.daemon.ledger import Ledger, pausing


class Pauses:
    """The routes by name, of both directions; ``""`` stands for what is sent without a route.

    Asking takes no lock. The lock is for those who change it: what is in memory follows the ledger
    in order.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._since: Mapping[str, float] = pausing.paused(ledger.reader())

    def __contains__(self, route: object) -> bool:
        return route in self._since

    def since(self, route: str) -> float | None:
        """When (epoch seconds) it was paused; None if it isn't."""
        return self._since.get(route)

    def names(self) -> list[str]:
        """All that are paused."""
        return list(self._since)

    def pause(self, routes: Collection[str]) -> None:
        """Pause routes. Durable when this returns. Raises :class:`LedgerError`."""
        with self._lock:
            self._since = self._ledger.write(lambda db: pausing.pause(db, routes))

    def resume(self, routes: Collection[str]) -> None:
        """Let routes go on. Durable when this returns. Raises :class:`LedgerError`."""
        with self._lock:
            self._since = self._ledger.write(lambda db: pausing.resume(db, routes))
