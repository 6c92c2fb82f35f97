"""What receipts do to the ledger of a sender, and what they must not do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kfd.control import State
from kfd.daemon.ledger import (
    Ledger,
    accepting,
    delivery,
    disposals,
    endings,
    outgoing,
    queries,
    resending,
)
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.delivery import BACKOFF_SECONDS, Heard, Position, Rules, Verdict
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import SMALL, Claim, Outgoing, Progress
from kfd.receipts import Outcome, Receipt
from kfd.wire import Reason
from tests.parts import TOPIC_ID, in_child, kill_self, running_ledger, version

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

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

    def claim(self, topic_id: str = TOPIC_ID) -> None:
        """Let everything that is queued be sent."""
        for topic in (TOPIC, "other"):
            rows = outgoing.waiting(
                self.ledger.reader(), ROUTE, topic, SMALL, newest=False, limit=100
            )
            claims = [Claim(row.id, topic, row.path, topic_id, 0, 1000, moved=True) for row in rows]
            self.ledger.write(lambda db, claims=claims: outgoing.claim(db, claims))  # type: ignore[misc]
            self.rows |= {row.tid: row for row in rows}

    def end(self, tid: bytes, state: str = "in_kafka", digest: bytes = DIGEST) -> None:
        ending = Ending(self.rows[tid], state, 1, digest=digest)
        self.ledger.write(lambda db: endings.end(db, [ending]))

    def send(self, path: bytes = b"run.trc", **changes: object) -> bytes:
        """A new version of a file, in Kafka; its tid."""
        tid = self.queue(path, **changes)
        self.claim()
        self.end(tid)
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
        return self.ledger.write(lambda db: delivery.hear_early(db, self.rules, 100))

    def row(self, tid: bytes, column: str = "state") -> object:
        found = self.ledger.reader().execute(f"SELECT {column} FROM outgoing WHERE tid = ?", (tid,))
        return found.fetchone()[0]

    def counts(self) -> dict[str, int]:
        """What ``status`` shows."""
        tallies = queries.tallies(self.ledger.reader())
        return {one.state: one.count for one in tallies if one.count}

    def resend(self) -> bytes:
        """Let the backoff of what was refused pass; the tid under which it is sent again."""
        before = {tid for (tid,) in self.ledger.reader().execute("SELECT tid FROM outgoing")}
        self.ledger.write(
            lambda db: db.execute("UPDATE outgoing SET resend_at = 1 WHERE resend_at")
        )
        assert self.ledger.write(lambda db: resending.due(db, 100)) == [(ROUTE, TOPIC)]
        after = {tid for (tid,) in self.ledger.reader().execute("SELECT tid FROM outgoing")}
        (new,) = after - before
        return bytes(new)

    def send_again(self) -> bytes:
        tid = self.resend()
        self.claim()
        self.end(tid)
        return tid


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with running_ledger(tmp_path) as ledger:
        yield Sender(ledger)


# Good news


def test_a_receipt_makes_it_delivered(sender: Sender) -> None:
    tid = sender.send()
    assert sender.counts() == {"in_kafka": 1}
    sender.hear(tid)
    assert sender.row(tid) == "delivered"
    assert sender.counts() == {"delivered": 1}
    shown = queries.find(sender.ledger.reader(), "scope3", tid.hex())
    assert (shown.state, shown.done) == (State.DELIVERED, shown.size)


def test_a_receipt_that_comes_again_is_no_news(sender: Sender) -> None:
    tid = sender.send()
    sender.hear(tid)
    for outcome in ("published", "quarantined", "expired"):
        verdict = sender.hear(tid, outcome)
        assert verdict == Verdict(bad=verdict.bad)
        assert not any(verdict.bad.values())
    assert sender.counts() == {"delivered": 1}


@pytest.mark.parametrize("digest", [None, bytes(32)])
def test_good_news_of_another_content_is_none(sender: Sender, digest: bytes | None) -> None:
    tid = sender.send()
    verdict = sender.hear(tid, digest=digest)
    assert sender.row(tid) == "in_kafka"
    assert verdict.bad == {"wrong-digest": 1}
    assert delivery.bad_counts(sender.ledger.reader()) == {TOPIC: {"wrong-digest": 1}}


def test_a_digest_outlives_a_kill_before_the_end_is_noted(sender: Sender) -> None:
    """All was acknowledged, and that was noted with the progress: nothing is read again."""
    tid = sender.queue()
    sender.claim()
    progress = Progress(sender.rows[tid].id, 1, 0, time.time(), DIGEST)
    sender.ledger.write(lambda db: outgoing.note_progress(db, [progress]))
    sender.end(tid, digest=None)  # type: ignore[arg-type]
    sender.hear(tid)
    assert sender.row(tid) == "delivered"


def test_good_news_of_what_has_no_digest_here_is_none(sender: Sender) -> None:
    """As of a transfer that an earlier version of kfd has sent."""
    tid = sender.queue()
    sender.claim()
    sender.end(tid, digest=None)  # type: ignore[arg-type]
    sender.hear(tid, digest=None)
    assert sender.row(tid) == "in_kafka"


def test_a_receipt_for_nothing_of_ours_changes_nothing(sender: Sender) -> None:
    tid = sender.send()
    assert sender.hear(os.urandom(16)).bad == {"unknown": 1}
    assert not sender.hear(os.urandom(16), ours=False).bad["unknown"], "it may be another sender's"
    assert sender.hear(tid, topic="other").bad == {"wrong-topic": 1}
    assert sender.counts() == {"in_kafka": 1}
    assert delivery.bad_counts(sender.ledger.reader()) == {
        TOPIC: {"unknown": 1},
        "other": {"wrong-topic": 1},
    }


def test_as_many_receivers_as_the_route_says(sender: Sender) -> None:
    sender.rules = TWO
    tid = sender.send()
    sender.hear(tid)
    sender.hear(tid)  # the same one again
    assert sender.row(tid) == "in_kafka"
    sender.hear(tid, receiver=LAB3)
    assert sender.row(tid) == "delivered"
    kept = sender.ledger.reader().execute("SELECT count(*) FROM confirmation")
    assert kept.fetchone() == (0,)


def test_a_batch_confirms_many(sender: Sender) -> None:
    tids = [sender.send(b"%d.trc" % number) for number in range(100)]
    heard = [
        Heard("lab2", LAB2, Receipt(tid, Outcome.PUBLISHED, DIGEST), ours=True) for tid in tids
    ]
    verdict = sender.ledger.write(lambda db: delivery.hear(db, TOPIC, heard * 2, {}, [], ONE))
    assert len(verdict.delivered) == 100
    assert sender.counts() == {"delivered": 100}


def test_the_counts_outlive_pruning(sender: Sender) -> None:
    sender.hear(sender.send(b"a"))
    sender.send(b"b")
    sender.ledger.write(lambda db: outgoing.prune(db, time.time() + 1, 10))
    assert sender.counts() == {"delivered": 1, "in_kafka": 1}


# Early


def test_a_receipt_may_come_before_the_acknowledgement(sender: Sender) -> None:
    tid = sender.queue()
    sender.claim()
    sender.hear(tid)
    assert sender.row(tid) == "sending"
    assert not delivery.has_early(sender.ledger.reader())
    sender.end(tid)
    assert delivery.has_early(sender.ledger.reader())
    assert sender.hear_early().delivered
    assert sender.row(tid) == "delivered"
    assert not delivery.has_early(sender.ledger.reader())


def test_an_early_receipt_is_no_better_than_a_late_one(sender: Sender) -> None:
    tid = sender.queue()
    sender.claim()
    sender.hear(tid, digest=bytes(32))
    sender.end(tid)
    assert sender.hear_early().bad == {"wrong-digest": 1}
    assert sender.row(tid) == "in_kafka"


def test_an_early_receipt_for_what_ended_otherwise_goes(sender: Sender) -> None:
    tid = sender.queue()
    sender.claim()
    sender.hear(tid)
    sender.end(tid, "failed")
    sender.hear_early()
    assert not delivery.has_early(sender.ledger.reader())
    assert sender.counts() == {"failed": 1}


def test_early_receipts_have_a_bound(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_EARLY", 5)
    tid = sender.queue()
    sender.claim()
    verdicts = [sender.hear(tid, receiver=os.urandom(16)) for _ in range(8)]
    assert sum(one.bad["too-many-early"] for one in verdicts) == 3


# Bad news


@pytest.mark.parametrize("outcome", ["quarantined", "expired", "lost"])
def test_what_is_not_taken_is_sent_again_a_few_times(sender: Sender, outcome: str) -> None:
    first = tid = sender.send()
    generation = sender.row(tid, "generation")
    for pause in BACKOFF_SECONDS:
        sender.hear(tid, outcome, reason="because")
        assert sender.row(tid, "reason") == f"{outcome} at lab2: because; it is sent again"
        due = resending.next_due(sender.ledger.reader())
        assert due == pytest.approx(time.time() + pause, abs=5)
        assert sender.ledger.write(lambda db: resending.due(db, 10)) == [], "not yet"
        again = sender.send_again()
        assert (sender.row(tid), sender.row(tid, "successor")) == ("cancelled", again)
        assert sender.row(again, "generation") == generation, "it is no newer version"
        tid = again
    assert sender.counts() == {"in_kafka": 1, "cancelled": 3}
    sender.hear(tid, outcome, reason="because")
    assert sender.row(tid) == "failed"
    assert sender.row(tid, "reason") == f"{outcome} at lab2: because (4 times)"
    assert sender.counts() == {"failed": 1, "cancelled": 3}
    assert sender.hear(first).delivered == []


def test_it_is_known_under_its_new_id(sender: Sender) -> None:
    """Else the watcher would send it once more."""
    tid = sender.send()
    sender.hear(tid, "quarantined")
    again = sender.resend()
    accepted = sender.ledger.write(
        lambda db: accepting.accept(db, Offer(ROUTE, TOPIC, [version()], 1000, {}))
    )
    assert (accepted[0].tid, accepted[0].already) == (again, True)


def test_what_finds_no_room_is_sent_again_for_ever(sender: Sender) -> None:
    tid = sender.send()
    for _ in range(10):
        sender.hear(tid, "refused", reason=Reason.TOO_MANY_OPEN)
        tid = sender.send_again()
    sender.hear(tid)
    assert sender.row(tid) == "delivered"
    assert sender.counts() == {"delivered": 1, "cancelled": 10}


def test_bad_news_before_it_is_sent_again_is_heard_once(sender: Sender) -> None:
    tid = sender.send()
    sender.hear(tid, "quarantined")
    assert sender.hear(tid, "lost").refused == []
    assert sender.row(tid, "tries") == 1


def test_good_news_before_it_is_sent_again_is_enough(sender: Sender) -> None:
    tid = sender.send()
    sender.hear(tid, "quarantined", LAB3)
    sender.hear(tid)
    assert sender.row(tid) == "delivered"
    assert resending.next_due(sender.ledger.reader()) is None
    assert sender.counts() == {"delivered": 1}


# Superseded


def test_superseded_by_itself_is_good_news(sender: Sender) -> None:
    """It was published under an earlier id."""
    tid = sender.send()
    sender.hear(tid, "superseded", generation=sender.row(tid, "generation"))
    assert sender.row(tid) == "delivered"


@pytest.mark.parametrize("known", [True, False])
def test_superseded_by_our_own_newer_version(sender: Sender, known: bool) -> None:
    old = sender.send()
    new = sender.send(mtime_ns=99)
    generation = sender.row(new, "generation") if known else None
    verdict = sender.hear(old, "superseded", generation=generation)
    assert verdict.outdated
    assert (sender.row(old), sender.row(old, "successor")) == ("cancelled", new)
    assert sender.counts() == {"in_kafka": 1, "cancelled": 1}


def test_superseded_by_what_we_do_not_know(sender: Sender) -> None:
    """This ledger was lost, and made anew while the clock was wrong."""
    tid = sender.send()
    theirs = int((time.time() + 3600) * 1_000_000)
    sender.hear(tid, "superseded", generation=theirs)
    again = sender.send_again()
    generation = sender.row(again, "generation")
    assert isinstance(generation, int)
    assert generation > theirs
    newest = sender.send(mtime_ns=99)
    later = sender.row(newest, "generation")
    assert isinstance(later, int)
    assert later > generation


def test_superseded_is_heard_once_until_it_is_sent_again(sender: Sender) -> None:
    """Two receivers say so, in one batch: it must not pass for outdated by itself."""
    tid = sender.send()
    theirs = int((time.time() + 3600) * 1_000_000)
    receipt = Receipt(tid, Outcome.SUPERSEDED, DIGEST, theirs)
    heard = [Heard("lab2", LAB2, receipt, ours=True), Heard("lab3", LAB3, receipt, ours=True)]
    verdict = sender.ledger.write(lambda db: delivery.hear(db, TOPIC, heard, {}, [], ONE))
    assert (len(verdict.refused), verdict.outdated) == (1, [])
    assert sender.row(tid) == "in_kafka"
    assert sender.send_again() != tid


def test_superseded_by_a_forger(sender: Sender) -> None:
    """Nobody can push our generations to where receivers refuse them, or no newer one is left."""
    tid = sender.send()
    before = sender.row(tid, "generation")
    assert isinstance(before, int)
    assert sender.hear(tid, "superseded", generation=2**63 - 1).bad == {"future-generation": 1}
    assert sender.hear(tid, "superseded", generation=before - 1).bad == {"contradictory": 1}
    assert (sender.row(tid), sender.row(tid, "generation")) == ("in_kafka", before)
    assert resending.next_due(sender.ledger.reader()) is None


# A topic that was made again


def test_what_was_in_a_deleted_topic_is_sent_again(sender: Sender) -> None:
    delivered, lost = sender.send(b"a"), sender.send(b"b")
    sender.hear(delivered)
    later = sender.queue(b"c")
    sender.claim("topic-2")
    sender.end(later)
    elsewhere = sender.send(b"d", topic="other")
    after, again = sender.ledger.write(
        lambda db: resending.from_old_topic(db, TOPIC, "topic-2", 0, 100)
    )
    assert (after, again) == (None, [(ROUTE, TOPIC)])
    assert sender.row(lost) == "cancelled"
    assert [sender.row(tid) for tid in (delivered, later, elsewhere)] == [
        "delivered",
        "in_kafka",
        "in_kafka",
    ]
    assert sender.row(lost, "reason") == (
        "the topic was deleted and made again before a receiver confirmed it"
    )


def test_an_old_topic_is_gone_through_in_pages(sender: Sender) -> None:
    tids = [sender.send(b"%d" % number) for number in range(5)]
    after: int | None = 0
    pages = 0
    while after is not None:
        start = after
        after, _ = sender.ledger.write(
            lambda db, start=start: resending.from_old_topic(db, TOPIC, "topic-2", start, 2)  # type: ignore[misc]
        )
        pages += 1
    assert pages == 3
    assert {sender.row(tid) for tid in tids} == {"cancelled"}
    assert sender.counts() == {"queued": 5, "cancelled": 5}


# Where to read on


def test_positions_are_those_of_one_topic(sender: Sender) -> None:
    places = [Position("t.receipts", "id-1", 0, 7), Position("t.receipts", "id-1", 1, 9)]
    sender.ledger.write(lambda db: delivery.hear(db, "t", [], {"foreign": 2}, places, ONE))
    reader = sender.ledger.reader()
    assert delivery.positions(reader, "t.receipts", "id-1") == {0: 7, 1: 9}
    assert delivery.positions(reader, "t.receipts", "id-2") == {}
    assert delivery.bad_counts(reader) == {"t": {"foreign": 2}}


def test_killed_before_the_commit_it_is_read_again(tmp_path: Path) -> None:
    """Positions and what was read stand in one transaction."""
    with running_ledger(tmp_path) as ledger:
        tid = Sender(ledger).send()
    heard = [Heard("lab2", LAB2, Receipt(tid, Outcome.PUBLISHED, DIGEST), ours=True)]
    places = [Position("t.receipts", "id-1", 0, 7)]

    def killed() -> None:
        with running_ledger(tmp_path) as ledger:

            def work(db: object) -> None:
                delivery.hear(db, TOPIC, heard, {}, places, ONE)  # type: ignore[arg-type]
                kill_self()

            ledger.write(work)

    assert in_child(killed) == -9
    with running_ledger(tmp_path) as ledger:
        again = Sender(ledger)
        assert delivery.positions(ledger.reader(), "t.receipts", "id-1") == {}
        assert again.row(tid) == "in_kafka"
        ledger.write(lambda db: delivery.hear(db, TOPIC, heard, {}, places, ONE))
        assert again.counts() == {"delivered": 1}


def test_topics_that_wait_for_receipts(sender: Sender) -> None:
    tid = sender.send()
    sender.send(b"x", topic="other")
    assert delivery.unconfirmed(sender.ledger.reader()) == {TOPIC, "other"}
    sender.hear(tid)
    assert delivery.unconfirmed(sender.ledger.reader()) == {"other"}


def test_confirmations_of_what_is_gone_are_forgotten(sender: Sender) -> None:
    sender.rules = TWO
    kept, gone = sender.send(b"a"), sender.send(b"b")
    sender.hear(kept)
    sender.hear(gone)
    sender.ledger.write(lambda db: db.execute("DELETE FROM outgoing WHERE tid = ?", (gone,)))
    sender.ledger.write(delivery.forget_confirmations)
    left = sender.ledger.reader().execute("SELECT tid FROM confirmation").fetchall()
    assert left == [(kept,)]


# What is disposed of then


def found(sender: Sender) -> list[bytes]:
    return [one.path for one in disposals.waiting(sender.ledger.reader(), ROUTE, 0, 100)]


def test_only_delivered_files_that_the_watcher_found_are_disposed_of(sender: Sender) -> None:
    sender.rules = DISPOSING
    sender.hear(sender.send(b"watched"))
    sender.hear(sender.send(b"asked for", uid=1000))
    sender.hear(sender.send(b"of another topic", topic="other"), topic="other")
    refused = sender.send(b"refused")
    sender.hear(refused, "quarantined")
    assert found(sender) == [b"watched"]
    assert disposals.routes(sender.ledger.reader()) == {ROUTE}
    (one,) = disposals.waiting(sender.ledger.reader(), ROUTE, 0, 1)
    assert (one.source, one.device, one.inode, one.size, one.mtime_ns) == (
        *(b"/srv/scope3/watched", 1, 2, 3, 4),
    )
    sender.ledger.write(lambda db: disposals.over(db, [one.id]))
    assert found(sender) == []


def test_what_somebody_asked_for_is_not_disposed_of_before_it_is_sent(sender: Sender) -> None:
    reader = sender.ledger.reader()
    source = version(b"a").source
    tid = sender.queue(b"a", topic="other", uid=1000)
    sender.queue(b"b")  # by the watcher
    assert disposals.still_asked_for(reader, [source, version(b"b").source]) == {source}
    sender.claim()
    assert disposals.still_asked_for(reader, [source]) == {source}
    sender.end(tid)
    assert disposals.still_asked_for(reader, [source]) == set()
