"""Records of a topic as lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kfd.ctl.render import count, cut, plain, short, wrapped
from kfd.inspection.description import BeginShown, ChunkShown, RecordShown
from kfd.inspection.record import Kind
from kfd.units import human_size

_SHOWN_DIGEST = 16  # digits


def lines(record: RecordShown, columns: int | None) -> list[str]:
    """A record: partition and offset, time, kind, bytes, and what it says. On a terminal it may
    take several lines."""
    head = f"{record.partition}:{record.offset} {_moment(record.at)} {record.kind.value}"
    text = plain(f"{head} {human_size(record.size)} {_what(record)}".rstrip())
    return [cut(line, columns) for line in wrapped(text, columns)]


def _moment(at: float | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _what(record: RecordShown) -> str:
    if record.kind is Kind.KFD:
        return f"{short(record.tid or '')} {', '.join(_said(record))}"
    if record.chunk is not None:
        return _chunk(record.chunk, record.tid or "")
    if record.kind is Kind.RECEIPTS:
        told = (f"{short(one.tid)} {one.outcome}" for one in record.receipts)
        return f"from {record.receiver}: {', '.join(told)}"
    key = f"key {record.key} " if record.key is not None else ""
    reason = f"({record.reason}) " if record.reason else ""
    return f"{reason}{key}{record.preview}"


def _said(record: RecordShown) -> Iterator[str]:
    """What one of kfd's own says."""
    if record.aborts:
        yield "abort"
        return
    yield f"chunk {record.index}"
    if record.begin is not None:
        yield _begin(record.begin)
    if record.end is not None:
        yield f"end {record.end.digest[:_SHOWN_DIGEST]}"


def _begin(begin: BeginShown) -> str:
    meta = "".join(f" {key}={value}" for key, value in begin.meta.items())
    size = f"{human_size(begin.size)} in {count(begin.chunks, 'chunk')}"
    return f"begin {begin.origin} {begin.path} ({size}){meta}"


def _chunk(chunk: ChunkShown, tid: str) -> str:
    damaged = "" if chunk.intact else " DAMAGED: not what its digest says"
    where = f"chunk {chunk.number} of {chunk.chunks} at {chunk.offset}"
    return f"{short(tid)} {where}, {chunk.path}{damaged}"
