"""Which copies in the spool are held, and for whom: operations on ``outgoing.spool``.

A copy is held from the transaction that queues its transfer to the one that gives it up. The file
itself is made before the first and removed after the second, so that a kill leaves at most files
that nobody holds; the next start removes these.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk

BLOCK = 4096  # bytes; what a copy takes at least, and in multiples of which it is counted

_COUNTED = f"max(1, (size + {BLOCK - 1}) / {BLOCK}) * {BLOCK}"
_KEPT = ("in_kafka", "failed")  # in the order in which they are given up
_OVER = (
    " FROM outgoing INDEXED BY outgoing_spool"
    " WHERE spool IS NOT NULL AND state IN ('delivered', 'cancelled')"
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was given up: its name, for whom it was made, and what it counted for."""

    name: str
    uid: int
    size: int


def counted(size: int) -> int:
    """What a copy of so many bytes counts for."""
    return max(1, -(-size // BLOCK)) * BLOCK


def held(reader: Connection) -> list[Copy]:
    """All copies that are held."""
    rows = reader.execute(
        f"SELECT spool, uid, {_COUNTED} FROM outgoing INDEXED BY outgoing_spool"
        " WHERE spool IS NOT NULL"
    )
    return [Copy(*row) for row in rows]


def move(writer: Connection, directory: bytes) -> None:
    """The copies lie in ``directory`` now, wherever they were when they were made."""
    rows = writer.execute(
        "SELECT id, spool FROM outgoing INDEXED BY outgoing_spool"
        " WHERE spool IS NOT NULL AND substr(source, 1, ?) <> ?",
        (len(directory) + 1, directory + b"/"),
    ).fetchall()
    writer.executemany(
        "UPDATE outgoing SET source = ? WHERE id = ?",
        [(os.path.join(directory, os.fsencode(name)), number) for number, name in rows],
    )


def any_over(reader: Connection) -> bool:
    """Whether there are copies that :func:`release` gives up."""
    return reader.execute(f"SELECT 1{_OVER} LIMIT 1").fetchone() is not None


def release(writer: Connection, limit: int) -> list[Copy]:
    """Give up copies of what was delivered or cancelled."""
    return _give_up(writer, _numbers(writer.execute(f"SELECT id{_OVER} LIMIT ?", (limit,))))


def expire(writer: Connection, before: float, limit: int) -> list[Copy]:
    """Give up copies of what came into Kafka or failed before ``before`` (epoch seconds)."""
    rows = writer.execute(
        "SELECT id FROM outgoing INDEXED BY outgoing_spool WHERE spool IS NOT NULL"
        " AND state IN (?, ?) AND ended_at < ? LIMIT ?",
        (*_KEPT, before, limit),
    )
    return _give_up(writer, _numbers(rows))


def spare(reader: Connection, uid: int) -> int:
    """What the copies count for that :func:`make_room` could give up for ``uid``."""
    (size,) = reader.execute(
        f"SELECT coalesce(sum({_COUNTED}), 0) FROM outgoing INDEXED BY outgoing_spool"
        " WHERE spool IS NOT NULL AND state IN (?, ?) AND uid = ?",
        (*_KEPT, uid),
    ).fetchone()
    return int(size)


def make_room(writer: Connection, uid: int, size: int) -> list[Copy]:
    """Give up the oldest copies of ``uid`` that count for ``size`` bytes together: of files that
    are in Kafka, then of those that failed. Fewer where there are no more."""
    chosen: list[int] = []
    for state in _KEPT:
        rows = writer.execute(
            f"SELECT id, {_COUNTED} FROM outgoing INDEXED BY outgoing_spool"
            " WHERE spool IS NOT NULL AND state = ? AND uid = ? ORDER BY id",
            (state, uid),
        )
        for number, counts in rows:
            if size <= 0:
                break
            chosen.append(number)
            size -= counts
        rows.close()
    return _give_up(writer, chosen)


def _numbers(rows: Iterable[tuple[int]]) -> list[int]:
    return [number for (number,) in rows]


def _give_up(writer: Connection, numbers: Sequence[int]) -> list[Copy]:
    """What has no copy has no source any more: if it has to be sent again, it fails."""
    rows = bulk.select(
        writer,
        f"SELECT spool, uid, {_COUNTED} FROM outgoing WHERE id IN {bulk.PLACE}",
        (),
        numbers,
    )
    bulk.select(
        writer,
        f"UPDATE outgoing SET spool = NULL, source = x'' WHERE id IN {bulk.PLACE}",
        (),
        numbers,
    )
    return [Copy(*row) for row in rows]
