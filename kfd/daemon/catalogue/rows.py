"""What the ledger's entries are to sinks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kfd.daemon.catalogue.sink import Row
from kfd.daemon.ledger.catalogue import Entry, Kind
from kfd.paths import escape

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rows:
    """Makes rows, as this kfd tells of files."""

    origin: str
    spool: bytes  # the directory of copies: none of them is where a file lies

    def of(self, entry: Entry) -> Row:
        """The row that sinks are given."""
        published = entry.key.kind == Kind.PUBLISHED
        return Row(
            tid=entry.tid.hex(),
            receiver=self.origin if published else "",
            route=entry.route,
            name=escape(entry.path.rpartition(b"/")[2]),
            path=escape(entry.path),
            path_bytes=entry.path,
            stored="" if self._is_a_copy(entry.stored) else escape(entry.stored),
            size=entry.size,
            digest="" if entry.digest is None else entry.digest.hex(),
            origin=self.origin if entry.origin is None else entry.origin,
            topic=entry.topic,
            mtime=moment(entry.mtime_ns // 1000),
            sent=moment(entry.generation) if entry.generation else None,
            published=None if entry.published_at is None else moment(int(entry.published_at * 1e6)),
            metadata=json.loads(entry.meta),
        )

    def _is_a_copy(self, stored: bytes) -> bool:
        return stored.startswith(self.spool + b"/")


def moment(microseconds: int) -> datetime | None:
    """A time since the epoch; None where no calendar of a database has it."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
