"""Where the records lay of files that are spread over partitions: looks at ``scattered``, and its
rows, which are written with those of ``incoming``, and go with them (by a trigger).

By them it is known, when records are read again, which upload they were of, and which of two
versions of a file is the newer one.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk
from kfd.scattered import Ended
from kfd.transfer import Spread
from kfd.wire import Begin

_INSERT = (
    "INSERT OR REPLACE INTO scattered"
    " (route, topic_id, version, upload, tid, path, generation, last_at, repeated, lasts)"
    " VALUES {rows}"
)
_KEY = "route = ? AND topic_id = ? AND version = ? AND upload = ?"


@dataclass(frozen=True, slots=True)
class Row:
    """A transfer that is spread."""

    route: str
    topic_id: str
    tid: bytes
    begin: Begin
    spread: Spread


def note(writer: Connection, batch: Iterable[Row]) -> None:
    """With the rows of the same transfers in ``incoming``."""
    bulk.execute(writer, _INSERT, [_values(one) for one in batch])


def extend(writer: Connection, route: str, topic_id: str, more: Iterable[Spread]) -> None:
    """More records came of uploads that have ended, which repeat them."""
    for one in more:
        key = (route, topic_id, one.version, one.upload)
        row = writer.execute(f"SELECT lasts, last_at FROM scattered WHERE {_KEY}", key).fetchone()
        if row is not None:
            lasts = _merged(_read(row[0]), one.lasts)
            writer.execute(
                f"UPDATE scattered SET lasts = ?, last_at = ?, repeated = 1 WHERE {_KEY}",
                (_written(lasts), max(row[1], one.last_at), *key),
            )


def ended(
    reader: Connection, route: str, topic_id: str, versions: Sequence[bytes]
) -> dict[bytes, Ended]:
    """Those of the versions of which an upload has ended here."""
    rows = bulk.select(
        reader,
        "SELECT s.version, s.upload, s.lasts, i.state = 'published' AND p.generation = i.generation"
        # CROSS, INDEXED BY: else all that was ever received is looked through
        " FROM scattered s CROSS JOIN incoming i INDEXED BY incoming_tid"
        " ON (i.tid, i.route, i.topic_id) = (s.tid, s.route, s.topic_id)"
        " LEFT JOIN incoming_path p ON (p.route, p.topic_id, p.origin, p.path)"
        " = (i.route, i.topic_id, i.origin, i.path)"
        " WHERE i.state != 'publishing' AND s.route = ? AND s.topic_id = ? AND s.version IN {rows}",
        (route, topic_id),
        versions,
    )
    found: dict[bytes, Ended] = {}
    for version, upload, lasts, newest in rows:
        known = found.get(version, Ended(0, {}, None))
        found[version] = Ended(
            max(known.uploads, upload + 1),
            _merged(known.last, _read(lasts)),
            upload if newest else known.newest,
        )
    return found


def newest(
    reader: Connection, route: str, topic_id: str, origin: str, paths: Sequence[bytes]
) -> dict[bytes, tuple[int, Spread | None]]:
    """Of the newest published versions of files: their generations, and where their records lay if
    that is known."""
    rows = bulk.select(
        reader,
        "SELECT p.path, p.generation, s.version, s.upload, s.lasts, s.last_at, s.repeated"
        " FROM incoming_path p LEFT JOIN scattered s INDEXED BY scattered_path"
        " ON (s.route, s.topic_id, s.path, s.generation)"
        " = (p.route, p.topic_id, p.path, p.generation)"
        " WHERE p.route = ? AND p.topic_id = ? AND p.origin = ? AND p.path IN {rows}",
        (route, topic_id, origin),
        paths,
    )
    return {
        path: (generation, _spread(*spread) if spread[0] is not None else None)
        for path, generation, *spread in rows
    }


def tids(reader: Connection, route: str, topic_id: str, some: Sequence[bytes]) -> set[bytes]:
    """Those of the transfers that are spread."""
    rows = bulk.select(
        reader,
        "SELECT tid FROM scattered WHERE route = ? AND topic_id = ? AND tid IN {rows}",
        (route, topic_id),
        some,
    )
    return {tid for (tid,) in rows}


def _values(one: Row) -> tuple[object, ...]:
    spread = one.spread
    return (
        *(one.route, one.topic_id, spread.version, spread.upload, one.tid),
        *(one.begin.path, one.begin.generation, spread.last_at, spread.repeated),
        _written(spread.lasts),
    )


def _spread(version: bytes, upload: int, lasts: str, last_at: int, repeated: int) -> Spread:
    return Spread(version, upload, _read(lasts), last_at, bool(repeated))


def _written(lasts: Mapping[int, int]) -> str:
    return json.dumps({str(partition): last for partition, last in lasts.items()})


def _read(lasts: str) -> dict[int, int]:
    return {int(partition): last for partition, last in json.loads(lasts).items()}


def _merged(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {
        partition: max(one.get(partition, -1), other.get(partition, -1))
        for partition in one.keys() | other.keys()
    }
