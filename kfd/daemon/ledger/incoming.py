"""What this host receives: operations on ``incoming``, ``incoming_path`` and ``bad_record``.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk, receipts, tally
from kfd.daemon.ledger.receipts import Told
from kfd.daemon.ledger.tally import Ended
from kfd.wire import Begin


@dataclass(frozen=True, slots=True)
class Received:
    """A transfer that was put together (or refused) here: what one row of ``incoming`` says."""

    route: str
    topic_id: str
    partition: int
    first_offset: int
    tid: bytes
    begin: Begin
    digest: bytes | None
    name: bytes  # relative to the route's directory; empty where nothing was published
    mtime_ns: int  # of the file, as its file system has rounded it
    device: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """The newest version of a path that this host has published."""

    generation: int
    name: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Intent:
    """A rename that was about to happen when the daemon was killed."""

    id: int
    topic: str
    topic_id: str
    partition: int
    tid: bytes
    origin: str
    path: bytes
    generation: int
    size: int
    mtime_ns: int
    name: bytes
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A transfer that can't be put together here, and has no row: its first record was refused,
    or never came."""

    topic: str
    tid: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """A transfer that ended here, and whose last record came again."""

    topic_id: str
    partition: int
    tid: bytes


@dataclass(frozen=True, slots=True)
class BadRecord:
    """How many records were dropped for a reason, and where the last of them was."""

    reason: str
    count: int
    topic: str
    partition: int
    offset: int


def closed(
    reader: Connection, route: str, topic_id: str, partition: int, tids: Sequence[bytes]
) -> set[bytes]:
    """Those of ``tids`` that have ended here in this partition, however they ended."""
    rows = bulk.select(
        reader,
        "SELECT tid FROM incoming WHERE route = ? AND topic_id = ? AND partition = ?"
        " AND tid IN {rows}",
        (route, topic_id, partition),
        tids,
    )
    return {tid for (tid,) in rows}


def closed_among(
    reader: Connection, route: str, transfers: Iterable[tuple[str, int, bytes]]
) -> set[tuple[str, int, bytes]]:
    """Those of the transfers (topic id, partition, tid) that have ended here."""
    tids: dict[tuple[str, int], list[bytes]] = {}
    for topic_id, partition, tid in transfers:
        tids.setdefault((topic_id, partition), []).append(tid)
    return {
        (topic_id, partition, tid)
        for (topic_id, partition), some in tids.items()
        for tid in closed(reader, route, topic_id, partition, some)
    }


def newest(
    reader: Connection, route: str, topic_id: str, origin: str, paths: Sequence[bytes]
) -> dict[bytes, Published]:
    """The newest published versions of paths of an origin, of those that have one."""
    rows = bulk.select(
        reader,
        "SELECT path, generation, name, device, inode, size, mtime_ns FROM incoming_path"
        " WHERE route = ? AND topic_id = ? AND origin = ? AND path IN {rows}",
        (route, topic_id, origin),
        paths,
    )
    return {path: Published(*rest) for path, *rest in rows}


def last_offset(reader: Connection, route: str, topic_id: str, partition: int) -> int | None:
    """The highest first offset among the transfers that ended here in a partition."""
    (offset,) = reader.execute(
        "SELECT max(first_offset) FROM incoming WHERE route = ? AND topic_id = ? AND partition = ?",
        (route, topic_id, partition),
    ).fetchone()
    return None if offset is None else int(offset)


def begin_to_read(writer: Connection, route: str, topic_id: str) -> None:
    """Note that a route reads a topic."""
    writer.execute("INSERT OR IGNORE INTO reading VALUES (?, ?)", (route, topic_id))


def has_read(reader: Connection, route: str, topic_id: str) -> bool:
    """Whether a route has begun to read a topic before."""
    row = reader.execute(
        "SELECT 1 FROM reading WHERE route = ? AND topic_id = ?", (route, topic_id)
    ).fetchone()
    return row is not None


_INSERT = (
    "INSERT INTO incoming (route, topic, topic_id, tid, partition, first_offset, origin, path,"
    " generation, size, mtime_ns, digest, meta, state, name, device, inode, reason, ended_at)"
    " VALUES {rows}"
)


_KEY = "route = ? AND topic_id = ? AND partition = ? AND tid = ?"


def _key(one: Received) -> tuple[object, ...]:
    return one.route, one.topic_id, one.partition, one.tid


def _row(one: Received, state: str, reason: str, now: float | None) -> tuple[object, ...]:
    begin = one.begin
    return (
        *(one.route, begin.topic, one.topic_id, one.tid, one.partition, one.first_offset),
        *(begin.origin, begin.path, begin.generation, begin.size, one.mtime_ns, one.digest),
        *(json.dumps(dict(begin.meta)), state, one.name, one.device, one.inode, reason, now),
    )


def intend(writer: Connection, batch: Sequence[Received]) -> None:
    """Before the renames: which inode is to get which name."""
    bulk.execute(writer, _INSERT, [_row(one, "publishing", "", None) for one in batch])


def rename_intent(writer: Connection, one: Received) -> None:
    """Before a rename to another name than the one intended first."""
    writer.execute(
        f"UPDATE incoming SET name = ? WHERE {_KEY}",
        (one.name, *_key(one)),
    )


def withdraw(writer: Connection, batch: Sequence[Received]) -> None:
    """The renames of these did not happen; they will be read again."""
    writer.executemany(
        f"DELETE FROM incoming WHERE {_KEY} AND state = 'publishing'",
        [_key(one) for one in batch],
    )


_UPSERT_PATH = (
    "INSERT INTO incoming_path VALUES {rows} ON CONFLICT DO UPDATE SET"
    " generation = excluded.generation, name = excluded.name, device = excluded.device,"
    " inode = excluded.inode, size = excluded.size, mtime_ns = excluded.mtime_ns"
    " WHERE excluded.generation > generation"
)


def conclude(
    writer: Connection, published: Sequence[Received], skipped: Sequence[Received]
) -> None:
    """After the renames are durable: ``published`` are; of ``skipped`` no rename was tried."""
    withdraw(writer, skipped)
    now = time.time()
    tally.count(writer, "download", [_ended(one, "published") for one in published], now)
    _mark_published(writer, published, now)
    bulk.execute(
        writer,
        _UPSERT_PATH,
        [
            (
                *(one.route, one.topic_id, one.begin.origin, one.begin.path),
                *(one.begin.generation, one.name, one.device, one.inode),
                *(one.begin.size, one.mtime_ns),
            )
            for one in published
        ],
    )
    receipts.enqueue(writer, [_told(one, "published", None, "") for one in published])


def _mark_published(writer: Connection, published: Sequence[Received], now: float) -> None:
    tids: dict[tuple[str, str, int], list[bytes]] = {}
    for one in published:
        tids.setdefault((one.route, one.topic_id, one.partition), []).append(one.tid)
    for place, some in tids.items():
        bulk.select(
            writer,
            "UPDATE incoming SET state = 'published', ended_at = ?"
            " WHERE route = ? AND topic_id = ? AND partition = ? AND tid IN {rows}",
            (now, *place),
            some,
        )


def reject(writer: Connection, batch: Iterable[tuple[Received, str, str]]) -> None:
    """These ended unpublished: (transfer, state, reason); the state is ``quarantined``,
    ``superseded`` or ``expired``."""
    now = time.time()
    for one, state, reason in batch:
        withdraw(writer, [one])
        row = _row(one, state, reason, now)
        if bulk.execute(writer, _INSERT + " ON CONFLICT DO NOTHING RETURNING id", [row]):
            tally.count(writer, "download", [_ended(one, state)], now)
            receipts.enqueue(writer, [_told(one, state, _newest(writer, one), reason)])


def _newest(writer: Connection, one: Received) -> int | None:
    """The generation of the newest version of a file that was published, as far as is known."""
    row = writer.execute(
        "SELECT generation FROM incoming_path"
        " WHERE route = ? AND topic_id = ? AND origin = ? AND path = ?",
        (one.route, one.topic_id, one.begin.origin, one.begin.path),
    ).fetchone()
    return row[0] if row else None


def _told(one: Received, state: str, newest: int | None, reason: str) -> Told:
    """What the sender of a transfer that ends here is to be told."""
    receipt = receipts.ended(one.tid, state, one.digest, one.begin.generation, newest, reason)
    return Told(one.begin.topic, one.begin.instance, receipt)


def _ended(one: Received, state: str) -> Ended:
    return Ended(one.route, one.begin.topic, state, one.begin.size, one.name or one.begin.path)


def intents(reader: Connection, route: str) -> list[Intent]:
    """Renames that an earlier life of the daemon may or may not have done."""
    rows = reader.execute(
        "SELECT id, topic, topic_id, partition, tid, origin, path, generation, size, mtime_ns,"
        " name, device, inode"
        " FROM incoming WHERE state = 'publishing' AND route = ?",
        (route,),
    )
    return [Intent(*row) for row in rows]


def settle(
    writer: Connection, route: str, published: Sequence[Intent], void: Sequence[Intent]
) -> None:
    """The outcome of :func:`intents`: what was published after all, and what is read again."""
    now = time.time()
    writer.executemany(
        "UPDATE incoming SET state = 'published', ended_at = ? WHERE id = ?",
        [(now, one.id) for one in published],
    )
    tally.count(
        writer,
        "download",
        [Ended(route, one.topic, "published", one.size, one.name) for one in published],
        now,
    )
    bulk.execute(
        writer,
        _UPSERT_PATH,
        [
            (
                *(route, one.topic_id, one.origin, one.path, one.generation, one.name),
                *(one.device, one.inode, one.size, one.mtime_ns),
            )
            for one in published
        ],
    )
    writer.executemany("DELETE FROM incoming WHERE id = ?", [(one.id,) for one in void])
    groups: dict[tuple[str, int], list[bytes]] = {}
    for one in published:
        groups.setdefault((one.topic_id, one.partition), []).append(one.tid)
    for place, tids in groups.items():
        receipts.repeat(writer, route, *place, tids)


def count_bad(writer: Connection, route: str, bad: Iterable[BadRecord]) -> None:
    """Add to the counts of dropped records."""
    now = time.time()
    writer.executemany(
        "INSERT INTO bad_record VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " count = count + excluded.count, topic = excluded.topic,"
        " partition = excluded.partition, offset = excluded.offset, seen_at = excluded.seen_at",
        [(route, b.reason, b.count, b.topic, b.partition, b.offset, now) for b in bad],
    )


def note_dropped(
    writer: Connection,
    route: str,
    bad: Sequence[BadRecord],
    lost: Sequence[Lost],
    repeated: Sequence[Repeated],
) -> None:
    """What a batch had besides the transfers that ended."""
    count_bad(writer, route, bad)
    note_lost(writer, route, lost)
    note_repeated(writer, route, repeated)


def note_lost(writer: Connection, route: str, lost: Sequence[Lost]) -> None:
    """These have no row, and none will come."""
    tally.count(
        writer,
        "download",
        [Ended(route, one.topic, "lost", 0, one.tid) for one in lost],
        time.time(),
    )
    receipts.enqueue(writer, [receipts.lost(one.topic, one.tid, one.reason) for one in lost])


def note_repeated(writer: Connection, route: str, repeated: Sequence[Repeated]) -> None:
    """The senders of these may not know how they ended."""
    groups: dict[tuple[str, int], list[bytes]] = {}
    for one in repeated:
        groups.setdefault((one.topic_id, one.partition), []).append(one.tid)
    for place, tids in groups.items():
        receipts.repeat(writer, route, *place, tids)


def bad_counts(reader: Connection, route: str) -> dict[str, int]:
    """Dropped records of a route by reason."""
    return dict(
        reader.execute("SELECT reason, count FROM bad_record WHERE route = ?", (route,)).fetchall()
    )


def prune(
    writer: Connection, topic_id: str, partition: int, low: int, older_than: float, limit: int
) -> int:
    """Delete transfers that ended before ``older_than`` (epoch seconds) and whose records the topic
    no longer has: those below its low watermark ``low`` can't come again. How many."""
    return writer.execute(
        "DELETE FROM incoming WHERE id IN (SELECT id FROM incoming WHERE ended_at < ?"
        " AND topic_id = ? AND partition = ? AND first_offset < ? ORDER BY ended_at LIMIT ?)",
        (older_than, topic_id, partition, low, limit),
    ).rowcount


def dead_topics(reader: Connection, route: str, topic: str, topic_id: str) -> list[str]:
    """Ids that ``topic``, whose id is ``topic_id``, had before it was made again, as far as a route
    has received anything of it."""
    rows = reader.execute(
        "SELECT topic_id FROM reading AS r WHERE route = ? AND topic_id != ?"
        " AND (SELECT topic FROM incoming AS i"
        " WHERE i.route = r.route AND i.topic_id = r.topic_id LIMIT 1) = ?",
        (route, topic_id, topic),
    )
    return [dead for (dead,) in rows]


def prune_dead(writer: Connection, route: str, topic_id: str, older_than: float, limit: int) -> int:
    """Delete what a route knows of a topic that is no more, unless some of it ended after
    ``older_than`` (epoch seconds). How many rows of one kind, at most ``limit``."""
    of_it = (route, topic_id)
    if writer.execute(
        "SELECT 1 FROM incoming WHERE route = ? AND topic_id = ?"
        " AND (ended_at IS NULL OR ended_at >= ?) LIMIT 1",
        (*of_it, older_than),
    ).fetchone():
        return 0
    paths = writer.execute(
        "DELETE FROM incoming_path WHERE (route, topic_id, origin, path) IN"
        " (SELECT route, topic_id, origin, path FROM incoming_path"
        " WHERE route = ? AND topic_id = ? LIMIT ?)",
        (*of_it, limit),
    ).rowcount
    if paths == limit:
        return paths
    rows = writer.execute(
        "DELETE FROM incoming WHERE id IN"
        " (SELECT id FROM incoming WHERE route = ? AND topic_id = ? LIMIT ?)",
        (*of_it, limit),
    ).rowcount
    if rows < limit:
        writer.execute("DELETE FROM reading WHERE route = ? AND topic_id = ?", of_it)
    return rows
