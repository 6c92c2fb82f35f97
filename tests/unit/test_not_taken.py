"""What no receiver has taken, or what was lost with its topic, is sent again, or given up."""

from __future__ import annotations

import time

import pytest

from kfd.daemon.ledger import accepting, delivery, resending
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.conclusions import BACKOFF_SECONDS
from kfd.daemon.ledger.confirmations import Heard
from kfd.receipts import Outcome, Receipt
from kfd.wire import Reason
from tests.parts import version
from tests.sender import DIGEST, LAB2, LAB3, ONE, ROUTE, TOPIC, Sender


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
        assert sender.row(tid, "tries") == 0, "it uses up none of its tries"
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


def test_what_was_in_a_deleted_topic_is_sent_again(sender: Sender) -> None:
    delivered, lost = sender.send(b"a"), sender.send(b"b")
    sender.hear(delivered)
    later = sender.queue(b"c")
    sender.claim("topic-2")
    sender.end(later)
    elsewhere = sender.send(b"d", topic="other")
    again = sender.ledger.write(lambda db: resending.from_old_topic(db, TOPIC, "topic-2", 100))
    assert again == [(ROUTE, TOPIC)]
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
    pages = []
    while not pages or pages[-1] == 2:
        again = sender.ledger.write(lambda db: resending.from_old_topic(db, TOPIC, "topic-2", 2))
        pages.append(len(again))
    assert pages == [2, 2, 1]
    assert {sender.row(tid) for tid in tids} == {"cancelled"}
    assert sender.counts() == {"queued": 5, "cancelled": 5}
