"""Receipts that don't decide about a transfer, or not yet: operations on ``confirmation``.

One waits there until the ledger knows that its transfer is in Kafka (it came early), or until as
many receivers have said the same as the route wants. A receiver counts once, however often it says
so.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk
from kfd.receipts import Outcome, Receipt

MAX_EARLY = 10_000  # receipts for what isn't known to be in Kafka yet


@dataclass(frozen=True, slots=True)
class Heard:
    """A receipt that was read. ``ours``: its record is for this ledger by its key."""

    receiver: str
    instance: bytes
    receipt: Receipt
    ours: bool


def confirm(writer: Connection, heard: Heard) -> list[str]:
    """Keep good news; the names of the receivers that have told it by now, a receiver once."""
    _keep(writer, [heard], early=False)
    rows = writer.execute(
        "SELECT name FROM confirmation WHERE tid = ? AND NOT early ORDER BY id",
        (heard.receipt.tid,),
    )
    return [name for (name,) in rows]


def keep_early(writer: Connection, heard: Sequence[Heard]) -> int:
    """Keep what came before its transfer was known to be in Kafka; for how many was no room."""
    if not heard:
        return 0
    (kept,) = writer.execute("SELECT count(*) FROM confirmation WHERE early").fetchone()
    room: int = max(0, MAX_EARLY - kept)
    _keep(writer, heard[:room], early=True)
    return max(0, len(heard) - room)


def _keep(writer: Connection, heard: Sequence[Heard], *, early: bool) -> None:
    bulk.execute(
        writer,
        "INSERT OR REPLACE INTO confirmation (tid, receiver, name, outcome, digest, generation,"
        " reason, early) VALUES {rows}",
        [
            (
                *(one.receipt.tid, one.instance, one.receiver, one.receipt.outcome.value),
                *(one.receipt.digest, one.receipt.generation, one.receipt.reason, early),
            )
            for one in heard
        ],
    )


_EARLY = (
    " FROM confirmation c INDEXED BY confirmation_early LEFT JOIN outgoing o ON o.tid = c.tid"
    " WHERE c.early AND (o.state IS NULL OR o.state NOT IN ('queued', 'sending'))"
)


def has_early(reader: Connection) -> bool:
    """Whether there are receipts that came too early, and now can be taken."""
    return reader.execute(f"SELECT 1{_EARLY} LIMIT 1").fetchone() is not None


def take_early(writer: Connection, limit: int) -> dict[str, list[Heard]]:
    """Receipts that came too early and now can be taken, by topic (of the files). What has been
    cancelled meanwhile, or is forgotten, needs none."""
    rows = writer.execute(
        "SELECT c.id, o.topic, o.state, c.name, c.receiver, c.tid, c.outcome, c.digest,"
        f" c.generation, c.reason{_EARLY} ORDER BY c.id LIMIT ?",
        (limit,),
    ).fetchall()
    writer.executemany("DELETE FROM confirmation WHERE id = ?", [(row[0],) for row in rows])
    taken: dict[str, list[Heard]] = {}
    for _, topic, state, name, receiver, tid, outcome, *rest in rows:
        if state in ("in_kafka", "failed"):
            heard = Heard(name, receiver, Receipt(tid, Outcome(outcome), *rest), ours=True)
            taken.setdefault(topic, []).append(heard)
    return taken


def drop(writer: Connection, tids: Sequence[bytes]) -> None:
    """Drop all that was said of these transfers: they are delivered, or sent again."""
    bulk.execute(
        writer,
        "DELETE FROM confirmation WHERE tid IN (VALUES {rows})",
        [(tid,) for tid in tids],
    )


def forget(writer: Connection) -> None:
    """Drop receipts for transfers that are no longer in the ledger, or can't be delivered."""
    writer.execute(
        "DELETE FROM confirmation WHERE NOT EXISTS (SELECT 1 FROM outgoing WHERE"
        " outgoing.tid = confirmation.tid AND state IN ('queued', 'sending', 'in_kafka', 'failed'))"
    )
