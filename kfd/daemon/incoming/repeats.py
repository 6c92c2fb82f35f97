"""Records of the peer's format that are the one before, sent twice.

So kfd begins a file of a path that was sent before (docs/wire-format.md). Such a record tells
nothing of which version is the newer one: it counts as lying where the first of the two lies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kfd.daemon.incoming.record import Record
from kfd.scattered import Piece

REPEAT_MS = 100  # between the two; no file is changed, sent, changed back and sent in less


class _Latest(NamedTuple):
    """The last record of a partition; ``at`` is the offset of the first that is the same."""

    offset: int
    at: int
    timestamp: int
    version: bytes
    chunk: int

    def is_repeated_by(self, record: Record, piece: Piece) -> bool:
        return (
            record.offset == self.offset + 1
            and (piece.version, piece.chunk.index) == (self.version, self.chunk)
            and abs(record.timestamp - self.timestamp) <= REPEAT_MS
        )


class Repeats:
    """Of one consumer thread: what came last of each partition."""

    def __init__(self) -> None:
        self._latest: dict[int, _Latest] = {}

    def first(self, record: Record, piece: Piece) -> int:
        """The offset of the record that this one repeats; its own if it repeats none."""
        latest = self._latest.get(record.partition)
        if latest is not None and latest.is_repeated_by(record, piece):
            return latest.at
        return record.offset

    def note(self, record: Record, piece: Piece, at: int) -> None:
        """Everything was done with a record that counts as lying ``at``."""
        self._latest[record.partition] = _Latest(
            record.offset, at, record.timestamp, piece.version, piece.chunk.index
        )

    def forget(self, partitions: Iterable[int]) -> None:
        """These are not read here any more."""
        for number in partitions:
            self._latest.pop(number, None)
