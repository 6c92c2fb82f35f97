"""Transfers that are open: how many, how far one may commit, and those that are read again."""

from __future__ import annotations

from kfd.assembly import Assembler
from kfd.verdict import Append, Skip
from kfd.wire import Reason
from tests.unit.assembly.files import MAX_SIZE, ONE, THREE, TOPIC, TWO, Feed, file_of, tid_of


def test_a_newcomer_beyond_the_limit_is_refused_until_there_is_room() -> None:
    feed = Feed(Assembler(TOPIC, MAX_SIZE, max_open=2))
    first, second, third = (file_of(number, 8) for number in (10, 11, 12))
    feed.send(first, 0)
    feed.send(second, 0)
    assert feed.reason(third.header(0), third.chunk(0)) is Reason.TOO_MANY_OPEN
    assert isinstance(feed.send(ONE, 0)[0], Append)  # one record needs no room
    assert feed.reason(third.header(0), third.chunk(0)) is Reason.TOO_MANY_OPEN
    feed.send(first, 1)  # complete, if not closed: nothing more is to come of it
    assert isinstance(feed.send(third, 0)[0], Append)
    for transfer in feed.assembler.open_transfers():
        feed.assembler.close(transfer.tid)
    assert [len(feed.send(file, 0)) for file in (first, second)] == [1, 1]
    assert feed.reason(third.header(0), third.chunk(0)) is Reason.TOO_MANY_OPEN


def test_the_safe_offset_is_that_of_the_oldest_open_transfer(feed: Feed) -> None:
    assert feed.assembler.safe_offset(0) == 0
    feed.send(ONE, 0)  # offset 0
    feed.send(TWO, 0)  # 1
    feed.send(THREE, 0)  # 2
    assert feed.assembler.safe_offset(3) == 0
    feed.assembler.close(TWO.tid)
    assert feed.assembler.safe_offset(3) == 0
    feed.assembler.close(ONE.tid)
    assert feed.assembler.safe_offset(3) == 2
    feed.assembler.close(THREE.tid)
    assert feed.assembler.safe_offset(3) == 3


def test_what_is_open_is_contained(feed: Feed) -> None:
    feed.send(ONE, 0)
    feed.send(TWO, 0)
    feed.assembler.void(TWO.tid)
    assert ONE.tid in feed.assembler  # complete, not closed
    assert TWO.tid not in feed.assembler
    feed.assembler.close(ONE.tid)
    assert ONE.tid not in feed.assembler


def test_closing_what_is_not_there_is_fine(feed: Feed) -> None:
    feed.assembler.close(ONE.tid)
    assert feed.assembler.safe_offset(5) == 5


def test_a_voided_transfer_is_read_again_and_holds_the_safe_offset(feed: Feed) -> None:
    feed.send(ONE, 0)
    feed.assembler.close(ONE.tid)
    feed.send(THREE, 0, 1)
    feed.send(TWO, 0)
    assert feed.assembler.void(THREE.tid) == 1
    assert feed.assembler.safe_offset(feed.offset) == 1
    assert [transfer.tid for transfer in feed.assembler.open_transfers()] == [TWO.tid]
    # Records fetched before the seek took effect: none of them starts it in the middle.
    assert feed.accept(THREE.header(2), THREE.chunk(2)) == Skip()
    assert feed.accept(THREE.header(0), THREE.chunk(0)) == Skip()
    assert feed.assembler.safe_offset(feed.offset) == 1
    feed.offset = 1
    verdicts = feed.send(THREE, 0, 1, 2)
    flags = [(v.first, v.complete) for v in verdicts if isinstance(v, Append)]
    assert flags == [(True, False), (False, False), (False, True)]
    feed.assembler.close(THREE.tid)
    assert feed.assembler.safe_offset(9) == 3


def test_a_voided_transfer_keeps_its_room() -> None:
    feed = Feed(Assembler(TOPIC, MAX_SIZE, max_open=1))
    feed.send(TWO, 0, 1)
    assert feed.assembler.void(TWO.tid) == 0
    assert feed.reason(THREE.header(0), THREE.chunk(0)) is Reason.TOO_MANY_OPEN
    feed.offset = 0
    assert isinstance(feed.send(TWO, 0)[0], Append)


def test_a_voided_transfer_that_is_refused_now_is_given_up(feed: Feed) -> None:
    feed.send(THREE, 0)
    feed.assembler.void(THREE.tid)
    feed.assembler.max_size = 5
    feed.offset = 0
    assert feed.reason(THREE.header(0), THREE.chunk(0)) is Reason.TOO_BIG
    assert feed.assembler.safe_offset(7) == 7


def test_a_voided_transfer_whose_head_is_gone_can_be_closed(feed: Feed) -> None:
    feed.send(THREE, 0)
    feed.assembler.void(THREE.tid)
    feed.assembler.close(THREE.tid)
    assert feed.assembler.safe_offset(7) == 7


def test_the_safe_offset_after_a_seek_back_to_what_was_refused_before() -> None:
    feed = Feed(Assembler(TOPIC, MAX_SIZE, max_open=2))
    first, refused, later = (file_of(number, 8) for number in (20, 21, 22))
    feed.send(first, 0)
    feed.send(file_of(23, 8), 0)
    assert feed.reason(refused.header(0), refused.chunk(0)) is Reason.TOO_MANY_OPEN
    feed.assembler.close(tid_of(23))
    feed.send(later, 0)
    feed.assembler.close(first.tid)
    feed.offset = 2
    assert feed.assembler.safe_offset(feed.offset) == 2  # sought back, nothing read again yet
    feed.send(refused, 0)
    assert [t.first_offset for t in feed.assembler.open_transfers()] == [2, 3]
    assert feed.assembler.safe_offset(9) == 2
