"""What receivers say of what is in Kafka: it becomes ``delivered``, is sent again, or has failed.

A receipt comes over a topic to which others may write: it counts only for a transfer of this ledger
that is in Kafka, and good news only with the digest of the very file. What doesn't fit is counted
and changes nothing. Good news are good even after all attempts have been given up: a transfer that
has failed becomes ``delivered``. Bad news about it are none.

All run in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection

from kfd.daemon.ledger import confirmations, receiptreading
from kfd.daemon.ledger.conclusions import Conclusions, Judged, Rules, Verdict, transfers
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.receiptreading import Position
from kfd.receipts import Outcome, Receipt

LAST_GENERATION = 1 << 62  # beyond is no clock's, however wrong, and no newer one would be left


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
    verdict = _Hearing(writer, topic, rules).take(heard)
    verdict.bad.update(bad)
    receiptreading.count_bad(writer, topic, verdict.bad)
    receiptreading.note(writer, positions)
    return verdict


def hear_early(writer: Connection, rules: Rules, limit: int) -> Verdict:
    """Take receipts that had come before their transfers were known to be in Kafka."""
    total = Verdict()
    for topic, heard in confirmations.take_early(writer, limit).items():
        verdict = _Hearing(writer, topic, rules).take(heard)
        receiptreading.count_bad(writer, topic, verdict.bad)
        total.add(verdict)
    return total


class _Hearing:
    """One batch of receipts within a transaction: what each of them is worth."""

    def __init__(self, writer: Connection, topic: str, rules: Rules) -> None:
        self._writer = writer
        self._topic = topic
        self._conclusions = Conclusions(writer, rules)
        self._bad = self._conclusions.verdict.bad
        self._early: list[Heard] = []

    def take(self, heard: Sequence[Heard]) -> Verdict:
        rows = transfers(self._writer, {one.receipt.tid for one in heard})
        for one in heard:
            row = rows.get(one.receipt.tid)
            if row is None:
                # a receipt without a key may be for any sender
                self._bad["unknown"] += one.ours
            elif row.topic != self._topic:
                self._bad["wrong-topic"] += 1
            else:
                self._weigh(row, one)
        if dropped := confirmations.keep_early(self._writer, self._early):
            self._bad["too-many-early"] += dropped
        self._conclusions.deliver()
        return self._conclusions.verdict

    def _weigh(self, row: Judged, one: Heard) -> None:
        """A receipt for a transfer of ours; once it is delivered or cancelled, no news."""
        match row.state:
            case "queued" | "sending":
                self._early.append(one)
            case "in_kafka" | "failed" if _is_good(row, one.receipt):
                self._compare(row, one)
            case "in_kafka":
                self._bad_news(row, one)

    def _compare(self, row: Judged, one: Heard) -> None:
        """Good news, if they are about the bytes that were sent."""
        if row.digest is not None and one.receipt.digest == row.digest:
            self._conclusions.confirm(row, one)
            return
        self._bad["wrong-digest"] += 1
        if row.state == "in_kafka" and one.receipt.digest is not None and row.digest is not None:
            self._differs(row, one)

    def _differs(self, row: Judged, one: Heard) -> None:
        """Other bytes have this tid there, as after a backup of this ledger was restored: ours
        are sent again, as a newer version."""
        if row.resend_at is not None:
            return
        if self._newest(row) > row.generation:
            self._conclusions.outdate(row)
        else:
            self._conclusions.overtake(row, row.generation)
            self._conclusions.refuse(row, one)

    def _bad_news(self, row: Judged, one: Heard) -> None:
        if one.receipt.outcome is Outcome.SUPERSEDED:
            self._superseded(row, one)
        elif row.resend_at is None:
            self._conclusions.refuse(row, one)

    def _superseded(self, row: Judged, one: Heard) -> None:
        """Another version is there: a newer one of ours, or one that we know nothing of."""
        ours, theirs = self._newest(row), one.receipt.generation or 0
        if one.receipt.generation is not None and theirs < row.generation:
            self._bad["contradictory"] += 1
        elif ours > row.generation:
            self._conclusions.outdate(row)
        elif theirs >= LAST_GENERATION:
            self._bad["future-generation"] += 1
        elif row.resend_at is None:
            self._conclusions.overtake(row, max(ours, theirs))
            self._conclusions.refuse(row, one)

    def _newest(self, row: Judged) -> int:
        """The newest generation that this ledger gave to the file."""
        (generation,) = self._writer.execute(
            "SELECT generation FROM outgoing_path WHERE topic = ? AND path = ?",
            (row.topic, row.path),
        ).fetchone()
        return int(generation)


def _is_good(row: Judged, receipt: Receipt) -> bool:
    """Whether it says that this very version is there, under this id or an earlier one."""
    same = receipt.outcome is Outcome.SUPERSEDED and receipt.generation == row.generation
    return receipt.outcome is Outcome.PUBLISHED or same
