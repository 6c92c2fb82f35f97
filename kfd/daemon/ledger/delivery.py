"""What receivers say of what is in Kafka: it becomes ``delivered``, is sent again, or has failed.

A receipt comes over a topic to which others may write: it counts only for a transfer of this ledger
that is in Kafka, and good news only with the digest of the very file. What doesn't fit is counted
and changes nothing.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection

from kfd.daemon.ledger import bulk, disposals, tally
from kfd.daemon.ledger.tally import Ended
from kfd.paths import escape
from kfd.receipts import Outcome, Receipt

BACKOFF_SECONDS = (1.0, 10.0, 60.0)  # before it is sent again; after these it has failed
REFUSED_SECONDS = 30.0  # before it is sent again to where there was no room
LAST_GENERATION = 1 << 62  # beyond is no clock's, however wrong, and no newer one would be left
MAX_EARLY = 10_000  # receipts for what isn't known to be in Kafka yet


@dataclass(frozen=True, slots=True)
class Heard:
    """A receipt that was read. ``ours``: its record is for this ledger by its key."""

    receiver: str
    instance: bytes
    receipt: Receipt
    ours: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the upload routes say about deliveries."""

    receivers: Mapping[str, int]  # route → how many must have a file; 1 where there is none
    disposing: frozenset[tuple[str, str]]  # (route, topic) of those that delete or move files


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on in a partition of a receipts topic."""

    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(slots=True)
class Verdict:
    """What receipts led to."""

    delivered: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # the reasons, each with the path
    refused: list[str] = field(default_factory=list)  # likewise; these are sent again
    outdated: list[int] = field(default_factory=list)  # a newer version of ours is there
    bad: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Row:
    id: int
    tid: bytes
    route: str
    topic: str
    path: bytes
    size: int
    generation: int
    state: str
    digest: bytes | None
    tries: int
    resend_at: float | None
    uid: int | None

    def ended(self, state: str) -> Ended:
        return Ended(self.route, self.topic, state, self.size, self.path)


_COLUMNS = "id, tid, route, topic, path, size, generation, state, digest, tries, resend_at, uid"


def hear(
    writer: Connection,
    topic: str,
    heard: Sequence[Heard],
    bad: Mapping[str, int],
    positions: Iterable[Position],
    rules: Rules,
) -> Verdict:
    """Take receipts about the files of ``topic``, and note where to read on.

    ``bad`` counts, by reason, what was read beside them and is none.
    """
    verdict = _Hearing(writer, topic, rules, bad).take(heard)
    writer.executemany(
        "INSERT OR REPLACE INTO receipt_position VALUES (?, ?, ?, ?)",
        [(one.topic, one.topic_id, one.partition, one.offset) for one in positions],
    )
    return verdict


_EARLY = (
    " FROM confirmation c INDEXED BY confirmation_early LEFT JOIN outgoing o ON o.tid = c.tid"
    " WHERE c.early AND (o.state IS NULL OR o.state NOT IN ('queued', 'sending'))"
)


def has_early(reader: Connection) -> bool:
    """Whether there are receipts that came too early, and now can be taken."""
    return reader.execute(f"SELECT 1{_EARLY} LIMIT 1").fetchone() is not None


def hear_early(writer: Connection, rules: Rules, limit: int) -> Verdict:
    """Take receipts that had come before their transfers were known to be in Kafka."""
    rows = writer.execute(
        "SELECT c.id, o.topic, o.state, c.name, c.receiver, c.tid, c.outcome, c.digest,"
        f" c.generation, c.reason{_EARLY} ORDER BY c.id LIMIT ?",
        (limit,),
    ).fetchall()
    writer.executemany("DELETE FROM confirmation WHERE id = ?", [(row[0],) for row in rows])
    total = Verdict()
    for _, topic, state, name, receiver, tid, outcome, *rest in rows:
        if state == "in_kafka":
            heard = Heard(name, receiver, Receipt(tid, Outcome(outcome), *rest), ours=True)
            _merge(total, _Hearing(writer, topic, rules, {}).take([heard]))
    return total


def _merge(total: Verdict, one: Verdict) -> None:
    total.delivered += one.delivered
    total.failed += one.failed
    total.refused += one.refused
    total.outdated += one.outdated
    total.bad += one.bad


class _Hearing:
    """One batch of receipts within a transaction."""

    def __init__(
        self, writer: Connection, topic: str, rules: Rules, bad: Mapping[str, int]
    ) -> None:
        self._writer = writer
        self._topic = topic
        self._rules = rules
        self._now = time.time()
        self._verdict = Verdict(bad=Counter(bad))
        self._delivered: list[_Row] = []

    def take(self, heard: Sequence[Heard]) -> Verdict:
        rows = self._rows({one.receipt.tid for one in heard})
        for one in heard:
            row = rows.get(one.receipt.tid)
            if row is None:
                # a receipt without a key may be for any sender
                self._verdict.bad["unknown"] += one.ours
            elif row.topic != self._topic:
                self._verdict.bad["wrong-topic"] += 1
            elif row.state in ("queued", "sending"):
                self._keep(row, one, early=True)
            elif row.state == "in_kafka":
                self._judge(row, one)
        self._deliver()
        self._count_bad()
        return self._verdict

    def _rows(self, tids: Iterable[bytes]) -> dict[bytes, _Row]:
        found = bulk.select(
            self._writer,
            f"SELECT {_COLUMNS} FROM outgoing WHERE tid IN {bulk.PLACE}",
            (),
            sorted(tids),
        )
        return {row[1]: _Row(*row) for row in found}

    def _judge(self, row: _Row, one: Heard) -> None:
        """A receipt for a transfer that is in Kafka."""
        receipt = one.receipt
        same = receipt.outcome is Outcome.SUPERSEDED and receipt.generation == row.generation
        if receipt.outcome is Outcome.PUBLISHED or same:
            if row.digest is not None and receipt.digest == row.digest:
                self._confirm(row, one)
            else:
                self._differs(row, one)
        elif receipt.outcome is Outcome.SUPERSEDED:
            self._superseded(row, one)
        elif row.resend_at is None:
            self._refuse(row, one)

    def _confirm(self, row: _Row, one: Heard) -> None:
        needed = self._rules.receivers.get(row.route, 1)
        if needed > 1:
            self._keep(row, one, early=False)
            (receivers,) = self._writer.execute(
                "SELECT count(*) FROM confirmation WHERE tid = ? AND NOT early", (row.tid,)
            ).fetchone()
            if receivers < needed:
                return
        row.state = "delivered"
        self._delivered.append(row)

    def _differs(self, row: _Row, one: Heard) -> None:
        """Other bytes have this tid there, as after a backup of this ledger was restored: ours
        are sent again, as a newer version."""
        self._verdict.bad["wrong-digest"] += 1
        if None in (one.receipt.digest, row.digest) or row.resend_at is not None:
            return
        if self._generation(row) > row.generation:
            self._outdate(row)
        else:
            self._overtake(row, max(row.generation, int(self._now * 1_000_000)) + 1)
            self._refuse(row, one)

    def _keep(self, row: _Row, one: Heard, *, early: bool) -> None:
        if early:
            (kept,) = self._writer.execute(
                "SELECT count(*) FROM confirmation WHERE early"
            ).fetchone()
            if kept >= MAX_EARLY:
                self._verdict.bad["too-many-early"] += 1
                return
        receipt = one.receipt
        self._writer.execute(
            "INSERT OR REPLACE INTO confirmation (tid, receiver, name, outcome, digest, generation,"
            " reason, early) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.tid, one.instance, one.receiver, receipt.outcome.value, receipt.digest),
                *(receipt.generation, receipt.reason, early),
            ),
        )

    def _superseded(self, row: _Row, one: Heard) -> None:
        """Another version is there: a newer one of ours, or one that we know nothing of."""
        ours = self._generation(row)
        theirs = one.receipt.generation
        if theirs is not None and theirs < row.generation:
            self._verdict.bad["contradictory"] += 1
        elif ours > row.generation:
            self._outdate(row)
        elif theirs is not None and theirs >= LAST_GENERATION:
            self._verdict.bad["future-generation"] += 1
        elif row.resend_at is None:
            self._overtake(row, max(ours, theirs or 0, int(self._now * 1_000_000)) + 1)
            self._refuse(row, one)

    def _generation(self, row: _Row) -> int:
        """The newest that this ledger gave to the file."""
        (generation,) = self._writer.execute(
            "SELECT generation FROM outgoing_path WHERE topic = ? AND path = ?",
            (row.topic, row.path),
        ).fetchone()
        return int(generation)

    def _outdate(self, row: _Row) -> None:
        """It needn't be delivered any more: the newest version of it will be."""
        row.state = "cancelled"
        self._verdict.outdated.append(row.id)
        self._writer.execute(
            "UPDATE outgoing SET state = 'cancelled', ended_at = ?, resend_at = NULL,"
            " reason = 'a newer version of the file is there already', successor ="
            " (SELECT tid FROM known_file WHERE route = ? AND topic = ? AND path = ?"
            "  AND tid <> outgoing.tid) WHERE id = ?",
            (self._now, row.route, row.topic, row.path, row.id),
        )
        self._moved([row])

    def _overtake(self, row: _Row, generation: int) -> None:
        """Be newer than a version that this ledger doesn't know (it was lost, or restored)."""
        row.generation = generation
        self._writer.execute(
            "UPDATE outgoing_path SET generation = ? WHERE topic = ? AND path = ?",
            (generation, row.topic, row.path),
        )
        self._writer.execute(
            "UPDATE outgoing SET generation = ? WHERE id = ?", (generation, row.id)
        )

    def _refuse(self, row: _Row, one: Heard) -> None:
        """Send it again after a while, or give up."""
        receipt = one.receipt
        reason = f"{receipt.outcome.value} at {one.receiver}"
        if receipt.reason:
            reason += f": {receipt.reason}"
        pause, row.tries = self._pause(row, receipt.outcome)
        if pause is None:
            self._fail(row, reason, one.receiver)
            return
        row.resend_at = self._now + pause
        self._verdict.refused.append(f"{escape(row.path)}: {reason}")
        self._writer.execute(
            "UPDATE outgoing SET resend_at = ?, tries = ?, reason = ? WHERE id = ?",
            (row.resend_at, row.tries, f"{reason}; it is sent again", row.id),
        )

    def _pause(self, row: _Row, outcome: Outcome) -> tuple[float | None, int]:
        """Seconds before it is sent again, None for never; and its tries then."""
        if outcome is Outcome.REFUSED:
            return REFUSED_SECONDS, row.tries
        if row.tries < len(BACKOFF_SECONDS):
            return BACKOFF_SECONDS[row.tries], row.tries + 1
        return None, row.tries

    def _fail(self, row: _Row, reason: str, receiver: str) -> None:
        row.state = "failed"
        self._verdict.failed.append(f"{escape(row.path)}: {reason}")
        self._writer.execute(
            "UPDATE outgoing SET state = 'failed', ended_at = ?, reason = ?, fix = ? WHERE id = ?",
            (
                *(self._now, f"{reason} ({row.tries + 1} times)"),
                f"look at kfdctl list on {receiver}; then kfdctl send --again",
                row.id,
            ),
        )
        self._moved([row])

    def _deliver(self) -> None:
        """All that has been confirmed by this batch."""
        rows = self._delivered
        if not rows:
            return
        self._verdict.delivered = [row.id for row in rows]
        bulk.select(
            self._writer,
            "UPDATE outgoing SET state = 'delivered', ended_at = ?, resend_at = NULL, reason = ''"
            f" WHERE id IN {bulk.PLACE}",
            (self._now,),
            [row.id for row in rows],
        )
        bulk.execute(
            self._writer,
            "DELETE FROM confirmation WHERE tid IN (VALUES {rows})",
            [(row.tid,) for row in rows if self._rules.receivers.get(row.route, 1) > 1],
        )
        self._moved(rows)
        disposed = [
            row.id
            for row in rows
            if row.uid is None and (row.route, row.topic) in self._rules.disposing
        ]
        disposals.add(self._writer, disposed)

    def _moved(self, rows: Sequence[_Row]) -> None:
        """Count these in the states that they have come to."""
        tally.uncount(self._writer, "upload", [row.ended("in_kafka") for row in rows])
        tally.count(self._writer, "upload", [row.ended(row.state) for row in rows], self._now)

    def _count_bad(self) -> None:
        self._writer.executemany(
            "INSERT INTO bad_receipt VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(self._topic, reason, count) for reason, count in self._verdict.bad.items() if count],
        )


def bad_counts(reader: Connection) -> dict[str, dict[str, int]]:
    """Receipts that weren't used: topic (of the files) → reason → count."""
    counts: dict[str, dict[str, int]] = {}
    for topic, reason, count in reader.execute("SELECT * FROM bad_receipt"):
        counts.setdefault(topic, {})[reason] = count
    return counts


def positions(reader: Connection, topic: str, topic_id: str) -> dict[int, int]:
    """Partition → the next offset to read of a receipts topic."""
    return dict(
        reader.execute(
            "SELECT partition, offset FROM receipt_position WHERE topic = ? AND topic_id = ?",
            (topic, topic_id),
        ).fetchall()
    )


def unconfirmed(reader: Connection) -> set[str]:
    """Topics with files in Kafka that aren't delivered, as far as is known."""
    rows = reader.execute(
        "SELECT topic FROM tally WHERE direction = 'upload' AND state = 'in_kafka' AND count > 0"
    )
    return {topic for (topic,) in rows}


def forget_confirmations(writer: Connection) -> None:
    """Drop receipts for transfers that are no longer in the ledger or have ended."""
    writer.execute(
        "DELETE FROM confirmation WHERE NOT EXISTS (SELECT 1 FROM outgoing"
        " WHERE outgoing.tid = confirmation.tid AND state IN ('queued', 'sending', 'in_kafka'))"
    )
