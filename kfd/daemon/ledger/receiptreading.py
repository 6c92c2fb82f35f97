"""Reading topics of receipts: which ones, from where on, and what was there that is no receipt.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on in a partition of a receipts topic."""

    topic: str
    topic_id: str
    partition: int
    offset: int


def note(writer: Connection, positions: Iterable[Position]) -> None:
    """Note where to read on."""
    writer.executemany(
        "INSERT OR REPLACE INTO receipt_position VALUES (?, ?, ?, ?)",
        [(one.topic, one.topic_id, one.partition, one.offset) for one in positions],
    )


def positions(reader: Connection, topic: str, topic_id: str) -> dict[int, int]:
    """Partition → the next offset to read of a receipts topic."""
    return dict(
        reader.execute(
            "SELECT partition, offset FROM receipt_position WHERE topic = ? AND topic_id = ?",
            (topic, topic_id),
        ).fetchall()
    )


def unconfirmed(reader: Connection) -> set[str]:
    """Topics with files in Kafka that wait for receipts. Reads a row for each topic."""
    next_topic = (
        "SELECT min(topic) FROM outgoing INDEXED BY outgoing_in_kafka"
        " WHERE state = 'in_kafka' AND format = 'kfd' AND topic > "
    )
    rows = reader.execute(
        f"WITH RECURSIVE found(topic) AS ({next_topic} '' UNION ALL"
        f" SELECT ({next_topic} found.topic) FROM found WHERE topic IS NOT NULL)"
        " SELECT topic FROM found WHERE topic IS NOT NULL"
    )
    return {topic for (topic,) in rows}


def count_bad(writer: Connection, topic: str, bad: Mapping[str, int]) -> None:
    """Count, by reason, what came as a receipt about files of ``topic`` and was not used."""
    writer.executemany(
        "INSERT INTO bad_receipt VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(topic, reason, count) for reason, count in bad.items() if count],
    )


def bad_counts(reader: Connection) -> dict[str, dict[str, int]]:
    """Receipts that weren't used: topic (of the files) → reason → count."""
    counts: dict[str, dict[str, int]] = {}
    for topic, reason, count in reader.execute("SELECT * FROM bad_receipt"):
        counts.setdefault(topic, {})[reason] = count
    return counts
