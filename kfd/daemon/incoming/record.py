"""A record of Kafka, as the receiving parts need it: plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kfd import openmsistream
from kfd.scattered import Piece
from kfd.wire import HEADER_NAME, BadRecord, Header, decode_headers


@dataclass(frozen=True, slots=True)
class Record:
    """What one poll of the client gives."""

    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] | None
    value: bytes | None
    timestamp: int = 0  # ms since the epoch; only where it matters


Decoded = tuple[Record, Header | Piece | BadRecord]
Decoder = Callable[[Record], Decoded]


def decode(record: Record) -> Decoded:
    """A record with its header, or with the reason not to take it."""
    try:
        return record, decode_headers(record.headers)
    except BadRecord as bad:
        return record, bad


def decode_mixed(record: Record) -> Decoded:
    """Likewise on a route that takes the peer's records, too: kfd's have their header."""
    if any(name == HEADER_NAME for name, _ in record.headers or ()):
        return decode(record)
    try:
        return record, Piece.of(openmsistream.decode(record.value))
    except BadRecord as bad:
        return record, bad
