"""A record as it lies on a topic, and what it is: kfd's, openmsistream's, receipts, or foreign."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from kfd import openmsistream, receipts, wire
from kfd.openmsistream import Chunk
from kfd.receipts import Receipts
from kfd.scattered import Piece, tid_of
from kfd.wire import HEADER_NAME, BadRecord, Header

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Record:
    """What was read. ``at`` is seconds since the epoch; ``headers`` is None if they can't be."""

    partition: int
    offset: int
    at: float | None
    key: bytes | None
    headers: Headers | None
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value or b"")


class Kind(StrEnum):
    """What a record is."""

    KFD = "kfd"
    OPENMSISTREAM = "openmsistream"
    RECEIPTS = "receipts"
    BAD = "bad"  # says that it is one of these, and breaks the format
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Look:
    """What a record was found to be: of the fields, the one of its kind; of a bad one the reason.

    openmsistream has no ``tid``: there it is that under which a receiver lists the file when it
    comes for the first time, or one that is asked for under which it does so later.
    """

    kind: Kind
    tid: bytes | None = None
    header: Header | None = None
    chunk: Chunk | None = None
    receipts: Receipts | None = None
    reason: str = ""


_FOREIGN: Final = Look(Kind.FOREIGN)
_UPLOADS: Final = 64  # of the same file, whose ids are found
_REMEMBERED: Final = 10_000  # versions of files


class Recognizer:
    """Tells what the records of one topic are. ``tids``: ends of the ids that are asked for."""

    def __init__(self, topic: str, topic_id: str, tids: Collection[str] = ()) -> None:
        self._topic_id = topic_id
        self._of_receipts = topic.endswith(receipts.SUFFIX)
        self._asked = tuple(tid.lower() for tid in tids)
        self._tid_of = lru_cache(_REMEMBERED)(self._find_tid)

    def look(self, record: Record) -> Look:
        """What it is. Never raises."""
        try:
            if any(name == HEADER_NAME for name, _ in record.headers or ()):
                return _look_at_header(record)
            if self._of_receipts:
                return Look(Kind.RECEIPTS, receipts=receipts.decode(record.value))
            chunk = openmsistream.decode(record.value)
        except BadRecord as bad:
            if bad.reason is wire.Reason.FOREIGN:
                return _FOREIGN
            return Look(Kind.BAD, reason=str(bad))
        return Look(Kind.OPENMSISTREAM, tid=self._tid_of(Piece.of(chunk).version), chunk=chunk)

    def _find_tid(self, version: bytes) -> bytes:
        """Of the ids of its uploads the one that is asked for, else that of the first."""
        for upload in range(_UPLOADS if self._asked else 0):
            tid = tid_of(self._topic_id, version, upload)
            if tid.hex().endswith(self._asked):
                return tid
        return tid_of(self._topic_id, version, 0)


def _look_at_header(record: Record) -> Look:
    header = wire.decode_headers(record.headers)
    if record.value is None:
        raise BadRecord(wire.Reason.MALFORMED, "no value")
    if header.begin is not None and record.size != header.begin.chunk_length(0):
        raise BadRecord(wire.Reason.MALFORMED, "the value isn't as long as begin says")
    if header.aborts and record.value:
        raise BadRecord(wire.Reason.MALFORMED, "an abort with a value")
    return Look(Kind.KFD, tid=header.tid, header=header)
