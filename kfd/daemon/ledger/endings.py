"""How transfers end on the sending side, and what is queued in their place.

All run in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import bulk, catalogue, known, tally
from kfd.daemon.ledger.accepting import Offer, queue_successor
from kfd.daemon.ledger.outgoing import Outgoing, lane_of
from kfd.daemon.ledger.tally import Ended


@dataclass(frozen=True, slots=True)
class Ending:
    """How a transfer ended on the sending side."""

    row: Outgoing
    state: str  # in_kafka, failed or cancelled
    acked: int
    first_offset: int | None = None
    reason: str = ""
    fix: str = ""
    look_again: bool = False  # the file itself changed or went: a watcher is to look at it
    forget: bool = False  # this version isn't known as sent any longer
    successor: FileVersion | None = None  # to be queued in its place, once it has settled
    not_before: float = 0.0  # epoch seconds, for the successor
    digest: bytes | None = None  # of the file, once it is in Kafka


def end(writer: Connection, endings: Sequence[Ending]) -> None:
    """Give transfers their last state, and queue their successors in the same transaction.

    Only one that is queued or sending can end. Killed before this is durable: nothing has ended.
    """
    now = time.time()
    ids = _end(writer, endings, now)
    ended = [one for one in endings if one.row.id in ids]
    tally.count(writer, "upload", [_ended(one.row, one.state) for one in ended], now)
    catalogue.sent(writer, "in-kafka", [one.row.id for one in ended if one.state == "in_kafka"])
    for one in ended:
        row = one.row
        if one.forget:
            writer.execute(
                "DELETE FROM known_file WHERE route = ? AND topic = ? AND path = ? AND tid = ?",
                (row.route, row.topic, row.path, row.tid),
            )
        if one.successor is not None:
            tid = _succeed(writer, row, one.successor, now, not_before=one.not_before)
            known.know(writer, row.route, row.topic, [(one.successor, tid)])


def _end(writer: Connection, endings: Sequence[Ending], now: float) -> set[int]:
    """The ids of those that had not ended before."""
    rows = [
        (
            *(one.row.id, one.state, one.acked, one.first_offset, now, one.reason, one.fix),
            one.digest,
        )
        for one in endings
    ]
    returned = bulk.execute(
        writer,
        "UPDATE outgoing SET state = e.column2, acked = e.column3,"
        " first_offset = coalesce(e.column4, first_offset), acked_at = e.column5,"
        " ended_at = e.column5, reason = e.column6, fix = e.column7,"
        " digest = coalesce(e.column8, digest)"
        " FROM (VALUES {rows}) AS e"
        " WHERE id = e.column1 AND state IN ('queued', 'sending') RETURNING id",
        rows,
    )
    return {number for (number,) in returned}


def _ended(row: Outgoing, state: str) -> Ended:
    return Ended(row.route, row.topic, state, row.size, row.path)


def _succeed(
    writer: Connection,
    row: Outgoing,
    version: FileVersion,
    now: float,
    *,
    generation: int | None = None,
    not_before: float = 0.0,
) -> bytes:
    """Queue ``version`` in the place of a transfer that has ended."""
    offer = Offer(
        *(row.route, row.topic, (), row.chunk_size or 0, row.meta, row.uid), format=row.format
    )
    tid = queue_successor(writer, offer, version, now, generation=generation, not_before=not_before)
    # a copy in the spool is the successor's from now on
    writer.execute("UPDATE outgoing SET successor = ?, spool = NULL WHERE id = ?", (tid, row.id))
    return tid


def start_over(
    writer: Connection, row: Outgoing, reason: str, *, state: str = "sending"
) -> bytes | None:
    """End a transfer that is in ``state``, and queue the same bytes under a new tid.

    The generation stays: it is no newer version, and must not overtake one. None if the transfer
    has ended meanwhile. Killed before this is durable: it is judged again at the next start.
    """
    now = time.time()
    ended = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, reason = ?"
        " WHERE id = ? AND state = ? RETURNING source, spool",
        (now, reason, row.id, state),
    ).fetchone()
    if ended is None:
        return None
    source, spool = ended  # as they are now: a copy may have been given up meanwhile
    tally.count(writer, "upload", [_ended(row, "cancelled")], now)
    version = FileVersion(
        *(row.path, source, row.device, row.inode, row.size, row.mtime_ns, row.mode, 0),
        copy=source if spool is not None else b"",
    )
    tid = _succeed(writer, row, version, now, generation=row.generation)
    writer.execute(
        "UPDATE known_file SET tid = ? WHERE route = ? AND topic = ? AND path = ? AND tid = ?",
        (tid, row.route, row.topic, row.path, row.tid),
    )
    return tid


def postpone(
    writer: Connection, row: Outgoing, version: FileVersion, chunk_size: int, not_before: float
) -> None:
    """A queued file changed again before it had settled: wait for its newest version."""
    writer.execute(
        "UPDATE outgoing SET device = ?, inode = ?, size = ?, mtime_ns = ?, mode = ?, lane = ?,"
        " not_before = ? WHERE id = ? AND state = 'queued'",
        (
            *(version.device, version.inode, version.size, version.mtime_ns, version.mode),
            *(lane_of(version, chunk_size), not_before, row.id),
        ),
    )
    known.know(writer, row.route, row.topic, [(version, row.tid)])
