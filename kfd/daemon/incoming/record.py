"""A record of Kafka, as the receiving parts need it: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kfd.wire import BadRecord, Header, decode_headers


@dataclass(frozen=True, slots=True)
class Record:
    """What one poll of the client gives."""

    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] | None
    value: bytes | None


Decoded = tuple[Record, Header | BadRecord]


def decode(record: Record) -> Decoded:
    """A record with its header, or with the reason not to take it."""
    try:
        return record, decode_headers(record.headers)
    except BadRecord as bad:
        return record, bad
