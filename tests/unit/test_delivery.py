"""What receipts do to the ledger of a sender, and what they must not do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kfd.control import State
from kfd.daemon.ledger import confirmations, delivery, disposals, outgoing, queries, receiptreading
from kfd.daemon.ledger.conclusions import Verdict
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.outgoing import Progress
from kfd.daemon.ledger.receiptreading import Position
from kfd.receipts import Outcome, Receipt
from tests.parts import in_child, kill_self, running_ledger, version
from tests.sender import DIGEST, DISPOSING, LAB2, LAB3, ONE, ROUTE, TOPIC, TWO, Sender


def test_a_receipt_makes_it_delivered(sender: Sender) -> None:
    tid = sender.send()
    assert sender.counts() == {"in_kafka": 1}
    sender.hear(tid)
    assert (sender.row(tid), sender.row(tid, "receivers")) == ("delivered", "lab2")
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
    assert receiptreading.bad_counts(sender.ledger.reader()) == {TOPIC: {"wrong-digest": 1}}


def test_a_digest_outlives_a_kill_before_the_end_is_noted(sender: Sender) -> None:
    """All was acknowledged, and that was noted with the progress: nothing is read again."""
    tid = sender.queue()
    sender.claim()
    progress = Progress(sender.rows[tid].id, 1, 0, time.time(), DIGEST)
    sender.ledger.write(lambda db: outgoing.note_progress(db, [progress]))
    sender.end(tid, digest=None)
    sender.hear(tid)
    assert sender.row(tid) == "delivered"


def test_good_news_of_what_has_no_digest_here_is_none(sender: Sender) -> None:
    """As of a transfer that an earlier version of kfd has sent."""
    tid = sender.queue()
    sender.claim()
    sender.end(tid, digest=None)
    sender.hear(tid, digest=None)
    assert sender.row(tid) == "in_kafka"


def test_a_receipt_for_nothing_of_ours_changes_nothing(sender: Sender) -> None:
    tid = sender.send()
    assert sender.hear(os.urandom(16)).bad == {"unknown": 1}
    assert not sender.hear(os.urandom(16), ours=False).bad["unknown"], "it may be another sender's"
    assert sender.hear(tid, topic="other").bad == {"wrong-topic": 1}
    assert sender.counts() == {"in_kafka": 1}
    assert receiptreading.bad_counts(sender.ledger.reader()) == {
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
    assert (sender.row(tid), sender.row(tid, "receivers")) == ("delivered", "lab2 lab3")
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


def test_a_receipt_may_come_before_the_acknowledgement(sender: Sender) -> None:
    tid = sender.queue()
    sender.claim()
    sender.hear(tid)
    assert sender.row(tid) == "sending"
    assert not confirmations.has_early(sender.ledger.reader())
    sender.end(tid)
    assert confirmations.has_early(sender.ledger.reader())
    assert sender.hear_early().delivered
    assert sender.row(tid) == "delivered"
    assert not confirmations.has_early(sender.ledger.reader())


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
    sender.end(tid, "cancelled")
    sender.hear_early()
    assert not confirmations.has_early(sender.ledger.reader())
    assert sender.counts() == {"cancelled": 1}


def test_early_receipts_have_a_bound(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmations, "MAX_EARLY", 5)
    tid = sender.queue()
    sender.claim()
    verdicts = [sender.hear(tid, receiver=os.urandom(16)) for _ in range(8)]
    assert sum(one.bad["too-many-early"] for one in verdicts) == 3


def test_positions_are_those_of_one_topic(sender: Sender) -> None:
    places = [Position("t.receipts", "id-1", 0, 7), Position("t.receipts", "id-1", 1, 9)]
    sender.ledger.write(lambda db: delivery.hear(db, "t", [], {"foreign": 2}, places, ONE))
    reader = sender.ledger.reader()
    assert receiptreading.positions(reader, "t.receipts", "id-1") == {0: 7, 1: 9}
    assert receiptreading.positions(reader, "t.receipts", "id-2") == {}
    assert receiptreading.bad_counts(reader) == {"t": {"foreign": 2}}


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
        assert receiptreading.positions(ledger.reader(), "t.receipts", "id-1") == {}
        assert again.row(tid) == "in_kafka"
        ledger.write(lambda db: delivery.hear(db, TOPIC, heard, {}, places, ONE))
        assert again.counts() == {"delivered": 1}


def test_topics_that_wait_for_receipts(sender: Sender) -> None:
    tid = sender.send()
    sender.send(b"x", topic="other")
    assert receiptreading.unconfirmed(sender.ledger.reader()) == {TOPIC, "other"}
    sender.hear(tid)
    assert receiptreading.unconfirmed(sender.ledger.reader()) == {"other"}


def test_confirmations_of_what_is_gone_are_forgotten(sender: Sender) -> None:
    sender.rules = TWO
    kept, gone = sender.send(b"a"), sender.send(b"b")
    sender.hear(kept)
    sender.hear(gone)
    sender.ledger.write(lambda db: db.execute("DELETE FROM outgoing WHERE tid = ?", (gone,)))
    sender.ledger.write(confirmations.forget)
    left = sender.ledger.reader().execute("SELECT tid FROM confirmation").fetchall()
    assert left == [(kept,)]


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
