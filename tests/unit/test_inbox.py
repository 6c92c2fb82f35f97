"""Records of receipts as they are read, before the ledger has them."""

from __future__ import annotations

import pytest

from kfd.daemon.ledger.receiptreading import Position
from kfd.daemon.receipts.inbox import Inbox
from kfd.daemon.receipts.reader import Letter
from kfd.receipts import Outcome, Receipt, encode, key_of

SENDER, RECEIVER = b"1" * 16, b"2" * 16
GOOD = Receipt(b"t" * 16, Outcome.PUBLISHED, bytes(32))
(RECORD,) = encode("lab2", RECEIVER, [GOOD, GOOD])


def letter(
    key: bytes | None, value: bytes | None = RECORD, *, partition: int = 0, offset: int = 7
) -> Letter:
    return Letter("t.receipts", partition, offset, key, value)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(key_of(SENDER))


@pytest.mark.parametrize(("key", "ours"), [(key_of(SENDER), True), (None, False)])
def test_what_is_for_this_sender_or_for_anyone_is_taken(
    inbox: Inbox, key: bytes | None, ours: bool
) -> None:
    assert inbox.empty
    assert inbox.put("t", "id-1", letter(key)) == 2
    assert inbox.has_news
    batch = inbox.take()["t"]
    assert [(one.receiver, one.instance, one.receipt, one.ours) for one in batch.heard] == [
        ("lab2", RECEIVER, GOOD, ours)
    ] * 2
    assert batch.positions == {0: Position("t.receipts", "id-1", 0, 8)}
    assert inbox.empty


@pytest.mark.parametrize("value", [RECORD, b"junk"])
def test_what_is_for_another_sender_is_passed_over(inbox: Inbox, value: bytes) -> None:
    assert inbox.put("t", "id-1", letter(key_of(RECEIVER), value)) == 0
    assert not inbox.has_news
    assert not inbox.empty, "where to read on is news, though not urgent"
    batch = inbox.take()["t"]
    assert (batch.heard, sum(batch.bad.values())) == ([], 0)
    assert batch.positions[0].offset == 8


def test_what_is_no_receipt_is_counted(inbox: Inbox) -> None:
    for offset, value in enumerate((b"junk", None, RECORD)):
        inbox.put("t", "id-1", letter(None, value, offset=offset))
    inbox.put("u", "id-2", letter(None, b"junk", partition=3, offset=9))
    batches = inbox.take()
    assert batches["t"].bad == {"foreign": 2}
    assert len(batches["t"].heard) == 2
    assert batches["t"].positions[0].offset == 3
    assert batches["u"].positions == {3: Position("t.receipts", "id-2", 3, 10)}
