"""What people ask of the catalogue: files added by hand, and rows that are to be written again.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk
from kfd.daemon.ledger.answersize import bounded
from kfd.daemon.ledger.catalogue import TABLES, Kind


@dataclass(frozen=True, slots=True)
class Added:
    """A file that somebody adds without sending it. The same file gives the same tid."""

    tid: bytes
    path: bytes
    source: bytes
    size: int
    mtime_ns: int
    digest: bytes
    meta: str  # JSON
    uid: int


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that a sink has refused for good."""

    sink: str
    tid: bytes
    path: bytes
    reason: str
    at: float


def add(
    writer: Connection, files: Sequence[Added], sinks: Sequence[str], once: Collection[str] = ()
) -> None:
    """Let these sinks be told of files; those of ``once`` only of files that nobody added before,
    or that they have refused. Killed before this is durable: nobody was told."""
    now = time.time()
    tids = [one.tid for one in files]
    known = {
        tid
        for (tid,) in bulk.select(
            writer, f"SELECT tid FROM added_file WHERE tid IN {bulk.PLACE}", (), tids
        )
    }
    bulk.execute(
        writer,
        "INSERT INTO added_file (tid, path, source, size, mtime_ns, digest, meta, uid, added_at)"
        " VALUES {rows} ON CONFLICT (tid) DO NOTHING",
        [
            (one.tid, one.path, one.source, one.size, one.mtime_ns, one.digest, one.meta, one.uid,
             now)
            for one in files
        ],
    )  # fmt: skip
    new = [tid for tid in tids if tid not in known]
    for name in sinks:
        _tell(writer, name, _ADDED, new if name in once else tids)
        if name in once:
            _tell(writer, name, _ADDED_AND_REFUSED, tids)


_ADDED = "added_file t"
_ADDED_AND_REFUSED = (
    f"{_ADDED} CROSS JOIN catalogue_refused r"
    f" ON r.sink = s.id AND r.kind = {Kind.ADDED:d} AND r.ref = t.id"
)


def _tell(writer: Connection, sink: str, source: str, tids: Sequence[bytes]) -> None:
    """Let a sink be told of files of these tids, and forget that it has refused them."""
    chosen = (
        f"SELECT s.id, {Kind.ADDED:d}, t.id FROM catalogue_sink s CROSS JOIN {source}"
        f" WHERE s.name = ? AND t.tid IN {bulk.PLACE}"
    )
    bulk.select(writer, f"INSERT OR IGNORE INTO catalogue_row {chosen}", (sink,), tids)
    bulk.select(
        writer,
        f"DELETE FROM catalogue_refused WHERE (sink, kind, ref) IN ({chosen})",
        (sink,),
        tids,
    )


def owed(reader: Connection, tids: Iterable[bytes], sinks: Sequence[str]) -> set[bytes]:
    """Those of the added files of which one of these sinks is still to be told."""
    marks = ", ".join("?" * len(sinks))
    rows = bulk.select(
        reader,
        "SELECT t.tid FROM added_file t JOIN catalogue_row r"
        f" ON r.kind = {Kind.ADDED:d} AND r.ref = t.id"
        f" AND r.sink IN (SELECT id FROM catalogue_sink WHERE name IN ({marks}))"
        f" WHERE t.tid IN {bulk.PLACE}",
        sinks,
        sorted(tids),
    )
    return {tid for (tid,) in rows}


_PATH = 2
_REFUSED = "SELECT s.name, t.tid, t.path, r.reason, r.refused_at FROM"


def refused(reader: Connection, sink: str | None, limit: int) -> list[RefusedRow]:
    """Rows that sinks, or this one, have refused, the newest first, at most ``limit`` of a kind."""
    found = [one for kind in TABLES for one in _newest_refused(reader, kind, sink, limit)]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _newest_refused(
    reader: Connection, kind: Kind, sink: str | None, limit: int
) -> list[RefusedRow]:
    rows = reader.execute(
        f"{_REFUSED} catalogue_refused r CROSS JOIN catalogue_sink s ON s.id = r.sink"
        f" CROSS JOIN {TABLES[kind]} t ON t.id = r.ref"
        f" WHERE r.kind = {kind:d} AND (? IS NULL OR s.name = ?)"
        " ORDER BY r.refused_at DESC LIMIT ?",
        (sink, sink, limit),
    )
    return [RefusedRow(*row) for row in bounded(rows, _PATH)]


def refused_added(
    reader: Connection, sink: str | None, tids: Collection[bytes]
) -> list[RefusedRow]:
    """Of the files with these tids that were added by hand, what sinks, or this one, refused."""
    rows = bulk.select(
        reader,
        f"{_REFUSED} {TABLES[Kind.ADDED]} t CROSS JOIN catalogue_sink s"
        f" CROSS JOIN catalogue_refused r ON r.sink = s.id AND r.kind = {Kind.ADDED:d}"
        f" AND r.ref = t.id WHERE (? IS NULL OR s.name = ?) AND t.tid IN {bulk.PLACE}",
        (sink, sink),
        sorted(tids),
    )
    return sorted((RefusedRow(*row) for row in rows), key=lambda one: one.at, reverse=True)


# A sink that is told once more is told so of stretches of numbers, step by step: of all files, one
# kind after the other, if everything was asked for, then of what it has refused, likewise.
_ALL = tuple(Kind)
_REFUSED_ONES = {kind + len(_ALL): kind for kind in _ALL}


def retry(writer: Connection, sink: str | None) -> None:
    """Let sinks, or this one, be told again of what they have refused, step by step. What is told
    of everything comes to that, too."""
    writer.execute(
        f"UPDATE catalogue_sink SET again_kind = {min(_REFUSED_ONES):d}, again_after = 0"
        f" WHERE (? IS NULL OR name = ?) AND ifnull(again_kind, {len(_ALL)}) >= {len(_ALL)}",
        (sink, sink),
    )


def begin_again(writer: Connection, sink: str | None) -> None:
    """Let sinks, or this one, be told of everything that the ledger knows, step by step, and of
    what they have refused."""
    writer.execute(
        f"UPDATE catalogue_sink SET again_kind = {Kind.ADDED:d}, again_after = 0"
        " WHERE ? IS NULL OR name = ?",
        (sink, sink),
    )


def is_told_again(reader: Connection, sink: int) -> bool:
    """Whether a sink is still to be told of something once more."""
    found = reader.execute(
        "SELECT 1 FROM catalogue_sink WHERE id = ? AND again_kind IS NOT NULL", (sink,)
    )
    return found.fetchone() is not None


def go_on_again(writer: Connection, sink: int, limit: int) -> None:
    """Put the next rows of a sink that is told once more into its outbox, if there are any.

    Killed between two steps: it goes on from the last one.
    """
    place = writer.execute(
        "SELECT again_kind, again_after, sent FROM catalogue_sink WHERE id = ?", (sink,)
    ).fetchone()
    if place is None or place[0] is None:
        return
    stretch, after, sent = place
    if stretch in _REFUSED_ONES:
        last = _enqueue_refused(writer, sink, _REFUSED_ONES[stretch], after, limit)
    else:
        last = _enqueue(writer, sink, Kind(stretch), _states(sent), after, limit)
    if last is None:
        stretch, last = (None, None) if stretch == max(_REFUSED_ONES) else (stretch + 1, 0)
    writer.execute(
        "UPDATE catalogue_sink SET again_kind = ?, again_after = ? WHERE id = ?",
        (stretch, last, sink),
    )


def _states(sent: str) -> Mapping[Kind, str]:
    """Conditions on the rows of which a sink is to be told."""
    in_kafka = {"false": "0", "in-kafka": "state IN ('in_kafka', 'delivered')"}
    return {
        Kind.ADDED: "1",
        Kind.PUBLISHED: "state = 'published'",
        Kind.SENT: in_kafka.get(sent, "state = 'delivered'"),
    }


def _enqueue(
    writer: Connection, sink: int, kind: Kind, states: Mapping[Kind, str], after: int, limit: int
) -> int | None:
    """Put rows of a kind after number ``after`` into the outbox, also refused ones; the last number
    looked at."""
    table = TABLES[kind]
    (last,) = writer.execute(
        f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT ?)",
        (after, limit),
    ).fetchone()
    if last is not None:
        writer.execute(
            f"INSERT OR IGNORE INTO catalogue_row SELECT ?, {kind:d}, id FROM {table}"
            f" WHERE id > ? AND id <= ? AND {states[kind]}",
            (sink, after, last),
        )
        writer.execute(
            f"DELETE FROM catalogue_refused AS o WHERE sink = ? AND kind = {kind:d} AND ref > ?"
            " AND ref <= ? AND EXISTS (SELECT 1 FROM catalogue_row r WHERE r.sink = o.sink"
            " AND r.kind = o.kind AND r.ref = o.ref)",
            (sink, after, last),
        )
    return None if last is None else int(last)


def _enqueue_refused(
    writer: Connection, sink: int, kind: Kind, after: int, limit: int
) -> int | None:
    """Put refused rows of a kind after number ``after`` into the outbox; the last number."""
    of_it = f"FROM catalogue_refused WHERE sink = ? AND kind = {kind:d} AND ref > ?"
    (last,) = writer.execute(
        f"SELECT max(ref) FROM (SELECT ref {of_it} ORDER BY ref LIMIT ?)", (sink, after, limit)
    ).fetchone()
    if last is not None:
        some = (f"{of_it} AND ref <= ?", (sink, after, last))
        writer.execute(
            f"INSERT OR IGNORE INTO catalogue_row SELECT sink, kind, ref {some[0]}", some[1]
        )
        writer.execute(f"DELETE {some[0]}", some[1])
    return None if last is None else int(last)
