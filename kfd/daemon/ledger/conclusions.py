"""What receipts lead to: transfers become ``delivered``, are to be sent again, or have failed.

All run in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection

from kfd.daemon.ledger import bulk, catalogue, confirmations, disposals, tally
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.tally import Ended
from kfd.receipts import Outcome

BACKOFF_SECONDS = (1.0, 10.0, 60.0)  # before it is sent again; after these it has failed
REFUSED_SECONDS = 30.0  # before it is sent again to where there was no room


@dataclass(frozen=True, slots=True)
class Rules:
    """What the upload routes say about deliveries."""

    receivers: Mapping[str, int]  # route → how many must have a file; 1 where there is none
    disposing: frozenset[tuple[str, str]]  # (route, topic) of those that delete or move files


@dataclass(slots=True)
class Verdict:
    """What receipts led to."""

    delivered: list[Judged] = field(default_factory=list)
    failed: list[tuple[Judged, str]] = field(default_factory=list)  # with the reasons
    refused: list[tuple[Judged, str]] = field(default_factory=list)  # these are sent again
    outdated: list[Judged] = field(default_factory=list)  # a newer version of ours is there
    bad: Counter[str] = field(default_factory=Counter)

    def add(self, other: Verdict) -> None:
        """Take in what other receipts led to."""
        self.delivered += other.delivered
        self.failed += other.failed
        self.refused += other.refused
        self.outdated += other.outdated
        self.bad += other.bad


@dataclass(slots=True)
class Judged:
    """A transfer that receipts are about."""

    id: int
    tid: bytes
    route: str
    topic: str
    path: bytes
    size: int
    generation: int
    state: str
    counted: str  # the state that the tally has it in
    digest: bytes | None
    tries: int
    resend_at: float | None
    uid: int | None

    def ended(self, state: str) -> Ended:
        """What is counted of it."""
        return Ended(self.route, self.topic, state, self.size, self.path)


_COLUMNS = (
    "id, tid, route, topic, path, size, generation, state, state, digest, tries, resend_at, uid"
)


def transfers(writer: Connection, tids: Iterable[bytes]) -> dict[bytes, Judged]:
    """Those of these transfers that the ledger knows, by tid."""
    found = bulk.select(
        writer,
        f"SELECT {_COLUMNS} FROM outgoing WHERE tid IN {bulk.PLACE}",
        (),
        sorted(tids),
    )
    return {row[1]: Judged(*row) for row in found}


class Conclusions:
    """What a batch of receipts leads to, within a transaction."""

    def __init__(self, writer: Connection, rules: Rules) -> None:
        self.verdict = Verdict()
        self.now = time.time()
        self._writer = writer
        self._rules = rules
        self._delivered: dict[str, list[Judged]] = {}  # by the names of the receivers

    def confirm(self, row: Judged, one: Heard) -> None:
        """A receiver has it; with as many as the route wants it is delivered."""
        needed = self._rules.receivers.get(row.route, 1)
        receivers = [one.receiver] if needed == 1 else confirmations.confirm(self._writer, one)
        if len(receivers) >= needed:
            row.state = "delivered"
            self._delivered.setdefault(" ".join(receivers), []).append(row)

    def deliver(self) -> None:
        """Note all that has been confirmed by this batch."""
        rows = [row for group in self._delivered.values() for row in group]
        if not rows:
            return
        self.verdict.delivered = rows
        for receivers, group in self._delivered.items():
            bulk.select(
                self._writer,
                "UPDATE outgoing SET state = 'delivered', ended_at = ?, receivers = ?,"
                f" resend_at = NULL, reason = '', fix = '' WHERE id IN {bulk.PLACE}",
                (self.now, receivers),
                [row.id for row in group],
            )
        several = [row.tid for row in rows if self._rules.receivers.get(row.route, 1) > 1]
        confirmations.drop(self._writer, several)
        self._count(rows)
        catalogue.sent(self._writer, "delivered", [row.id for row in rows])
        disposed = [row.id for row in rows if self._is_disposed_of(row)]
        disposals.add(self._writer, disposed)

    def _is_disposed_of(self, row: Judged) -> bool:
        """Whether it is to be deleted or moved: never what somebody asked to send."""
        return row.uid is None and (row.route, row.topic) in self._rules.disposing

    def outdate(self, row: Judged) -> None:
        """It needn't be delivered any more: the newest version of it will be."""
        row.state = "cancelled"
        self.verdict.outdated.append(row)
        self._writer.execute(
            "UPDATE outgoing SET state = 'cancelled', ended_at = ?, resend_at = NULL,"
            " reason = 'a newer version of the file is there already', successor ="
            " (SELECT tid FROM known_file WHERE route = ? AND topic = ? AND path = ?"
            "  AND tid <> outgoing.tid) WHERE id = ?",
            (self.now, row.route, row.topic, row.path, row.id),
        )
        self._count([row])

    def overtake(self, row: Judged, generation: int) -> None:
        """Be newer than a version that this ledger doesn't know (it was lost, or restored)."""
        row.generation = max(row.generation, generation, int(self.now * 1_000_000)) + 1
        self._writer.execute(
            "UPDATE outgoing_path SET generation = ? WHERE topic = ? AND path = ?",
            (row.generation, row.topic, row.path),
        )
        self._writer.execute(
            "UPDATE outgoing SET generation = ? WHERE id = ?", (row.generation, row.id)
        )

    def refuse(self, row: Judged, one: Heard) -> None:
        """Send it again after a while, or give up."""
        receipt = one.receipt
        reason = f"{receipt.outcome.value} at {one.receiver}"
        if receipt.reason:
            reason += f": {receipt.reason}"
        pause = _pause(row, receipt.outcome)
        if pause is None:
            self._fail(row, reason, one.receiver)
            return
        row.resend_at = self.now + pause
        row.tries += receipt.outcome is not Outcome.REFUSED
        self.verdict.refused.append((row, reason))
        self._writer.execute(
            "UPDATE outgoing SET resend_at = ?, tries = ?, reason = ? WHERE id = ?",
            (row.resend_at, row.tries, f"{reason}; it is sent again", row.id),
        )

    def _fail(self, row: Judged, reason: str, receiver: str) -> None:
        row.state = "failed"
        self.verdict.failed.append((row, reason))
        self._writer.execute(
            "UPDATE outgoing SET state = 'failed', ended_at = ?, reason = ?, fix = ? WHERE id = ?",
            (
                *(self.now, f"{reason} ({row.tries + 1} times)"),
                f"look at kfdctl list on {receiver}; then kfdctl send --again",
                row.id,
            ),
        )
        self._count([row])

    def _count(self, rows: Sequence[Judged]) -> None:
        """Count these in the states that they have come to."""
        tally.uncount(self._writer, "upload", [row.ended(row.counted) for row in rows])
        tally.count(self._writer, "upload", [row.ended(row.state) for row in rows], self.now)
        for row in rows:
            row.counted = row.state


def _pause(row: Judged, outcome: Outcome) -> float | None:
    """Seconds before it is sent again; None: never."""
    if outcome is Outcome.REFUSED:
        return REFUSED_SECONDS
    return BACKOFF_SECONDS[row.tries] if row.tries < len(BACKOFF_SECONDS) else None
