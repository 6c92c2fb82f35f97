"""Any order of records of any files, with duplicates and losses, against a model."""

from __future__ import annotations

import dataclasses

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from kfd.assembly import Assembler
from kfd.transfer import OpenTransfer, State
from kfd.verdict import Aborted, Append, Drop, Skip
from kfd.wire import HEADER_NAME, BadRecord, End, Header, Reason, decode_headers, encode_header
from tests.unit.assembly.files import (
    CHUNK,
    MAX_SIZE,
    TOPIC,
    Feed,
    File,
    abort,
    completed,
    file_of,
    state_of,
    tid_of,
)


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
