"""What this host sends: operations on ``outgoing``, ``known_file`` and ``outgoing_path``.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import tally
from kfd.daemon.ledger.tally import Ended
from kfd.wire import new_tid, next_generation

SMALL, LARGE = 0, 1
"""Lanes of the feed: a file of one record is small. They are fed side by side."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Files that are to be sent over one route, or to one topic (``route == ""``)."""

    route: str
    topic: str
    versions: Sequence[FileVersion]
    chunk_size: int  # bytes; tells small from large
    meta: Mapping[str, str]
    uid: int | None = None
    again: bool = False  # send even what was sent already
    skip_older_ns: int = 0  # only remember files whose ctime is older than this


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer for one file: its transfer, or the earlier one of the same version."""

    tid: bytes | None  # None: skipped, it was there before the route
    already: bool


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of ``outgoing``, as the feed and the producers need it."""

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
    meta: dict[str, str]
    lane: int
    topic_id: str | None
    partition: int | None
    chunk_size: int | None
    acked: int
    first_offset: int | None
    acked_at: float | None
    not_before: float  # epoch seconds; not 0: the file was changing and has to settle first
    uid: int | None


_COLUMNS = (
    "id, tid, route, topic, path, source, device, inode, size, mtime_ns, mode, generation, meta,"
    " lane, topic_id, partition, chunk_size, acked, first_offset, acked_at,"
    " not_before, uid"
)
_META = 12  # the place of `meta` in _COLUMNS


def _outgoing(row: Sequence[Any]) -> Outgoing:
    values = list(row)
    values[_META] = json.loads(values[_META])
    return Outgoing(*values)


def accept(writer: Connection, offer: Offer) -> list[Accepted]:
    """Queue the versions that are new; an older version that still waits gives way to its newer."""
    meta = json.dumps(dict(offer.meta))
    now = time.time()
    return [_accept_one(writer, offer, version, meta, now) for version in offer.versions]


def _accept_one(
    writer: Connection, offer: Offer, version: FileVersion, meta: str, now: float
) -> Accepted:
    known = _known(writer, offer.route, offer.topic, version.path)
    if known is not None and known.is_of(version) and not offer.again:
        return Accepted(known.tid, already=True)
    tid: bytes | None = None
    if version.ctime_ns >= offer.skip_older_ns:
        tid = _queue(writer, offer, version, meta, now)
        if known is not None and known.tid is not None:
            _give_way(writer, offer, known, version, tid, now)
    _know(writer, offer.route, offer.topic, version, tid)
    return Accepted(tid, already=tid is None)


def _know(
    writer: Connection, route: str, topic: str, version: FileVersion, tid: bytes | None
) -> None:
    writer.execute(
        "INSERT OR REPLACE INTO known_file VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(route, topic, version.path, version.inode, version.size, version.mtime_ns),
            *(version.source, tid),
        ),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """The version of a file that was queued, sent or skipped last."""

    inode: int
    size: int
    mtime_ns: int
    tid: bytes | None

    def is_of(self, version: FileVersion) -> bool:
        """Whether that was this version.

        The device isn't compared: its number may change with a reboot or a remount, and then
        everything would be sent again. Nor the inode, where it meant nothing then or now.
        """
        return (self.size, self.mtime_ns) == (version.size, version.mtime_ns) and (
            self.inode == version.inode or 0 in (self.inode, version.inode)
        )


def _known(connection: Connection, route: str, topic: str, path: bytes) -> Known | None:
    row = connection.execute(
        "SELECT inode, size, mtime_ns, tid FROM known_file"
        " WHERE route = ? AND topic = ? AND path = ?",
        (route, topic, path),
    ).fetchone()
    return Known(*row) if row else None


def _queue(
    writer: Connection,
    offer: Offer,
    version: FileVersion,
    meta: str,
    now: float,
    *,
    generation: int | None = None,
    not_before: float = 0.0,
) -> bytes:
    """Insert a queued transfer; its generation is the next one of its path unless given."""
    tid = new_tid(int(now * 1000), os.urandom(10))
    if generation is None:
        generation = _next_generation(writer, offer.topic, version.path, now)
    writer.execute(
        "INSERT INTO outgoing (tid, route, topic, path, source, device, inode, size, mtime_ns,"
        " mode, generation, meta, uid, lane, state, queued_at, not_before)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
        (
            *(tid, offer.route, offer.topic, version.path, version.source),
            *(version.device, version.inode, version.size, version.mtime_ns, version.mode),
            *(generation, meta, offer.uid, _lane(version, offer.chunk_size), now, not_before),
        ),
    )
    return tid


def _lane(version: FileVersion, chunk_size: int) -> int:
    return SMALL if version.size <= chunk_size else LARGE


def _next_generation(writer: Connection, topic: str, path: bytes, now: float) -> int:
    """Take the next generation of a path; it is not given again."""
    last = writer.execute(
        "SELECT generation FROM outgoing_path WHERE topic = ? AND path = ?", (topic, path)
    ).fetchone()
    generation = next_generation(last[0] if last else None, int(now * 1_000_000))
    writer.execute(
        "INSERT INTO outgoing_path (topic, path, generation) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET generation = excluded.generation",
        (topic, path, generation),
    )
    return generation


def _give_way(
    writer: Connection, offer: Offer, known: Known, version: FileVersion, tid: bytes, now: float
) -> None:
    """A version that waits, of this very file on disk, can't be read any more: it was replaced."""
    replaced = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, successor = ?,"
        " reason = 'a newer version of the file took its place'"
        " WHERE tid = ? AND source = ? AND state = 'queued'",
        (now, tid, known.tid, version.source),
    ).rowcount
    if replaced:
        ended = Ended(offer.route, offer.topic, "cancelled", known.size, version.path)
        tally.count(writer, "upload", [ended], now)


def unknown(
    reader: Connection, route: str, topic: str, versions: Sequence[FileVersion]
) -> list[FileVersion]:
    """Those of ``versions`` that were neither queued, sent nor skipped as they are."""
    return [
        version
        for version in versions
        if (known := _known(reader, route, topic, version.path)) is None or not known.is_of(version)
    ]


def earlier(reader: Connection, route: str, topic: str, version: FileVersion) -> bytes | None:
    """The tid under which this very version was queued or sent, if it was."""
    known = _known(reader, route, topic, version.path)
    return known.tid if known is not None and known.is_of(version) else None


def known_destinations(reader: Connection) -> list[tuple[str, str]]:
    """(route, topic) of all known files."""
    return reader.execute("SELECT DISTINCT route, topic FROM known_file").fetchall()


def known_after(
    reader: Connection, route: str, topic: str, after: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """Path and source of known files, in order of their paths, from the one after ``after`` on."""
    return reader.execute(
        "SELECT path, source FROM known_file WHERE route = ? AND topic = ? AND path > ?"
        " ORDER BY path LIMIT ?",
        (route, topic, after, limit),
    ).fetchall()


def forget(writer: Connection, route: str, topic: str, paths: Iterable[bytes]) -> None:
    """Forget known files that are no longer there."""
    writer.executemany(
        "DELETE FROM known_file WHERE route = ? AND topic = ? AND path = ?",
        [(route, topic, path) for path in paths],
    )


def born_ns(writer: Connection, route: str) -> int:
    """When this route was first started (ns since the epoch); noted if this is that moment."""
    writer.execute("INSERT OR IGNORE INTO route VALUES (?, ?)", (route, time.time_ns()))
    (born,) = writer.execute("SELECT born_ns FROM route WHERE name = ?", (route,)).fetchone()
    return int(born)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued transfer, and the partition that its path had last (on topic ``topic_id``)."""

    outgoing: Outgoing
    topic_id: str | None
    partition: int | None


def waiting(
    reader: Connection, route: str, topic: str, lane: int, *, newest: bool, limit: int
) -> list[Waiting]:
    """Queued transfers of one lane that are due, the oldest or the newest first."""
    columns = ", ".join(f"o.{name.strip()}" for name in _COLUMNS.split(","))
    order = "DESC" if newest else "ASC"
    rows = reader.execute(
        f"SELECT {columns}, p.topic_id, p.partition FROM outgoing o"
        " JOIN outgoing_path p ON p.topic = o.topic AND p.path = o.path"
        " WHERE o.state = 'queued' AND o.route = ? AND o.topic = ? AND o.lane = ?"
        f" AND o.not_before <= ? ORDER BY o.id {order} LIMIT ?",
        (route, topic, lane, time.time(), limit),
    )
    return [Waiting(_outgoing(row[:-2]), row[-2], row[-1]) for row in rows]


def destinations(reader: Connection) -> list[tuple[str, str]]:
    """(route, topic) of every transfer that is queued or being sent."""
    return reader.execute(
        "SELECT DISTINCT route, topic FROM outgoing WHERE state = 'queued'"
        " UNION SELECT DISTINCT route, topic FROM outgoing WHERE state = 'sending'"
    ).fetchall()


def sending(reader: Connection) -> list[Outgoing]:
    """What has been begun, in this life of the daemon or before; bounded by the feed's limits."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM outgoing INDEXED BY outgoing_sending"
        " WHERE state = 'sending' ORDER BY id"
    )
    return [_outgoing(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a transfer will lie in Kafka; fixed before its first record is produced."""

    id: int
    topic: str
    path: bytes
    topic_id: str
    partition: int
    chunk_size: int


def claim(writer: Connection, claims: Sequence[Claim]) -> set[int]:
    """Make queued transfers ``sending``; the ids of those that still were queued."""
    claimed = set()
    for one in claims:
        changed = writer.execute(
            "UPDATE outgoing SET state = 'sending', topic_id = ?, partition = ?, chunk_size = ?"
            " WHERE id = ? AND state = 'queued'",
            (one.topic_id, one.partition, one.chunk_size, one.id),
        ).rowcount
        if changed:
            claimed.add(one.id)
    writer.executemany(
        "UPDATE outgoing_path SET topic_id = ?, partition = ? WHERE topic = ? AND path = ?",
        [(c.topic_id, c.partition, c.topic, c.path) for c in claims if c.id in claimed],
    )
    return claimed


@dataclass(frozen=True, slots=True)
class Progress:
    """The acknowledged prefix of a transfer that is being sent."""

    id: int
    acked: int
    first_offset: int | None
    acked_at: float


def note_progress(writer: Connection, progress: Sequence[Progress]) -> None:
    """Remember acknowledged prefixes, so that a restart needn't send them again."""
    writer.executemany(
        "UPDATE outgoing SET acked = ?, first_offset = ?, acked_at = ? WHERE id = ?",
        [(p.acked, p.first_offset, p.acked_at, p.id) for p in progress],
    )


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


def end(writer: Connection, endings: Sequence[Ending]) -> None:
    """Give transfers their last state, and queue their successors in the same transaction.

    Only one that is queued or sending can end. Killed before this is durable: nothing has ended.
    """
    now = time.time()
    ended = [one for one in endings if _end_one(writer, one, now)]
    tally.count(
        writer,
        "upload",
        [Ended(e.row.route, e.row.topic, e.state, e.row.size, e.row.path) for e in ended],
        now,
    )
    for one in ended:
        if one.forget:
            writer.execute(
                "DELETE FROM known_file WHERE route = ? AND topic = ? AND path = ? AND tid = ?",
                (one.row.route, one.row.topic, one.row.path, one.row.tid),
            )
        if one.successor is not None:
            tid = _succeed(writer, one.row, one.successor, now, not_before=one.not_before)
            _know(writer, one.row.route, one.row.topic, one.successor, tid)


def _end_one(writer: Connection, one: Ending, now: float) -> bool:
    """Whether the transfer had not ended before."""
    changed = writer.execute(
        "UPDATE outgoing SET state = ?, acked = ?, first_offset = coalesce(?, first_offset),"
        " acked_at = ?, ended_at = ?, reason = ?, fix = ?"
        " WHERE id = ? AND state IN ('queued', 'sending')",
        (one.state, one.acked, one.first_offset, now, now, one.reason, one.fix, one.row.id),
    ).rowcount
    return changed > 0


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
    offer = Offer(row.route, row.topic, (), row.chunk_size or 0, row.meta, row.uid)
    tid = _queue(
        writer, offer, version, json.dumps(row.meta), now,
        generation=generation, not_before=not_before,
    )  # fmt: skip
    writer.execute("UPDATE outgoing SET successor = ? WHERE id = ?", (tid, row.id))
    return tid


def start_over(writer: Connection, row: Outgoing, reason: str) -> bytes | None:
    """End a transfer that can't be resumed, and queue the same bytes under a new tid.

    The generation stays: it is no newer version, and must not overtake one. None if the transfer
    has ended meanwhile. Killed before this is durable: it is judged again at the next start.
    """
    now = time.time()
    ended = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, reason = ?"
        " WHERE id = ? AND state = 'sending'",
        (now, reason, row.id),
    ).rowcount
    if not ended:
        return None
    tally.count(writer, "upload", [_cancelled(row)], now)
    version = FileVersion(
        *(row.path, row.source, row.device, row.inode, row.size, row.mtime_ns, row.mode, 0)
    )
    tid = _succeed(writer, row, version, now, generation=row.generation)
    writer.execute(
        "UPDATE known_file SET tid = ? WHERE route = ? AND topic = ? AND path = ? AND tid = ?",
        (tid, row.route, row.topic, row.path, row.tid),
    )
    return tid


def _cancelled(row: Outgoing) -> Ended:
    return Ended(row.route, row.topic, "cancelled", row.size, row.path)


def postpone(
    writer: Connection, row: Outgoing, version: FileVersion, chunk_size: int, not_before: float
) -> None:
    """A queued file changed again before it had settled: wait for its newest version."""
    writer.execute(
        "UPDATE outgoing SET device = ?, inode = ?, size = ?, mtime_ns = ?, mode = ?, lane = ?,"
        " not_before = ? WHERE id = ? AND state = 'queued'",
        (
            *(version.device, version.inode, version.size, version.mtime_ns, version.mode),
            *(_lane(version, chunk_size), not_before, row.id),
        ),
    )
    _know(writer, row.route, row.topic, version, row.tid)


def prune(writer: Connection, older_than: float, limit: int) -> int:
    """Delete ended transfers from before ``older_than`` (epoch seconds); how many."""
    return writer.execute(
        "DELETE FROM outgoing WHERE id IN"
        " (SELECT id FROM outgoing WHERE ended_at < ? ORDER BY ended_at LIMIT ?)",
        (older_than, limit),
    ).rowcount
