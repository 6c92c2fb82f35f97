"""Is the ledger sound? Reads only, in the caller's thread, on its own connection."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass

_RECENT = 1000  # transfers that are looked through for one whose times are known


def damage(reader: sqlite3.Connection, seconds: float) -> str | None:
    """What SQLite finds wrong first, ``""`` for nothing; None if it did not look through it all
    in so many seconds. A writer isn't held up."""
    # the check is one step of SQLite's machine: no progress handler is called within it
    alarm = threading.Timer(seconds, reader.interrupt)
    alarm.start()
    try:
        (found,) = reader.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        alarm.cancel()
        alarm.join()
    return "" if found == "ok" else str(found)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A record whose acknowledgement was noted at ``at``, by this host's clock (epoch seconds)."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    at: float


def last_acknowledged(reader: sqlite3.Connection) -> Acknowledged | None:
    """The newest file of a single record that is in Kafka, if one is among the newest."""
    row = reader.execute(
        "SELECT topic, topic_id, partition, first_offset, acked_at FROM"
        " (SELECT * FROM outgoing ORDER BY id DESC LIMIT ?)"
        " WHERE state IN ('in_kafka', 'delivered') AND acked = 1 AND acked_at IS NOT NULL"
        " AND first_offset IS NOT NULL AND topic_id IS NOT NULL ORDER BY id DESC LIMIT 1",
        (_RECENT,),
    ).fetchone()
    return None if row is None else Acknowledged(*row)
