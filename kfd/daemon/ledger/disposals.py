"""Delivered files that are to be deleted or moved: operations on ``disposal``.

A row is put in by the transaction that calls the file delivered, and goes when the file is dealt
with, durably. It is the intent that a restart finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk


@dataclass(frozen=True, slots=True)
class Disposal:
    """A delivered file that is to be deleted or moved: the version that was sent."""

    id: int
    tid: bytes
    path: bytes  # relative to the route's directory
    source: bytes  # absolute
    device: int
    inode: int  # 0: not compared
    size: int
    mtime_ns: int


def waiting(reader: Connection, route: str, after: int, limit: int) -> list[Disposal]:
    """Files of a route that are to be disposed of, from the one after ``after`` on."""
    rows = reader.execute(
        "SELECT id, tid, path, source, device, inode, size, mtime_ns FROM disposal"
        " WHERE route = ? AND id > ? ORDER BY id LIMIT ?",
        (route, after, limit),
    )
    return [Disposal(*row) for row in rows]


def over(writer: Connection, done: Sequence[int]) -> None:
    """These files are deleted, moved, or not the ones that were sent."""
    writer.executemany("DELETE FROM disposal WHERE id = ?", [(number,) for number in done])


def routes(reader: Connection) -> set[str]:
    """The routes with files that are to be disposed of."""
    return {route for (route,) in reader.execute("SELECT DISTINCT route FROM disposal")}


def still_asked_for(reader: Connection, sources: Sequence[bytes]) -> set[bytes]:
    """Those of these files that somebody has asked to send, and that are not in Kafka yet."""
    rows = bulk.select(
        reader,
        "SELECT source FROM outgoing INDEXED BY outgoing_asked WHERE uid IS NOT NULL"
        f" AND state IN ('queued', 'sending') AND source IN {bulk.PLACE}",
        (),
        sources,
    )
    return {source for (source,) in rows}


def add(writer: Connection, transfers: Sequence[int]) -> None:
    """The files of these transfers (ids) are delivered, and to be disposed of."""
    writer.executemany(
        "INSERT INTO disposal SELECT id, tid, route, path, source, device, inode, size, mtime_ns"
        " FROM outgoing WHERE id = ?",
        [(number,) for number in transfers],
    )
