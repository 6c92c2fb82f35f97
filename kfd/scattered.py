"""Assembly of files whose chunks lie on all partitions of a topic, in any order: the peer's.

Each chunk says where it belongs, so they may come shuffled and repeated; a place is written once.
Nothing is allocated from what a record claims: a bitmap grows with the chunks that came. A record
that is dropped changes nothing. The bytes themselves are the caller's to write.

A version of a file is its path, SHA-512, number of chunks and their size. The same version may be
uploaded again later, after another one: by its partitions' offsets the caller knows which records
were of an upload that has ended (:class:`Ended`), and a new upload is a transfer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Final, NamedTuple

from blake3 import blake3

from kfd.openmsistream import Chunk
from kfd.transfer import OpenTransfer, Spread, State
from kfd.verdict import Append, Drop, Failed, Skip, Undecided, Verdict
from kfd.wire import TID_SIZE, Begin, Reason, file_time

ORIGIN: Final = "openmsistream"  # of all files of the peer's, whose records name none
MODE: Final = 0o666  # likewise; less what the route's file_mode takes away

MAX_OPEN: Final = 16_384  # files that may be open on a topic: partitions are not read in step
MAX_PAGES: Final = 65_536  # of the bitmaps of all of them
_PAGE: Final = 4096  # chunks whose places are noted together

_SKIP: Final = Skip()
_UNDECIDED: Final = Undecided()


class Piece(NamedTuple):
    """A record's chunk, and the version of a file that it is of."""

    chunk: Chunk
    version: bytes

    @classmethod
    def of(cls, chunk: Chunk) -> Piece:
        numbers = chunk.total.to_bytes(8, "big") + chunk.chunk_size.to_bytes(8, "big")
        what = chunk.file_sha512 + numbers + chunk.path
        return cls(chunk, blake3(what).digest(length=TID_SIZE))


class Place(NamedTuple):
    """Where a record lies, and since when."""

    topic_id: str
    partition: int
    offset: int
    timestamp: int  # ms since the epoch, as Kafka has it; 0 for none


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of the uploads of a version that have ended here."""

    uploads: int  # how many
    last: Mapping[int, int]  # partition → highest offset of their records
    newest: int | None  # which of them is the one of its file that was published last, if any is


class Bitmap:
    """Which chunks are there. Grows with their number, not with what they are counted to."""

    __slots__ = ("_pages", "count")

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.count = 0

    @property
    def pages(self) -> int:
        return len(self._pages)

    def __contains__(self, index: int) -> bool:
        place, bit = divmod(index % _PAGE, 8)
        page = self._pages.get(index // _PAGE, b"")
        return place < len(page) and bool(page[place] >> bit & 1)

    def grows(self, index: int) -> bool:
        """Whether this chunk would take a new page."""
        return index // _PAGE not in self._pages

    def add(self, index: int) -> None:
        """Note a chunk that isn't there."""
        place, bit = divmod(index % _PAGE, 8)
        page = self._pages.setdefault(index // _PAGE, bytearray())
        if place >= len(page):
            page.extend(bytes(place + 1 - len(page)))
        page[place] |= 1 << bit
        self.count += 1


@dataclass(slots=True, eq=False)
class ScatteredTransfer(OpenTransfer):
    """One upload of a version. ``begin.size`` is known with the last chunk; before, it is what the
    file has at most. ``generation`` is set when the transfer is complete."""

    _: KW_ONLY
    version: bytes
    upload: int
    sha512: bytes
    home: int  # the partition of its first record, to which it is counted
    there: Bitmap = field(default_factory=Bitmap)
    firsts: dict[int, int] = field(default_factory=dict)  # partition → lowest offset
    lasts: dict[int, int] = field(default_factory=dict)  # partition → highest offset
    last_at: int = 0  # timestamp of its latest record, ms
    repeated: bool = False  # chunks that are there came again
    waits: bool = False  # for space: its chunks are read again later

    @property
    def spread(self) -> Spread:
        """Where its records lie."""
        return Spread(self.version, self.upload, self.lasts, self.last_at, self.repeated)

    def note(self, place: Place) -> None:
        """A record of it lies there."""
        _, partition, offset, timestamp = place
        self.firsts[partition] = min(offset, self.firsts.get(partition, offset))
        self.lasts[partition] = max(offset, self.lasts.get(partition, offset))
        self.last_at = max(timestamp, self.last_at)

    def forget(self, partition: int) -> None:
        """A partition isn't read here any more."""
        self.firsts.pop(partition, None)
        self.lasts.pop(partition, None)
        if partition == self.home and self.firsts:
            self.home, self.first_offset = next(iter(self.firsts.items()))

    def follows(self, before: Spread) -> bool:
        """Whether this is newer than the version ``before``: its last record came later.

        That is known by offsets where both have records in a partition and all of these agree, else
        by timestamps; so, too, where records came again: they may be of another upload, of which
        not everything was read.
        """
        later = {self.lasts[one] > before.lasts[one] for one in self.lasts.keys() & before.lasts}
        if len(later) == 1 and not (self.repeated or before.repeated):
            return later.pop()
        return self.last_at >= before.last_at


class Gathering:
    """The open files of one topic. Pure state, used by one thread.

    A transfer stays, and holds the offsets of all its partitions back, until :meth:`close`: what
    became of it is on disk by then.
    """

    def __init__(self, topic: str, max_size: int, max_open: int = MAX_OPEN) -> None:
        self.topic = topic
        self.max_size = max_size
        self.max_open = max_open
        self.clock = 0.0  # s in which nothing more was there to be read, as in a partition
        self._open: dict[bytes, ScatteredTransfer] = {}  # by version, the oldest first
        self._pages = 0

    def __contains__(self, version: object) -> bool:
        return version in self._open

    def __iter__(self) -> Iterator[ScatteredTransfer]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def accept(self, place: Place, piece: Piece, ended: Ended | None) -> Verdict:
        """What to do with a record; ``ended`` is asked only for versions that are not open.

        After :class:`Append`, and before the next record, :meth:`wrote` says that it was done.
        """
        chunk, version = piece
        transfer = self._open.get(version)
        if transfer is not None:
            return self._accept_open(transfer, place, chunk)
        if ended is not None and place.offset <= ended.last.get(place.partition, -1):
            return _SKIP
        if ended is not None and ended.newest is not None:
            return Drop(Reason.DUPLICATE)
        refusal = self._refusal(chunk)
        if refusal is not None:
            return Drop(refusal)
        if not chunk.intact:
            return Drop(Reason.DIGEST_MISMATCH)
        transfer = self._hold(place, piece, ended.uploads if ended else 0)
        return Append(transfer, first=True, complete=chunk.total == 1)

    def wrote(self, transfer: ScatteredTransfer, chunk: Chunk) -> None:
        """A chunk is in its place."""
        length = len(chunk.data)
        self._pages += transfer.there.grows(chunk.index - 1)
        transfer.there.add(chunk.index - 1)
        transfer.received += length
        transfer.touched = self.clock
        if chunk.index == chunk.total:
            transfer.begin = replace(transfer.begin, size=chunk.offset + length)
        if transfer.there.count == chunk.total:
            transfer.state = State.COMPLETE

    def reset(self, transfer: ScatteredTransfer) -> None:
        """Nothing of it is there any more; its records are read again."""
        self._pages -= transfer.there.pages
        transfer.there, transfer.received, transfer.digest = Bitmap(), 0, None
        transfer.state, transfer.waits = State.RECEIVING, False

    def close(self, transfer: ScatteredTransfer) -> None:
        """Forget it: what became of it is durable, or none of its partitions is read here."""
        if self._open.pop(transfer.version, None) is not None:
            self._pages -= transfer.there.pages

    def firsts(self, partition: int) -> dict[int, bytes]:
        """Of the open files that have a record in a partition: lowest offset → version."""
        return {one.firsts[partition]: one.version for one in self if partition in one.firsts}

    def receiving(self) -> list[ScatteredTransfer]:
        """Those of which more is to come, and that don't wait for space."""
        return [one for one in self if one.state is State.RECEIVING and not one.waits]

    def idle(self, seconds: float) -> list[ScatteredTransfer]:
        """Those of which nothing came for so long; they may wait for space, too."""
        since = self.clock - seconds
        return [one for one in self if one.state is State.RECEIVING and one.touched <= since]

    def expected(self, seconds: float) -> int:
        """Bytes still to come, as far as is known, of what was begun and had something within
        ``seconds``."""
        since = self.clock - seconds
        begun = (one for one in self.receiving() if one.there.count)
        return sum(one.remaining for one in begun if one.touched > since)

    def find(self, tid: bytes) -> ScatteredTransfer | None:
        """The open file with this tid. Looks at all of them."""
        return next((one for one in self if one.tid == tid), None)

    def _accept_open(self, transfer: ScatteredTransfer, place: Place, chunk: Chunk) -> Verdict:
        if transfer.state is not State.RECEIVING:
            known = place.offset <= transfer.lasts.get(place.partition, -1)
            return _SKIP if known else _UNDECIDED
        if transfer.waits:
            transfer.note(place)
            return _SKIP
        if chunk.index - 1 in transfer.there:
            return self._repeat(transfer, place)
        if not chunk.intact:
            return Drop(Reason.DIGEST_MISMATCH)
        if self._is_full(transfer.there.grows(chunk.index - 1)):
            return Drop(Reason.TOO_MANY_OPEN)
        transfer.note(place)
        return self._append(transfer, chunk)

    def _repeat(self, transfer: ScatteredTransfer, place: Place) -> Verdict:
        transfer.repeated |= place.offset > transfer.lasts.get(place.partition, -1)
        transfer.note(place)
        return Drop(Reason.DUPLICATE)

    def _append(self, transfer: ScatteredTransfer, chunk: Chunk) -> Append | Failed:
        if chunk.offset + len(chunk.data) > self.max_size:  # shows only with the last one
            transfer.state = State.FAILED
            return Failed(transfer, Reason.TOO_BIG)
        count = transfer.there.count
        return Append(transfer, first=count == 0, complete=count + 1 == chunk.total)

    def _is_full(self, grows: bool) -> bool:
        return grows and self._pages >= MAX_PAGES

    def _refusal(self, chunk: Chunk) -> Reason | None:
        if _least_size(chunk) > self.max_size:
            return Reason.TOO_BIG
        if self._is_crowded() or self._is_full(True):
            return Reason.TOO_MANY_OPEN
        return None

    def _is_crowded(self) -> bool:
        if len(self._open) < self.max_open:
            return False
        return sum(one.state is State.RECEIVING for one in self) >= self.max_open

    def _hold(self, place: Place, piece: Piece, upload: int) -> ScatteredTransfer:
        chunk, version = piece
        transfer = self._open[version] = ScatteredTransfer(
            tid_of(place.topic_id, version, upload), self._begin(place, chunk), place.offset,
            version=version, upload=upload, sha512=chunk.file_sha512, home=place.partition,
        )  # fmt: skip
        transfer.touched = self.clock
        transfer.note(place)
        return transfer

    def _begin(self, place: Place, chunk: Chunk) -> Begin:
        """As much as one chunk says. Without an instance: there is nobody to send receipts to."""
        mtime_ns = place.timestamp * 10**6 if chunk.mtime_ns is None else chunk.mtime_ns
        return Begin(
            path=chunk.path,
            topic=self.topic,
            origin=ORIGIN,
            instance=b"",
            generation=0,
            size=chunk.total * chunk.chunk_size,
            mtime_ns=file_time(mtime_ns),
            mode=MODE,
            chunk_size=chunk.chunk_size,
            chunks=chunk.total,
            meta={},
        )


def tid_of(topic_id: str, version: bytes, upload: int) -> bytes:
    """The id of the transfer by which a version comes for the n-th time (from 0 on)."""
    what = version + upload.to_bytes(8, "big") + topic_id.encode()
    return blake3(what).digest(length=TID_SIZE)


def _least_size(chunk: Chunk) -> int:
    """The bytes that the file has at least."""
    if chunk.index == chunk.total:
        return chunk.offset + len(chunk.data)
    return (chunk.total - 1) * chunk.chunk_size + 1
