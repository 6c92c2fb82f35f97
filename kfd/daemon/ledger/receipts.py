"""What senders are to be told: operations on ``receipt``, the outbox of the receiving side.

A receipt is put in by the very transaction that ends a transfer, many in a row, encoded as they go
to Kafka; it goes out when Kafka has acknowledged it. Killed in between, it is sent again.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk
from kfd.receipts import MAX_RECEIPTS, Outcome, Receipt, encode, fit_reason
from kfd.wire import Reason


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt, the topic of the files that it is about, and the sender (None: not known)."""

    topic: str
    sender: bytes | None
    receipt: Receipt


def enqueue(writer: Connection, told: Iterable[Told]) -> None:
    """Put receipts into the outbox; they are as durable as what else the transaction does."""
    groups: dict[tuple[str, bytes | None], list[Receipt]] = {}
    for one in told:
        groups.setdefault((one.topic, one.sender), []).append(one.receipt)
    if not groups:
        return
    identity = dict(writer.execute("SELECT key, value FROM identity").fetchall())
    origin, instance = identity["origin"].decode(), identity["instance"]
    rows = [
        (topic, sender, min(MAX_RECEIPTS, len(receipts) - place * MAX_RECEIPTS), record)
        for (topic, sender), receipts in groups.items()
        for place, record in enumerate(encode(origin, instance, receipts))
    ]
    bulk.execute(writer, "INSERT INTO receipt (topic, sender, count, record) VALUES {rows}", rows)


_OUTCOMES = {Reason.TOO_MANY_OPEN: Outcome.REFUSED, Reason.HEAD_LOST: Outcome.LOST}


def lost(topic: str, tid: bytes, reason: str) -> Told:
    """The receipt for a transfer that has no row here, for this reason to drop its records.

    Whose it is isn't known any more.
    """
    outcome = _OUTCOMES.get(Reason(reason), Outcome.QUARANTINED)
    return Told(topic, None, Receipt(tid, outcome, reason=fit_reason(reason)))


_ENDED = {
    outcome.value: outcome
    for outcome in (
        Outcome.PUBLISHED, Outcome.QUARANTINED, Outcome.EXPIRED, Outcome.SUPERSEDED
    )
}  # fmt: skip
_STATES = "('published', 'quarantined', 'expired', 'superseded')"


def repeat(
    writer: Connection, route: str, topic_id: str, partition: int, tids: Sequence[bytes]
) -> None:
    """Tell once more how these transfers ended here: their last records came again."""
    rows = bulk.select(
        writer,
        "SELECT i.topic, i.tid, i.state, i.digest, i.generation, i.reason, p.generation"
        " FROM incoming i LEFT JOIN incoming_path p"
        " ON (p.route, p.topic_id, p.origin, p.path) = (i.route, i.topic_id, i.origin, i.path)"
        f" WHERE i.route = ? AND i.topic_id = ? AND i.partition = ? AND i.state IN {_STATES}"
        " AND i.tid IN {rows}",
        (route, topic_id, partition),
        tids,
    )
    enqueue(
        writer,
        [
            Told(topic, None, ended(tid, state, digest, own, newest, reason))
            for topic, tid, state, digest, own, reason, newest in rows
        ],
    )


def ended(
    tid: bytes, state: str, digest: bytes | None, own: int, newest: int | None, reason: str
) -> Receipt:
    """The receipt for a transfer that ended here in this state of the ledger.

    ``own`` is its generation, ``newest`` the newest that was published of its path, if any was.
    """
    outcome = _ENDED[state]
    generation = newest if outcome is Outcome.SUPERSEDED else own
    return Receipt(tid, outcome, digest, generation, fit_reason(reason))


def topics(reader: Connection) -> list[str]:
    """Those of whose files there are receipts to be sent."""
    return [topic for (topic,) in reader.execute("SELECT DISTINCT topic FROM receipt")]


@dataclass(frozen=True, slots=True)
class Outbound:
    """A record of receipts that is to be sent."""

    id: int
    sender: bytes | None
    record: bytes


def waiting(reader: Connection, topic: str, limit: int) -> list[Outbound]:
    """The oldest records of receipts about the files of a topic."""
    rows = reader.execute(
        "SELECT id, sender, record FROM receipt WHERE topic = ? ORDER BY id LIMIT ?",
        (topic, limit),
    )
    return [Outbound(*row) for row in rows]


def sent(writer: Connection, topic: str, last: int) -> None:
    """Kafka has the receipts of a topic, up to this id."""
    writer.execute("DELETE FROM receipt WHERE topic = ? AND id <= ?", (topic, last))


def trim(writer: Connection, most: int) -> int:
    """Drop the oldest records beyond ``most``; of how many transfers the receipts are lost."""
    dropped = writer.execute(
        "DELETE FROM receipt WHERE id <= (SELECT id FROM receipt ORDER BY id DESC LIMIT 1 OFFSET ?)"
        " RETURNING count",
        (most,),
    ).fetchall()
    return sum(count for (count,) in dropped)


def count(reader: Connection) -> int:
    """How many records wait."""
    (number,) = reader.execute("SELECT count(*) FROM receipt").fetchone()
    return int(number)
