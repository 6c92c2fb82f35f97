"""What is in Kafka and is sent again: it was refused, its topic was deleted and made again, or has
dropped it before a receiver confirmed it.

It gets a new tid, and keeps its generation: it is no newer version. Functions that take ``writer``
run in the ledger's writer thread inside its transaction; those that take ``reader`` run in the
caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import confirmations, endings, outgoing, tally
from kfd.daemon.ledger.tally import Ended

DROPPED_SECONDS = 20.0  # for receipts that are still on their way
LONGEST_PAUSE = 120.0  # seconds; who has to wait longer does so because the clock was set back


def due(writer: Connection, limit: int) -> list[tuple[str, str]]:
    """Queue again, under new tids, what was refused a while ago; (route, topic) of each."""
    now = time.time()
    rows = writer.execute(
        "SELECT id, reason, tries FROM outgoing WHERE resend_at <= ? OR resend_at > ?"
        " ORDER BY resend_at LIMIT ?",
        (now, now + LONGEST_PAUSE, limit),
    ).fetchall()
    return _send_again(writer, {number: (reason, tries) for number, reason, tries in rows})


def is_due(reader: Connection) -> bool:
    """Whether something is to be sent again by now."""
    at, now = next_due(reader), time.time()
    return at is not None and not now < at <= now + LONGEST_PAUSE


def next_due(reader: Connection) -> float | None:
    """When (epoch seconds) the next one is to be sent again."""
    at: float | None = reader.execute(
        "SELECT min(resend_at) FROM outgoing WHERE resend_at IS NOT NULL"
    ).fetchone()[0]
    return at


def _send_again(writer: Connection, chosen: Mapping[int, tuple[str, int]]) -> list[tuple[str, str]]:
    """``chosen``: id → the reason, and how often the transfer was refused."""
    again: list[tuple[str, str]] = []
    for row in outgoing.by_id(writer, list(chosen)):
        reason, tries = chosen[row.id]
        tid = endings.start_over(writer, row, reason, state="in_kafka")
        writer.execute("UPDATE outgoing SET resend_at = NULL WHERE id = ?", (row.id,))
        if tid is None:
            continue
        writer.execute("UPDATE outgoing SET tries = ? WHERE tid = ?", (tries, tid))
        confirmations.drop(writer, [row.tid])
        left = Ended(row.route, row.topic, "in_kafka", row.size, row.path)
        tally.uncount(writer, "upload", [left])
        again.append((row.route, row.topic))
    return again


@dataclass(frozen=True, slots=True)
class Gap:
    """What a partition has dropped: all below ``low``, the oldest offset that it has."""

    topic: str
    topic_id: str
    partition: int
    low: int


def dropped(reader: Connection, gap: Gap, after: int, limit: int) -> list[tuple[int, int]]:
    """What is in the gap and no receiver has confirmed: id and first offset of each, from the one
    after offset ``after`` on.

    Reads nothing else: what is delivered, or was sent again, isn't in the index.
    """
    return reader.execute(
        "SELECT id, first_offset FROM outgoing INDEXED BY outgoing_in_kafka"
        " WHERE state = 'in_kafka' AND format = 'kfd'"
        " AND topic = ? AND topic_id = ? AND partition = ?"
        " AND first_offset > ? AND first_offset < ? AND resend_at IS NULL"
        " ORDER BY first_offset LIMIT ?",
        (gap.topic, gap.topic_id, gap.partition, after, gap.low, limit),
    ).fetchall()


def send_soon(writer: Connection, dropped: Sequence[int]) -> None:
    """Have these sent again, unless a receipt that is on its way confirms them."""
    reason = "the topic dropped it before a receiver confirmed it; it is sent again"
    due = time.time() + DROPPED_SECONDS
    writer.executemany(
        "UPDATE outgoing SET resend_at = ?, reason = ?"
        " WHERE id = ? AND state = 'in_kafka' AND resend_at IS NULL",
        [(due, reason, number) for number in dropped],
    )


def topic_sent_to(reader: Connection, topic: str) -> str | None:
    """The id of the topic of this name to which files were sent last."""
    row = reader.execute("SELECT topic_id FROM sent_to WHERE topic = ?", (topic,)).fetchone()
    return row[0] if row else None


def note_topic(writer: Connection, topic: str, topic_id: str) -> None:
    """Nothing undelivered is left in an older topic of this name."""
    writer.execute("INSERT OR REPLACE INTO sent_to VALUES (?, ?)", (topic, topic_id))


def from_old_topic(
    writer: Connection, topic: str, topic_id: str, limit: int
) -> list[tuple[str, str]]:
    """Queue again what was in topics of this name that were deleted, undelivered: the next
    ``limit`` of it; (route, topic) of each. Fewer: that was the last of it. Reads nothing else."""
    numbers: list[int] = []
    for elsewhere in ("topic_id < ?", "topic_id > ?"):  # <> would go through what is in the new one
        numbers += [
            number
            for (number,) in writer.execute(
                "SELECT id FROM outgoing INDEXED BY outgoing_in_kafka WHERE state = 'in_kafka'"
                f" AND format = 'kfd' AND topic = ? AND {elsewhere} LIMIT ?",
                (topic, topic_id, limit - len(numbers)),
            )
        ]
    reason = "the topic was deleted and made again before a receiver confirmed it"
    return _send_again(writer, dict.fromkeys(numbers, (reason, 0)))
