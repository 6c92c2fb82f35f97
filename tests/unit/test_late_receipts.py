"""Good news after the sender has given up: published is published, whenever one hears of it."""

from __future__ import annotations

import pytest

from kfd.daemon.ledger import confirmations, delivery, disposals, resending
from kfd.daemon.ledger.conclusions import Verdict
from kfd.daemon.ledger.confirmations import Heard
from kfd.receipts import Outcome, Receipt
from tests.sender import DIGEST, DISPOSING, LAB2, LAB3, ROUTE, TOPIC, TWO, Sender


def test_what_had_failed_is_delivered(sender: Sender) -> None:
    tid = sender.give_up()
    assert sender.counts() == {"failed": 1, "cancelled": 3}
    assert sender.hear(tid).delivered
    assert sender.counts() == {"delivered": 1, "cancelled": 3}
    assert [sender.row(tid, column) for column in ("state", "reason", "fix")] == [
        "delivered", "", "",
    ]  # fmt: skip


def test_what_had_failed_and_is_there_under_an_earlier_id_is_delivered(sender: Sender) -> None:
    tid = sender.give_up()
    sender.hear(tid, "superseded", generation=sender.row(tid, "generation"))
    assert sender.row(tid) == "delivered"


@pytest.mark.parametrize("digest", [None, bytes(32)])
def test_late_good_news_of_another_content_is_none(sender: Sender, digest: bytes | None) -> None:
    tid = sender.give_up()
    generation = sender.row(tid, "generation")
    assert sender.hear(tid, digest=digest).bad["wrong-digest"] == 1
    assert sender.counts() == {"failed": 1, "cancelled": 3}
    assert sender.row(tid, "generation") == generation
    assert resending.next_due(sender.ledger.reader()) is None


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.PUBLISHED])
def test_late_bad_news_is_none(sender: Sender, outcome: Outcome) -> None:
    tid = sender.give_up()
    verdict = sender.hear(tid, outcome)
    assert verdict == Verdict(bad=verdict.bad)
    assert not any(verdict.bad.values())
    assert (sender.row(tid), sender.row(tid, "resend_at")) == ("failed", None)


def test_what_was_never_read_to_its_end_cannot_be_delivered(sender: Sender) -> None:
    """It failed here, and has no digest: whoever claims to have it, has something else."""
    tid = sender.queue()
    sender.claim()
    sender.end(tid, "failed", digest=None)
    for digest in (None, DIGEST):
        sender.hear(tid, digest=digest)
    assert sender.counts() == {"failed": 1}


def test_bad_and_good_news_in_one_batch(sender: Sender) -> None:
    """The first gives it up, the second finds it there."""
    tid = sender.send()
    for _ in range(3):
        sender.hear(tid, "quarantined")
        tid = sender.send_again()
    heard = [
        Heard("lab3", LAB3, Receipt(tid, Outcome.QUARANTINED), ours=True),
        Heard("lab2", LAB2, Receipt(tid, Outcome.PUBLISHED, DIGEST), ours=True),
    ]
    verdict = sender.ledger.write(lambda db: delivery.hear(db, TOPIC, heard, {}, [], sender.rules))
    assert (len(verdict.failed), len(verdict.delivered)) == (1, 1)
    assert sender.counts() == {"delivered": 1, "cancelled": 3}


def test_good_news_that_came_early_outlive_a_failure(sender: Sender) -> None:
    tid = sender.queue()
    sender.claim()
    sender.hear(tid)
    sender.end(tid, "failed")
    assert confirmations.has_early(sender.ledger.reader())
    assert sender.hear_early().delivered
    assert sender.counts() == {"delivered": 1}


def test_each_of_several_receivers_counts_once_before_or_after(sender: Sender) -> None:
    sender.rules = TWO
    tid = sender.send()
    for _ in range(3):
        sender.hear(tid, "quarantined", LAB3)
        tid = sender.send_again()
    sender.hear(tid, receiver=LAB2)
    sender.hear(tid, "quarantined", LAB3)
    assert sender.row(tid) == "failed"
    sender.hear(tid, receiver=LAB2)
    assert sender.row(tid) == "failed", "it is the same receiver"
    sender.ledger.write(confirmations.forget)
    sender.hear(tid, receiver=LAB3)
    assert sender.row(tid) == "delivered"


def test_then_is_for_late_ones_too(sender: Sender) -> None:
    sender.rules = DISPOSING
    watched, asked_for = sender.give_up(b"watched"), sender.give_up(b"asked for", uid=1000)
    sender.hear(watched)
    sender.hear(asked_for)
    waiting = disposals.waiting(sender.ledger.reader(), ROUTE, 0, 100)
    assert [(one.tid, one.path) for one in waiting] == [(watched, b"watched")]
