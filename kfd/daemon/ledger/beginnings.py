"""Where routes have begun to read: operations on ``reading``, and what shows how far they came.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from sqlite3 import Connection


def begin_to_read(writer: Connection, route: str, topic_id: str) -> None:
    """Note that a route reads a topic."""
    writer.execute("INSERT OR IGNORE INTO reading VALUES (?, ?)", (route, topic_id))


def has_read(reader: Connection, route: str, topic_id: str) -> bool:
    """Whether a route has begun to read a topic before."""
    row = reader.execute(
        "SELECT 1 FROM reading WHERE route = ? AND topic_id = ?", (route, topic_id)
    ).fetchone()
    return row is not None


def last_offset(reader: Connection, route: str, topic_id: str, partition: int) -> int | None:
    """The highest first offset among the transfers that ended here in a partition."""
    (offset,) = reader.execute(
        "SELECT max(first_offset) FROM incoming WHERE route = ? AND topic_id = ? AND partition = ?",
        (route, topic_id, partition),
    ).fetchone()
    return None if offset is None else int(offset)
