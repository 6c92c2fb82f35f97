"""What becomes of each record: appended, dropped with a reason, or the end of its transfer."""

from __future__ import annotations

import dataclasses

import pytest
from blake3 import blake3

from kfd.transfer import State
from kfd.verdict import Aborted, Append, Failed
from kfd.wire import End, Header, Reason
from tests.unit.assembly.files import (
    CHUNK,
    EMPTY,
    MAX_SIZE,
    ONE,
    THREE,
    Feed,
    File,
    abort,
    completed,
    file_of,
)


@pytest.mark.parametrize("file", [ONE, EMPTY, file_of(5, CHUNK)])
def test_a_file_of_one_record_is_one_verdict(feed: Feed, file: File) -> None:
    [verdict] = feed.send(file, 0)
    assert isinstance(verdict, Append)
    assert (verdict.first, verdict.complete) == (True, True)
    assert verdict.transfer.state is State.COMPLETE
    assert verdict.transfer.digest == blake3(file.content).digest()


def test_a_file_of_three_records(feed: Feed) -> None:
    verdicts = feed.send(THREE, 0, 1, 2)
    flags = [(v.first, v.complete) for v in verdicts if isinstance(v, Append)]
    assert flags == [(True, False), (False, False), (False, True)]
    [transfer] = feed.assembler.open_transfers()
    assert (transfer.tid, transfer.begin) == (THREE.tid, THREE.begin)
    assert (transfer.received, transfer.next_index, transfer.first_offset) == (10, 3, 0)


def test_what_was_read_before_is_a_duplicate(feed: Feed) -> None:
    feed.send(THREE, 0, 1)
    assert feed.reason(THREE.header(0), THREE.chunk(0)) is Reason.DUPLICATE
    assert feed.reason(THREE.header(1), THREE.chunk(1)) is Reason.DUPLICATE


def test_any_record_of_a_complete_transfer_is_a_duplicate(feed: Feed) -> None:
    feed.send(THREE, 0, 1, 2)
    for header, value in THREE.records():
        assert feed.reason(header, value) is Reason.DUPLICATE
    assert feed.reason(abort(THREE), b"") is Reason.DUPLICATE


def test_any_record_of_a_closed_transfer_is_a_duplicate(feed: Feed) -> None:
    feed.known.add(THREE.tid)
    for header, value in THREE.records():
        assert feed.reason(header, value) is Reason.DUPLICATE
    assert feed.reason(abort(THREE), b"") is Reason.DUPLICATE


def test_a_higher_index_is_a_gap_and_the_right_one_may_still_come(feed: Feed) -> None:
    feed.send(THREE, 0)
    assert feed.reason(THREE.header(2), THREE.chunk(2)) is Reason.GAP
    assert completed(feed.send(THREE, 1, 2)[-1])


def test_a_record_of_an_unknown_transfer_is_an_orphan(feed: Feed) -> None:
    assert feed.reason(THREE.header(1), THREE.chunk(1)) is Reason.ORPHAN
    assert feed.reason(abort(THREE), b"") is Reason.ORPHAN


@pytest.mark.parametrize("length", [0, CHUNK - 1, CHUNK + 1])
def test_a_chunk_of_another_length_is_dropped_and_the_right_one_may_still_come(
    feed: Feed, length: int
) -> None:
    assert feed.reason(THREE.header(0), bytes(length)) is Reason.MALFORMED
    feed.send(THREE, 0)
    assert feed.reason(THREE.header(1), bytes(length)) is Reason.MALFORMED
    assert isinstance(feed.send(THREE, 1)[0], Append)


def test_the_last_chunk_is_exactly_the_rest(feed: Feed) -> None:
    feed.send(THREE, 0, 1)
    for value in (b"", b"x", bytes(CHUNK)):
        assert feed.reason(THREE.header(2), value) is Reason.MALFORMED
    assert completed(feed.send(THREE, 2)[0])


@pytest.mark.parametrize("header", [EMPTY.header(0), THREE.header(0), abort(THREE)])
def test_a_value_of_none_is_malformed_even_for_an_empty_file(feed: Feed, header: Header) -> None:
    assert feed.reason(header, None) is Reason.MALFORMED


def test_an_abort_with_a_value_is_malformed(feed: Feed) -> None:
    feed.send(THREE, 0)
    assert feed.reason(abort(THREE), b"x") is Reason.MALFORMED


@pytest.mark.parametrize("index", [0, 1, 2, 7])
def test_an_abort_ends_an_open_transfer_whatever_its_index(feed: Feed, index: int) -> None:
    feed.send(THREE, 0)
    verdict = feed.accept(abort(THREE, index), b"")
    assert isinstance(verdict, Aborted)
    assert verdict.transfer.state is State.ABORTED
    assert feed.reason(THREE.header(1), THREE.chunk(1)) is Reason.DUPLICATE
    assert feed.assembler.safe_offset(feed.offset) == 0
    feed.assembler.close(THREE.tid)
    assert feed.assembler.safe_offset(feed.offset) == feed.offset


@pytest.mark.parametrize("file", [ONE, THREE])
def test_a_file_that_is_not_what_was_sent_fails(feed: Feed, file: File) -> None:
    last = file.begin.chunks - 1
    feed.send(file, *range(last))
    damaged = bytes(byte ^ 1 for byte in file.chunk(last))
    verdict = feed.accept(file.header(last), damaged)
    assert isinstance(verdict, Failed)
    assert verdict.reason is Reason.DIGEST_MISMATCH
    assert (verdict.transfer.state, verdict.transfer.digest) == (State.FAILED, None)
    assert feed.reason(file.header(last), file.chunk(last)) is Reason.DUPLICATE
    assert feed.assembler.safe_offset(feed.offset) == 0


def test_an_end_in_the_wrong_place_is_dropped(feed: Feed) -> None:
    feed.send(THREE, 0)
    early = dataclasses.replace(THREE.header(1), end=End(8, 2, bytes(32)))
    assert feed.reason(early, THREE.chunk(1)) is Reason.MALFORMED_END
    feed.send(THREE, 1)
    last = THREE.header(2)
    assert feed.reason(dataclasses.replace(last, end=None), THREE.chunk(2)) is Reason.MALFORMED_END
    other = dataclasses.replace(last, end=End(11, 3, bytes(32)))
    assert feed.reason(other, THREE.chunk(2)) is Reason.MALFORMED_END
    assert completed(feed.send(THREE, 2)[0])


def test_the_first_begin_wins(feed: Feed) -> None:
    feed.send(THREE, 0)
    other = dataclasses.replace(THREE.begin, path=b"other.trc")
    header = dataclasses.replace(THREE.header(0), begin=other)
    assert feed.reason(header, THREE.chunk(0)) is Reason.CONFLICTING_BEGIN
    feed.send(THREE, 1, 2)
    assert feed.reason(header, THREE.chunk(0)) is Reason.CONFLICTING_BEGIN


def test_a_file_of_another_topic_is_refused(feed: Feed) -> None:
    begin = dataclasses.replace(ONE.begin, topic="other")
    header = dataclasses.replace(ONE.header(0), begin=begin)
    assert feed.reason(header, ONE.chunk(0)) is Reason.WRONG_TOPIC


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(feed: Feed) -> None:
    assert isinstance(feed.send(file_of(7, MAX_SIZE), 0)[0], Append)
    large = file_of(8, MAX_SIZE + 1)
    assert feed.reason(large.header(0), large.chunk(0)) is Reason.TOO_BIG
