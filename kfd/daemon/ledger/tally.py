"""Counts of the transfers that ended, kept beside them in the same transaction.

Counted in groups, by the operations themselves: triggers took nearly half of the ledger's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import NamedTuple


class Ended(NamedTuple):
    """One transfer that came to its last state."""

    route: str
    topic: str
    state: str
    size: int  # bytes
    name: bytes  # what is shown as the last one: its path, or the name that it was published under


def count(writer: Connection, direction: str, ended: Iterable[Ended], now: float) -> None:
    """Add to the counts. ``direction`` is upload or download, ``now`` is in epoch seconds."""
    writer.executemany(
        "INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " count = count + excluded.count, size = size + excluded.size,"
        " last = excluded.last, last_at = excluded.last_at",
        [
            (direction, *key, len(group), sum(one.size for one in group), group[-1].name, now)
            for key, group in _groups(ended).items()
        ],
    )


def uncount(writer: Connection, direction: str, left: Iterable[Ended]) -> None:
    """Take out of the counts what has left a state again for one that is further on."""
    writer.executemany(
        "UPDATE tally SET count = max(0, count - ?), size = max(0, size - ?)"
        " WHERE direction = ? AND route = ? AND topic = ? AND state = ?",
        [
            (len(group), sum(one.size for one in group), direction, *key)
            for key, group in _groups(left).items()
        ],
    )


def _groups(ended: Iterable[Ended]) -> dict[tuple[str, str, str], list[Ended]]:
    groups: dict[tuple[str, str, str], list[Ended]] = {}
    for one in ended:
        groups.setdefault(one[:3], []).append(one)
    return groups
