"""Records that this host dropped, and what their senders are to be told: ``bad_record``.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import receipts, tally
from kfd.daemon.ledger.incoming import by_partition
from kfd.daemon.ledger.tally import Ended


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


def count_bad(writer: Connection, route: str, bad: Iterable[BadRecord]) -> None:
    """Add to the counts of dropped records."""
    now = time.time()
    writer.executemany(
        "INSERT INTO bad_record VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " count = count + excluded.count, topic = excluded.topic,"
        " partition = excluded.partition, offset = excluded.offset, seen_at = excluded.seen_at",
        [(route, b.reason, b.count, b.topic, b.partition, b.offset, now) for b in bad],
    )


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
    groups = by_partition((one.topic_id, one.partition, one.tid) for one in repeated)
    for place, tids in groups.items():
        receipts.repeat(writer, route, *place, tids)


def bad_counts(reader: Connection, route: str) -> dict[str, int]:
    """Dropped records of a route by reason."""
    return dict(
        reader.execute("SELECT reason, count FROM bad_record WHERE route = ?", (route,)).fetchall()
    )
