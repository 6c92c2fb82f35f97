"""Records as ``kfdctl inspect topic --json`` prints them: text and numbers, nothing raw.

Names and contents of others' are escaped. What isn't text is there in base64 too, where it is a
path or a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kfd import paths
from kfd.inspection.record import Kind, Look, Record
from kfd.openmsistream import Chunk
from kfd.receipts import Receipt
from kfd.wire import Begin, End

_PREVIEW: Final = 48  # bytes of a value that isn't kfd's


@dataclass(frozen=True, slots=True)
class BeginShown:
    """What the first record says about the transfer; ``mtime`` is seconds since the epoch."""

    path: str
    path_base64: str | None
    topic: str
    origin: str
    generation: int
    size: int
    mtime: float
    mode: int
    chunk_size: int
    chunks: int
    meta: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EndShown:
    """What the last record says."""

    size: int
    chunks: int
    digest: str


@dataclass(frozen=True, slots=True)
class ChunkShown:
    """A chunk of openmsistream's. ``intact``: it is what its digest says."""

    path: str
    path_base64: str | None
    number: int
    chunks: int
    offset: int
    size: int
    mtime: float | None
    digest: str
    file_digest: str
    intact: bool


@dataclass(frozen=True, slots=True)
class ReceiptShown:
    """What a receiver says of a transfer."""

    tid: str
    outcome: str
    digest: str | None
    generation: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class RecordShown:
    """A record: of the parts, those of its kind. ``at`` is seconds since the epoch; ``preview``
    is the beginning of a value that is neither kfd's nor openmsistream's."""

    partition: int
    offset: int
    at: float | None
    kind: Kind
    size: int
    key: str | None
    key_base64: str | None
    headers: Sequence[str]
    tid: str | None
    index: int | None
    aborts: bool
    begin: BeginShown | None
    end: EndShown | None
    chunk: ChunkShown | None
    receiver: str | None
    receipts: Sequence[ReceiptShown]
    reason: str
    preview: str


def describe(record: Record, look: Look) -> RecordShown:
    """All that is to be said of a record. Takes the digest of a chunk of openmsistream's."""
    key, key_base64 = (None, None) if record.key is None else paths.to_json(record.key)
    header = look.header
    told = look.receipts
    return RecordShown(
        partition=record.partition,
        offset=record.offset,
        at=record.at,
        kind=look.kind,
        size=record.size,
        key=key,
        key_base64=key_base64,
        headers=[_escaped(name) for name, _ in record.headers or ()],
        tid=None if look.tid is None else look.tid.hex(),
        index=None if header is None else header.index,
        aborts=header is not None and header.aborts,
        begin=None if header is None or header.begin is None else _begin(header.begin),
        end=None if header is None or header.end is None else _end(header.end),
        chunk=None if look.chunk is None else _chunk(look.chunk),
        receiver=None if told is None else told.receiver,
        receipts=[] if told is None else [_receipt(one) for one in told.receipts],
        reason=look.reason,
        preview=_preview(record, look),
    )


def _begin(begin: Begin) -> BeginShown:
    path, path_base64 = paths.to_json(begin.path)
    return BeginShown(
        path,
        path_base64,
        begin.topic,
        begin.origin,
        begin.generation,
        begin.size,
        begin.mtime_ns / 1e9,
        begin.mode,
        begin.chunk_size,
        begin.chunks,
        {_escaped(key): _escaped(value) for key, value in begin.meta.items()},
    )


def _end(end: End) -> EndShown:
    return EndShown(end.size, end.chunks, end.digest.hex())


def _chunk(chunk: Chunk) -> ChunkShown:
    path, path_base64 = paths.to_json(chunk.path)
    return ChunkShown(
        path,
        path_base64,
        chunk.index,
        chunk.total,
        chunk.offset,
        len(chunk.data),
        chunk.mtime,
        chunk.chunk_sha512.hex(),
        chunk.file_sha512.hex(),
        chunk.intact,
    )


def _receipt(one: Receipt) -> ReceiptShown:
    digest = None if one.digest is None else one.digest.hex()
    return ReceiptShown(one.tid.hex(), one.outcome.value, digest, one.generation, one.reason)


def _preview(record: Record, look: Look) -> str:
    if look.kind not in {Kind.FOREIGN, Kind.BAD}:
        return ""
    return paths.escape((record.value or b"")[:_PREVIEW])


def _escaped(text: str) -> str:
    return paths.escape(text.encode(errors="surrogateescape"))
