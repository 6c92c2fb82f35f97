"""Which routes are paused: operations on ``paused_route``.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from sqlite3 import Connection


def paused(connection: Connection) -> dict[str, float]:
    """Route → since when (epoch seconds) it is paused; ``""``: what is sent without a route."""
    return dict(connection.execute("SELECT name, since FROM paused_route").fetchall())


def pause(writer: Connection, names: Iterable[str]) -> dict[str, float]:
    """Pause routes, those that are paused already stay so; all that are paused then."""
    now = time.time()
    writer.executemany(
        "INSERT OR IGNORE INTO paused_route VALUES (?, ?)", [(name, now) for name in names]
    )
    return paused(writer)


def resume(writer: Connection, names: Iterable[str]) -> dict[str, float]:
    """Let routes go on; all that are paused then."""
    writer.executemany("DELETE FROM paused_route WHERE name = ?", [(name,) for name in names])
    return paused(writer)
