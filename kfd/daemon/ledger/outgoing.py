"""What this host is sending: the rows of ``outgoing`` while they wait and are on their way.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import bulk, catalogue

SMALL, LARGE = 0, 1
"""Lanes of the feed: a file of one record is small. They are fed side by side."""


def lane_of(version: FileVersion, chunk_size: int) -> int:
    """The lane of a file."""
    return SMALL if version.size <= chunk_size else LARGE


@dataclass(slots=True, eq=False)
class Outgoing:
    """A row of ``outgoing``, as the feed and the producers need it.

    ``topic_id`` and ``partition`` of one that is still queued are those that its path had last; the
    feed's thread gives it its own, and the chunk size, before anybody else has it.
    """

    id: int
    tid: bytes
    route: str
    topic: str
    path: bytes
    source: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int
    generation: int
    meta: Mapping[str, str]
    lane: int
    topic_id: str | None
    partition: int | None
    chunk_size: int | None
    acked: int
    first_offset: int | None
    acked_at: float | None
    not_before: float  # epoch seconds; not 0: the file was changing and has to settle first
    uid: int | None
    spool: str | None = None  # the name of the copy that is read, where there is one
    format: str = "kfd"  # of the records
    digest: bytes | None = None  # of the file, where all of it has been read before
    again: bool = False  # its path was sent before; noted when it is claimed


_COLUMNS = (
    "o.id, o.tid, o.route, o.topic, o.path, o.source, o.device, o.inode, o.size, o.mtime_ns,"
    " o.mode, o.generation, o.meta, o.lane, o.topic_id, o.partition, o.chunk_size, o.acked,"
    " o.first_offset, o.acked_at, o.not_before, o.uid, o.spool, o.format, o.digest"
)
_COLUMNS_WAITING = _COLUMNS.replace("o.topic_id, o.partition", "p.topic_id, p.partition")
_LONGEST_WAIT = 60.0  # seconds; files settle for less
_META = 12  # its place among the columns
_NO_META: Mapping[str, str] = {}


def _outgoing(row: Sequence[Any]) -> Outgoing:
    values = list(row)
    values[_META] = _NO_META if row[_META] == "{}" else json.loads(row[_META])
    return Outgoing(*values)


def waiting(
    reader: Connection, route: str, topic: str, lane: int, *, newest: bool, limit: int
) -> list[Outgoing]:
    """Queued transfers of one lane that are due, the oldest or the newest first.

    One that would have to settle for long is due as well: the clock was set back meanwhile.
    """
    order = "DESC" if newest else "ASC"
    now = time.time()
    rows = reader.execute(
        f"SELECT {_COLUMNS_WAITING} FROM outgoing o"
        " JOIN outgoing_path p ON p.topic = o.topic AND p.path = o.path"
        " WHERE o.state = 'queued' AND o.route = ? AND o.topic = ? AND o.lane = ?"
        f" AND (o.not_before <= ? OR o.not_before > ?) ORDER BY o.id {order} LIMIT ?",
        (route, topic, lane, now, now + _LONGEST_WAIT, limit),
    )
    return [_outgoing(row) for row in rows.fetchall()]


def destinations(reader: Connection) -> list[tuple[str, str]]:
    """(route, topic) of every transfer that is queued or being sent."""
    return reader.execute(
        "SELECT DISTINCT route, topic FROM outgoing WHERE state = 'queued'"
        " UNION SELECT DISTINCT route, topic FROM outgoing WHERE state = 'sending'"
    ).fetchall()


def sending(reader: Connection) -> list[Outgoing]:
    """What has been begun, in this life of the daemon or before; bounded by the feed's limits."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM outgoing o INDEXED BY outgoing_sending"
        " WHERE o.state = 'sending' ORDER BY o.id"
    )
    return [_outgoing(row) for row in rows]


def by_id(connection: Connection, numbers: Sequence[int]) -> list[Outgoing]:
    """These rows, whatever their states, in the order of their acceptance."""
    rows = bulk.select(
        connection,
        f"SELECT {_COLUMNS} FROM outgoing o WHERE o.id IN {bulk.PLACE}",
        (),
        sorted(numbers),
    )
    return [_outgoing(row) for row in rows]


def by_tid(reader: Connection, tid: bytes) -> Outgoing:
    """The row of a transfer that is known to be there."""
    (number,) = reader.execute("SELECT id FROM outgoing WHERE tid = ?", (tid,)).fetchone()
    (row,) = by_id(reader, [number])
    return row


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a transfer will lie in Kafka; fixed before its first record is produced."""

    id: int
    topic: str
    path: bytes
    topic_id: str
    partition: int
    chunk_size: int
    moved: bool  # this isn't where its path lay last


def claim(writer: Connection, claims: Sequence[Claim]) -> set[int]:
    """Make queued transfers ``sending``; the ids of those that still were queued."""
    now = time.time()
    returned = bulk.execute(
        writer,
        "UPDATE outgoing SET state = 'sending', topic_id = c.column2, partition = c.column3,"
        " chunk_size = c.column4, begun_at = c.column5 FROM (VALUES {rows}) AS c"
        " WHERE id = c.column1 AND state = 'queued' RETURNING id",
        [(one.id, one.topic_id, one.partition, one.chunk_size, now) for one in claims],
    )
    claimed = {number for (number,) in returned}
    bulk.execute(
        writer,
        "UPDATE outgoing_path SET topic_id = c.column1, partition = c.column2"
        " FROM (VALUES {rows}) AS c WHERE topic = c.column3 AND path = c.column4",
        [
            (one.topic_id, one.partition, one.topic, one.path)
            for one in claims
            if one.moved and one.id in claimed
        ],
    )
    return claimed


@dataclass(frozen=True, slots=True)
class Progress:
    """The acknowledged prefix of a transfer that is being sent."""

    id: int
    acked: int
    first_offset: int | None
    acked_at: float
    digest: bytes | None = None  # of the file, once all of it was read


def note_progress(writer: Connection, progress: Sequence[Progress]) -> None:
    """Remember acknowledged prefixes, so that a restart needn't send them again."""
    writer.executemany(
        "UPDATE outgoing SET acked = ?, first_offset = ?, acked_at = ?,"
        " digest = coalesce(?, digest) WHERE id = ?",
        [(p.acked, p.first_offset, p.acked_at, p.digest, p.id) for p in progress],
    )


def prune(writer: Connection, older_than: float, limit: int) -> int:
    """Delete ended transfers from before ``older_than`` (epoch seconds); how many.

    One of which a copy is held stays: the spool gives that up first; so does one of which a
    catalogue is still to be told.
    """
    return writer.execute(
        "DELETE FROM outgoing WHERE id IN"
        " (SELECT id FROM outgoing WHERE ended_at < ? AND spool IS NULL"
        f" AND NOT {catalogue.is_owed(catalogue.Kind.SENT)} ORDER BY ended_at LIMIT ?)",
        (older_than, limit),
    ).rowcount
