"""The outbox of the catalogue: which sink is still to be told of which file.

A row of it is written in the transaction that publishes (or sends) the file, holds nothing but
numbers, and goes when the sink has the file or has refused it for good. Without a sink none is
written. What it points to isn't forgotten meanwhile.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from sqlite3 import Connection
from typing import NamedTuple

from kfd.daemon.ledger import bulk


class Kind(IntEnum):
    """Of what a row of the outbox tells: which table its number is of."""

    ADDED = 0  # added_file
    PUBLISHED = 1  # incoming
    SENT = 2  # outgoing


class Key(NamedTuple):
    """A row of the outbox of one sink."""

    kind: int
    ref: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a sink is to be told, as the ledger has it."""

    key: Key
    tid: bytes
    route: str
    path: bytes
    stored: bytes  # below the route's directory, or the file that was sent or added
    size: int
    digest: bytes | None
    origin: str | None  # None: this kfd's own
    topic: str
    mtime_ns: int
    generation: int  # µs; 0: it wasn't sent
    published_at: float | None
    meta: str  # JSON


@dataclass(frozen=True, slots=True)
class Standing:
    """A sink, and how it stands. Waiting rows are counted up to :data:`MOST_COUNTED`."""

    id: int
    name: str
    waiting: int
    refused: int
    written: int  # since it was first configured
    written_at: float | None
    again: int  # 1: it is being told of everything once more


MOST_COUNTED = 100_000

_SELECT: Mapping[Kind, str] = {
    Kind.ADDED: "SELECT r.ref, t.tid, '', t.path, t.source, t.size, t.digest, NULL, '', t.mtime_ns,"
    " 0, NULL, t.meta FROM catalogue_row r LEFT JOIN added_file t ON t.id = r.ref",
    Kind.PUBLISHED: "SELECT r.ref, t.tid, t.route, t.path, t.name, t.size, t.digest, t.origin,"
    " t.topic, t.mtime_ns, t.generation, t.ended_at, t.meta"
    " FROM catalogue_row r LEFT JOIN incoming t ON t.id = r.ref",
    Kind.SENT: "SELECT r.ref, t.tid, t.route, t.path, t.source, t.size, t.digest, NULL, t.topic,"
    " t.mtime_ns, t.generation, NULL, t.meta"
    " FROM catalogue_row r LEFT JOIN outgoing t ON t.id = r.ref",
}
TABLES: Mapping[Kind, str] = {
    Kind.ADDED: "added_file",
    Kind.PUBLISHED: "incoming",
    Kind.SENT: "outgoing",
}


def is_owed(kind: Kind) -> str:
    """A condition on a row of the table of this kind: some sink is still to be told of it."""
    return (
        "EXISTS (SELECT 1 FROM catalogue_sink s CROSS JOIN catalogue_row r"
        f" ON r.sink = s.id AND r.kind = {kind:d} AND r.ref = {TABLES[kind]}.id)"
    )


def configure(writer: Connection, sinks: Mapping[str, str]) -> None:
    """Let these be the sinks, each told so of what is sent. What others were still to be told is
    dropped."""
    expect(writer, sinks)
    writer.executemany(
        "UPDATE catalogue_sink SET sent = ? WHERE name = ?",
        [(sent, name) for name, sent in sinks.items()],
    )
    known = [name for (name,) in writer.execute("SELECT name FROM catalogue_sink").fetchall()]
    gone = [(name,) for name in known if name not in sinks]
    writer.executemany("DELETE FROM catalogue_sink WHERE name = ?", gone)


def expect(writer: Connection, sinks: Mapping[str, str]) -> None:
    """Let these be sinks, too, each with what it is to be told of what is sent (``false``,
    ``in-kafka`` or ``delivered``). One that is there is told of no less than before: those that
    are configured go on if nothing comes of it."""
    writer.executemany(
        "INSERT INTO catalogue_sink (name, sent) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET sent = excluded.sent"
        " WHERE catalogue_sink.sent = 'false'",
        list(sinks.items()),
    )


def prune(writer: Connection, older_than: float, limit: int) -> int:
    """Delete what is left of sinks that are gone, what was added before ``older_than`` (epoch
    seconds) and is owed to none, and refusals of files that the ledger no longer has. How many, at
    most ``limit`` of a kind."""
    left = [_prune_gone(writer, table, limit) for table in ("catalogue_row", "catalogue_refused")]
    old = writer.execute(
        "DELETE FROM added_file WHERE id IN (SELECT id FROM added_file WHERE added_at < ?"
        f" AND NOT {is_owed(Kind.ADDED)} LIMIT ?)",
        (older_than, limit),
    ).rowcount
    return max(*left, old, *(_prune_refused(writer, kind, limit) for kind in Kind))


def _prune_gone(writer: Connection, table: str, limit: int) -> int:
    """Steps from sink to sink by the primary key: others may be owed millions of rows."""
    gone = writer.execute(
        f"WITH RECURSIVE has(sink) AS (SELECT min(sink) FROM {table} UNION ALL"
        f" SELECT (SELECT min(sink) FROM {table} WHERE sink > has.sink) FROM has"
        " WHERE has.sink IS NOT NULL) SELECT sink FROM has"
        " WHERE sink NOT IN (SELECT id FROM catalogue_sink) LIMIT 1"
    ).fetchone()
    if gone is None:
        return 0
    return writer.execute(
        f"DELETE FROM {table} WHERE (sink, kind, ref) IN"
        f" (SELECT sink, kind, ref FROM {table} WHERE sink = ? LIMIT ?)",
        (*gone, limit),
    ).rowcount


def _prune_refused(writer: Connection, kind: Kind, limit: int) -> int:
    return writer.execute(
        "DELETE FROM catalogue_refused WHERE (sink, kind, ref) IN"
        " (SELECT r.sink, r.kind, r.ref FROM catalogue_refused r"
        f" LEFT JOIN {TABLES[kind]} t ON t.id = r.ref"
        f" WHERE r.kind = {kind:d} AND t.id IS NULL LIMIT ?)",
        (limit,),
    ).rowcount


def published(
    writer: Connection, route: str, topic_id: str, partition: int, tids: Sequence[bytes]
) -> None:
    """These were published: all sinks are to be told."""
    if writer.execute("SELECT 1 FROM catalogue_sink LIMIT 1").fetchone():
        bulk.select(
            writer,
            f"INSERT OR IGNORE INTO catalogue_row SELECT s.id, {Kind.PUBLISHED:d}, t.id"
            " FROM catalogue_sink s CROSS JOIN incoming t WHERE t.route = ? AND t.topic_id = ?"
            f" AND t.partition = ? AND t.tid IN {bulk.PLACE}",
            (route, topic_id, partition),
            tids,
        )


def sent(writer: Connection, when: str, numbers: Sequence[int]) -> None:
    """These transfers are ``in-kafka``, or ``delivered``: sinks that want it are to be told."""
    wants = writer.execute("SELECT 1 FROM catalogue_sink WHERE sent = ? LIMIT 1", (when,))
    if wants.fetchone():
        bulk.select(
            writer,
            f"INSERT OR IGNORE INTO catalogue_row SELECT s.id, {Kind.SENT:d}, t.id"
            " FROM catalogue_sink s CROSS JOIN outgoing t"
            f" WHERE s.sent = ? AND t.id IN {bulk.PLACE}",
            (when,),
            numbers,
        )


def sink_id(reader: Connection, name: str) -> int | None:
    """The number of a sink; None: there is none of this name any more."""
    row = reader.execute("SELECT id FROM catalogue_sink WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def waiting(reader: Connection, sink: int, limit: int) -> tuple[list[Entry], list[Key]]:
    """The next ``limit`` files that a sink is to be told of, those that people wait for first; and
    rows of the outbox whose file the ledger no longer has."""
    entries: list[Entry] = []
    void: list[Key] = []
    for kind, select in _SELECT.items():
        rows = reader.execute(
            f"{select} WHERE r.sink = ? AND r.kind = {kind:d} ORDER BY r.ref LIMIT ?",
            (sink, limit - len(entries)),
        )
        for ref, *values in rows.fetchall():
            if values[0] is None:
                void.append(Key(kind, ref))
            else:
                entries.append(Entry(Key(kind, ref), *values))
    return entries, void


def written(
    writer: Connection, sink: int, keys: Sequence[Key], refused: Sequence[tuple[Key, str]]
) -> None:
    """A sink has been told of these, and has refused some of them for good, with the reasons."""
    now = time.time()
    _take_out(writer, sink, keys)
    writer.executemany(
        "INSERT OR REPLACE INTO catalogue_refused VALUES (?, ?, ?, ?, ?)",
        [(sink, *key, reason, now) for key, reason in refused],
    )
    if len(keys) > len(refused):
        writer.execute(
            "UPDATE catalogue_sink SET written = written + ?, written_at = ? WHERE id = ?",
            (len(keys) - len(refused), now, sink),
        )


def drop(writer: Connection, sink: int, keys: Sequence[Key]) -> None:
    """A sink need not be told of these any more."""
    _take_out(writer, sink, keys)


def _take_out(writer: Connection, sink: int, keys: Iterable[Key]) -> None:
    by_kind: dict[int, list[int]] = {}
    for key in keys:
        by_kind.setdefault(key.kind, []).append(key.ref)
    for kind, refs in by_kind.items():
        bulk.select(
            writer,
            f"DELETE FROM catalogue_row WHERE sink = ? AND kind = ? AND ref IN {bulk.PLACE}",
            (sink, kind),
            refs,
        )


def standings(reader: Connection) -> list[Standing]:
    """How all sinks stand."""
    rows = reader.execute(
        "SELECT id, name,"
        f" (SELECT count(*) FROM (SELECT 1 FROM catalogue_row r WHERE r.sink = s.id"
        f"  LIMIT {MOST_COUNTED})),"
        f" (SELECT count(*) FROM (SELECT 1 FROM catalogue_refused r WHERE r.sink = s.id"
        f"  LIMIT {MOST_COUNTED})),"
        f" written, written_at, ifnull(again_kind <= {max(Kind):d}, 0)"
        " FROM catalogue_sink s ORDER BY name"
    )
    return [Standing(*row) for row in rows]


def recall(reader: Connection, name: str) -> str:
    """What a sink has noted for itself; empty at first."""
    row = reader.execute("SELECT memory FROM catalogue_sink WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def remember(writer: Connection, name: str, text: str) -> None:
    """Note something for a sink."""
    writer.execute("UPDATE catalogue_sink SET memory = ? WHERE name = ?", (text, name))
