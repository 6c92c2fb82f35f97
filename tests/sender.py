"""The ledger of a sender, and what happens to it: files are queued, sent, and heard of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kfd.daemon.ledger import Ledger, accepting, delivery, endings, outgoing, queries, resending
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.conclusions import Rules, Verdict
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import SMALL, Claim, Outgoing
from kfd.receipts import Outcome, Receipt
from tests.parts import TOPIC_ID, running_ledger, version

DIGEST = bytes(range(32))
LAB2, LAB3 = b"2" * 16, b"3" * 16
ROUTE, TOPIC = "scope3", "lecroy_files"
ONE = Rules({ROUTE: 1}, frozenset())
TWO = Rules({ROUTE: 2}, frozenset())
DISPOSING = Rules({ROUTE: 1}, frozenset({(ROUTE, TOPIC)}))


@dataclass
class Sender:
    """The ledger of a sender, and what is done with it."""

    ledger: Ledger
    rules: Rules = ONE
    rows: dict[bytes, Outgoing] = field(default_factory=dict)

    def queue(self, path: bytes = b"run.trc", **changes: object) -> bytes:
        """Queue a new version of a file; its tid."""
        options = {"uid": changes.pop("uid", None), "topic": changes.pop("topic", TOPIC)}
        one = version(path, **changes)  # type: ignore[arg-type]
        offer = Offer(ROUTE, options["topic"], [one], 1000, {}, options["uid"])  # type: ignore[arg-type]
        (accepted,) = self.ledger.write(lambda db: accepting.accept(db, offer))
        assert accepted.tid is not None
        return accepted.tid

    def claim(self, topic_id: str = TOPIC_ID, partition: int = 0) -> None:
        """Let everything that is queued be sent."""
        for topic in (TOPIC, "other"):
            rows = outgoing.waiting(
                self.ledger.reader(), ROUTE, topic, SMALL, newest=False, limit=100
            )
            claims = [
                Claim(row.id, topic, row.path, topic_id, partition, 1000, moved=True)
                for row in rows
            ]
            self.ledger.write(lambda db, claims=claims: outgoing.claim(db, claims))  # type: ignore[misc]
            self.rows |= {row.tid: row for row in rows}

    def end(
        self,
        tid: bytes,
        state: str = "in_kafka",
        digest: bytes | None = DIGEST,
        first_offset: int | None = None,
    ) -> None:
        """Let what is being sent come to this state."""
        ending = Ending(self.rows[tid], state, 1, first_offset, digest=digest)
        self.ledger.write(lambda db: endings.end(db, [ending]))

    def send(self, path: bytes = b"run.trc", **changes: object) -> bytes:
        """A new version of a file, in Kafka; its tid."""
        tid = self.queue(path, **changes)
        self.claim()
        self.end(tid)
        return tid

    def send_at(
        self, offset: int, *, topic: str = TOPIC, topic_id: str = TOPIC_ID, partition: int = 0
    ) -> bytes:
        """A file that lies at this offset in Kafka; its tid."""
        tid = self.queue(f"{topic_id} {partition} {offset}".encode(), topic=topic)
        self.claim(topic_id, partition)
        self.end(tid, first_offset=offset)
        return tid

    def hear(
        self, tid: bytes, outcome: str = "published", receiver: bytes = LAB2, **changes: object
    ) -> Verdict:
        """Take a receipt."""
        values: dict[str, object] = {"digest": DIGEST, "generation": None} | changes
        ours, topic = bool(values.pop("ours", True)), str(values.pop("topic", TOPIC))
        receipt = Receipt(tid, Outcome(outcome), **values)  # type: ignore[arg-type]
        heard = [Heard("lab2" if receiver == LAB2 else "lab3", receiver, receipt, ours)]
        return self.ledger.write(lambda db: delivery.hear(db, topic, heard, {}, [], self.rules))

    def hear_early(self) -> Verdict:
        """Take the receipts that came before it was known that their files are in Kafka."""
        return self.ledger.write(lambda db: delivery.hear_early(db, self.rules, 100))

    def row(self, tid: bytes, column: str = "state") -> object:
        """What the ledger has in a column."""
        found = self.ledger.reader().execute(f"SELECT {column} FROM outgoing WHERE tid = ?", (tid,))
        return found.fetchone()[0]

    def counts(self) -> dict[str, int]:
        """What ``status`` shows."""
        tallies = queries.tallies(self.ledger.reader())
        return {one.state: one.count for one in tallies if one.count}

    def resend(self) -> bytes:
        """Let the backoff of what was refused pass; the tid under which it is sent again."""
        before = self.tids()
        self.ledger.write(
            lambda db: db.execute("UPDATE outgoing SET resend_at = 1 WHERE resend_at")
        )
        assert self.ledger.write(lambda db: resending.due(db, 100)) == [(ROUTE, TOPIC)]
        (new,) = self.tids() - before
        return new

    def tids(self) -> set[bytes]:
        """All that are in the ledger."""
        return {bytes(tid) for (tid,) in self.ledger.reader().execute("SELECT tid FROM outgoing")}

    def send_again(self) -> bytes:
        """As :meth:`resend`, until it is in Kafka."""
        tid = self.resend()
        self.claim()
        self.end(tid)
        return tid

    def give_up(self, path: bytes = b"run.trc", **changes: object) -> bytes:
        """A file that was sent, refused and sent again until it failed; its last tid."""
        tid = self.send(path, **changes)
        while not self.hear(tid, "quarantined", reason="because").failed:
            tid = self.send_again()
        assert self.row(tid) == "failed"
        return tid


@contextmanager
def running_sender(directory: Path) -> Iterator[Sender]:
    """A sender whose ledger runs."""
    with running_ledger(directory) as ledger:
        yield Sender(ledger)
