"""What need not be known any longer of what this host has received: operations on ``incoming``,
``incoming_path`` and ``reading``, called by the housekeeper.

Transfers that ended are kept as long as their records may come again; the newest version of a file
is kept for good, unless its topic is no more.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from sqlite3 import Connection

from kfd.daemon.ledger import catalogue

_OWED = catalogue.is_owed(catalogue.Kind.PUBLISHED)


def prune(
    writer: Connection, topic_id: str, partition: int, low: int, older_than: float, limit: int
) -> int:
    """Delete transfers that ended before ``older_than`` (epoch seconds) and whose records the topic
    no longer has: those below its low watermark ``low`` can't come again. How many."""
    return writer.execute(
        "DELETE FROM incoming WHERE id IN (SELECT id FROM incoming WHERE ended_at < ?"
        " AND topic_id = ? AND partition = ? AND first_offset < ?"
        f" AND id NOT IN (SELECT id FROM quarantine) AND NOT {_OWED} ORDER BY ended_at LIMIT ?)",
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
        " AND (ended_at IS NULL OR ended_at >= ? OR id IN (SELECT id FROM quarantine)"
        f" OR {_OWED}) LIMIT 1",
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
