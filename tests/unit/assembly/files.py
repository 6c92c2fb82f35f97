"""Files as records, and an assembler that is fed with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from kfd.assembly import Assembler
from kfd.transfer import OpenTransfer
from kfd.verdict import Append, Drop, Verdict
from kfd.wire import FLAG_ABORT, Begin, End, Header, Reason, chunk_count

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


def abort(file: File, index: int = 0) -> Header:
    return Header(file.tid, index, FLAG_ABORT)
