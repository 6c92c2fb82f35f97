"""Assembly: every rule by example, and any sequence of records against a simple model.

The model keeps what the assembler must not need: all the bytes, and the whole history.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from kfd.assembly import (
    Aborted,
    Append,
    Assembler,
    Drop,
    Failed,
    OpenTransfer,
    Skip,
    State,
    Verdict,
)
from kfd.wire import (
    FLAG_ABORT,
    HEADER_NAME,
    BadRecord,
    Begin,
    End,
    Header,
    Reason,
    chunk_count,
    decode_headers,
    encode_header,
)

TOPIC = "lecroy_files"
CHUNK = 4
MAX_SIZE = 64


@dataclass(frozen=True)
class File:
    """A file to send, and the records that a right sender makes of it."""

    tid: bytes
    content: bytes

    @property
    def begin(self) -> Begin:
        size = len(self.content)
        return Begin(
            path=b"run.trc",
            topic=TOPIC,
            origin="scope3",
            instance=bytes(16),
            generation=1,
            size=size,
            mtime_ns=0,
            mode=0o640,
            chunk_size=CHUNK,
            chunks=chunk_count(size, CHUNK),
            meta={},
        )

    def chunk(self, index: int) -> bytes:
        return self.content[index * CHUNK : (index + 1) * CHUNK]

    def header(self, index: int) -> Header:
        begin = self.begin
        end = End(begin.size, begin.chunks, blake3(self.content).digest())
        last = index == begin.chunks - 1
        return Header(self.tid, index, 0, None if index else begin, end if last else None)

    def records(self) -> Iterator[tuple[Header, bytes]]:
        for index in range(self.begin.chunks):
            yield self.header(index), self.chunk(index)


def tid_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def file_of(number: int, size: int) -> File:
    return File(tid_of(number), bytes((number + place) % 256 for place in range(size)))


ONE, TWO, THREE, EMPTY = file_of(1, 3), file_of(2, 8), file_of(3, 10), file_of(4, 0)


@dataclass
class Feed:
    """Gives records to an assembler at rising offsets."""

    assembler: Assembler = field(default_factory=lambda: Assembler(TOPIC, MAX_SIZE))
    known: set[bytes] = field(default_factory=set)
    offset: int = 0

    def accept(self, header: Header, value: bytes | None) -> Verdict:
        verdict = self.assembler.accept(self.offset, header, value, self.known)
        self.offset += 1
        return verdict

    def send(self, file: File, *indexes: int) -> list[Verdict]:
        return [self.accept(file.header(index), file.chunk(index)) for index in indexes]

    def reason(self, header: Header, value: bytes | None) -> Reason:
        before = state_of(self.assembler)
        verdict = self.accept(header, value)
        assert isinstance(verdict, Drop)
        assert state_of(self.assembler) == before
        return verdict.reason


def state_of(assembler: Assembler) -> list[object]:
    """All that a dropped record must leave as it was."""
    return [
        (transfer.tid, transfer.first_offset, transfer.next_index, transfer.received,
         transfer.state, transfer.digest, transfer.hasher.digest())
        for transfer in assembler.open_transfers()
    ]  # fmt: skip


def completed(verdict: Verdict) -> OpenTransfer | None:
    return verdict.transfer if isinstance(verdict, Append) and verdict.complete else None


@pytest.fixture
def feed() -> Feed:
    return Feed()


def abort(file: File, index: int = 0) -> Header:
    return Header(file.tid, index, FLAG_ABORT)


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


@given(st.data())
def test_interleaved_files_with_duplicates_all_come_out(data: st.DataObject) -> None:
    """Each file's records in order, the files mixed in any way, any prefix sent again."""
    files = [file_of(number, data.draw(st.integers(0, 24))) for number in range(5)]
    streams = []
    for file in files:
        records = list(file.records())
        again = data.draw(st.integers(0, len(records)))
        streams.append(records[:again] + records)
    feed, whole = Feed(), []
    while streams:
        stream = data.draw(st.sampled_from(streams))
        verdict = feed.accept(*stream.pop(0))
        assert isinstance(verdict, Append) or verdict == Drop(Reason.DUPLICATE)
        if transfer := completed(verdict):
            whole.append(transfer.digest)
        streams = [stream for stream in streams if stream]
    assert sorted(whole) == sorted(blake3(file.content).digest() for file in files)


class Partition(RuleBasedStateMachine):
    """Any sequence of right and wrong records, closings and voidings, against a model."""

    headers = Bundle("headers")

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed(Assembler(TOPIC, MAX_SIZE, max_open=3))
        self.bytes: dict[bytes, bytes] = {}  # what the verdicts told to append
        self.first: dict[bytes, int] = {}  # of what is open or voided
        self.open: set[bytes] = set()

    @rule(
        target=headers,
        number=st.integers(0, 4),
        size=st.sampled_from([0, 3, 4, 5, 8, 10, MAX_SIZE, MAX_SIZE + 1]),
    )
    def file(self, number: int, size: int) -> object:
        file = file_of(number, size)
        return multiple(*[(file, header, value) for header, value in file.records()])

    @rule(record=headers)
    def right(self, record: tuple[File, Header, bytes]) -> None:
        self.accept(record[1], record[2])

    @rule(data=st.data())
    def next_of_an_open_one(self, data: st.DataObject) -> None:
        transfers = self.feed.assembler.open_transfers()
        receiving = [transfer for transfer in transfers if transfer.state is State.RECEIVING]
        if receiving:
            transfer = data.draw(st.sampled_from(receiving))
            file = file_of(int.from_bytes(transfer.tid, "big"), transfer.begin.size)
            self.accept(file.header(transfer.next_index), file.chunk(transfer.next_index))

    @rule(record=headers, value=st.none() | st.binary(max_size=CHUNK + 1))
    def other_value(self, record: tuple[File, Header, bytes], value: bytes | None) -> None:
        self.accept(record[1], value)

    @rule(record=headers, index=st.integers(0, 20))
    def other_index(self, record: tuple[File, Header, bytes], index: int) -> None:
        self.accept(dataclasses.replace(record[1], index=index), record[2])

    @rule(record=headers, size=st.integers(0, 20), digest=st.binary(min_size=32, max_size=32))
    def other_end(self, record: tuple[File, Header, bytes], size: int, digest: bytes) -> None:
        end = End(size, record[1].index + 1, digest)
        self.accept(dataclasses.replace(record[1], end=end), record[2])

    @rule(record=headers)
    def abort(self, record: tuple[File, Header, bytes]) -> None:
        self.accept(abort(record[0]), b"")

    @rule(number=st.integers(0, 4), known=st.booleans())
    def close(self, number: int, known: bool) -> None:
        tid = tid_of(number)
        self.feed.assembler.close(tid)
        if known and tid in self.first:
            self.feed.known.add(tid)
        self.forget(tid)

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """As the consumer does: forget, then seek back before anything else."""
        if self.open:
            tid = data.draw(st.sampled_from(sorted(self.open)))
            self.feed.offset = self.feed.assembler.void(tid)
            assert self.feed.offset == self.first[tid]
            self.open.discard(tid)

    def forget(self, tid: bytes) -> None:
        self.open.discard(tid)
        self.first.pop(tid, None)

    def accept(self, header: Header, value: bytes | None) -> None:
        """What the decoder refuses never reaches the assembler."""
        try:
            header = decode_headers([(HEADER_NAME, encode_header(header))])
        except BadRecord:
            return
        offset = self.feed.offset
        before = state_of(self.feed.assembler)
        verdict = self.feed.accept(header, value)
        if isinstance(verdict, Drop | Skip):
            assert state_of(self.feed.assembler) == before
            if isinstance(verdict, Drop) and header.begin is not None and value is not None:
                self.refused(header.tid, offset)
            return
        transfer = verdict.transfer
        assert transfer.tid == header.tid
        assert transfer.tid not in self.feed.known
        if isinstance(verdict, Append):
            self.append(verdict, offset, value)
        else:
            assert (transfer.state is State.ABORTED) == isinstance(verdict, Aborted)
            self.opened(transfer)

    def refused(self, tid: bytes, offset: int) -> None:
        """A voided transfer is given up when what stands at its first offset is refused."""
        voided = tid not in self.open and tid not in self.feed.known
        if voided and self.first.get(tid) == offset:
            del self.first[tid]

    def append(self, verdict: Append, offset: int, value: bytes | None) -> None:
        transfer = verdict.transfer
        assert value is not None
        assert verdict.first == (transfer.next_index == 1)
        if verdict.first:
            self.bytes[transfer.tid] = b""
            assert transfer.first_offset == offset
        self.opened(transfer)
        self.bytes[transfer.tid] += value
        content = self.bytes[transfer.tid]
        assert transfer.received == len(content) <= transfer.begin.size
        assert verdict.complete == (transfer.state is State.COMPLETE)
        if verdict.complete:
            assert transfer.digest == blake3(content).digest()
            assert len(content) == transfer.begin.size
            assert content == file_of(int.from_bytes(transfer.tid, "big"), len(content)).content

    def opened(self, transfer: OpenTransfer) -> None:
        self.open.add(transfer.tid)
        self.first[transfer.tid] = transfer.first_offset

    @invariant()
    def the_open_ones_are_those_of_the_model(self) -> None:
        transfers = self.feed.assembler.open_transfers()
        assert {transfer.tid for transfer in transfers} == self.open
        assert len([t for t in transfers if t.begin.chunks > 1 and t.state is State.RECEIVING]) <= 3

    @invariant()
    def the_safe_offset_is_the_least_that_is_held(self) -> None:
        position = self.feed.offset
        least = min([*self.first.values(), position])
        assert self.feed.assembler.safe_offset(position) == least


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
