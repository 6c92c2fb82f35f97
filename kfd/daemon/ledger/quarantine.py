"""What arrived and couldn't be published, until somebody decides about it: operations on
``quarantine``, whose entries stand beside their rows of ``incoming``.

The row says that the transfer has ended here, and stays as long as its records may come again; the
entry says why it wasn't published, and whether its content is held. Contents are bounded in bytes
and number, entries in number: the oldest go first.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger.answersize import bounded

MOST_ENTRIES = 10_000  # of all routes; those of older ones are still in ``incoming``
NOT_WHOLE = "only what is whole and verified is kept"
TOO_LARGE = "it is larger than quarantine_max"
GIVEN_UP = "it was given up for newer content: quarantine_max"
NO_SPACE = "it was given up for files that needed the space: min_free"


@dataclass(frozen=True, slots=True)
class Entry:
    """A transfer in quarantine. ``note`` says why its content isn't held, where it isn't."""

    id: int
    route: str
    topic: str
    topic_id: str
    partition: int
    first_offset: int
    tid: bytes
    origin: str
    path: bytes
    generation: int
    size: int
    mtime_ns: int
    mode: int
    meta: str  # a JSON object of strings
    digest: bytes | None
    state: str  # quarantined; publishing while it is being released
    held: bool
    reason: str
    note: str
    entered_at: float


_ENTRY = (
    "SELECT i.id, i.route, i.topic, i.topic_id, i.partition, i.first_offset, i.tid, i.origin,"
    " i.path, i.generation, i.size, q.mtime_ns, q.mode, i.meta, i.digest, i.state, q.held,"
    " q.reason, q.note, q.entered_at FROM quarantine q JOIN incoming i ON i.id = q.id"
)
_PATH = 8
_ROW = "route = ? AND topic_id = ? AND partition = ? AND tid = ?"
_BESIDE = f"id IN (SELECT id FROM incoming WHERE {_ROW})"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a new entry says besides its row of ``incoming``."""

    id: int
    route: str
    origin: str
    path: bytes
    size: int
    mtime_ns: int
    mode: int
    digest: bytes | None
    reason: str


def enter(writer: Connection, one: Newcomer, *, whole: bool, limit: int) -> bool:
    """Enter what was just put on record as quarantined; whether its content is to be held.

    ``limit`` are the bytes that all contents may have. What is ``whole`` is held, and what it
    doesn't leave room for is given up; that of the same file with the same bytes goes first.
    """
    held = whole and one.size <= limit
    note = "" if held else TOO_LARGE if whole else NOT_WHOLE
    writer.execute(
        "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (one.id, one.route, one.size, one.mtime_ns, one.mode, held, one.reason, note, time.time()),
    )
    if held:
        _replace(writer, one)
        make_room(writer, limit)
    _forget_oldest(writer)
    return held


def _replace(writer: Connection, one: Newcomer) -> None:
    """A sender sends again what was refused: one copy of it is enough."""
    writer.execute(
        "UPDATE quarantine SET held = 0, note = 'the same bytes came again, and are kept once'"
        " WHERE held AND id != ? AND id IN (SELECT id FROM incoming"
        " WHERE id IN (SELECT id FROM quarantine WHERE held)"
        " AND (route, origin, path, digest) = (?, ?, ?, ?))",
        (one.id, one.route, one.origin, one.path, one.digest),
    )


def make_room(writer: Connection, limit: int) -> int:
    """Give up the oldest contents until all have at most ``limit`` bytes; how many."""
    return _give_up(writer, _oldest(writer, used(writer) - limit, None), GIVEN_UP)


def make_space(writer: Connection, routes: Collection[str], size: int) -> int:
    """Give up the oldest contents of routes until ``size`` bytes come free; how many."""
    return _give_up(writer, _oldest(writer, size, routes), NO_SPACE)


def _oldest(
    connection: Connection, size: int, routes: Collection[str] | None
) -> Sequence[tuple[int]]:
    """The ids of the oldest contents that have ``size`` bytes together."""
    chosen = []
    for number, route, length in connection.execute(
        "SELECT id, route, size FROM quarantine WHERE held ORDER BY id"
    ):
        if size <= 0:
            break
        if routes is None or route in routes:
            chosen.append((number,))
            size -= length
    return chosen


def _give_up(writer: Connection, ids: Sequence[tuple[int]], note: str) -> int:
    writer.executemany(
        "UPDATE quarantine SET held = 0, note = ? WHERE id = ?", [(note, *one) for one in ids]
    )
    return len(ids)


def _forget_oldest(writer: Connection) -> None:
    writer.execute(
        "DELETE FROM quarantine WHERE id <="
        " (SELECT id FROM quarantine ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (MOST_ENTRIES,),
    )


def take_out(writer: Connection, entry: Entry, name: bytes, status: tuple[int, int, int]) -> bool:
    """Before it is released: the intent to give it a name; false if that was begun or done already.

    ``status`` are device, inode and mtime (ns) of the content.
    """
    device, inode, mtime_ns = status
    return bool(
        writer.execute(
            "UPDATE incoming SET state = 'publishing', ended_at = NULL, reason = '', name = ?,"
            " device = ?, inode = ?, mtime_ns = ? WHERE id = ? AND state = 'quarantined'"
            " AND id IN (SELECT id FROM quarantine WHERE held)",
            (name, device, inode, mtime_ns, entry.id),
        ).rowcount
    )


def put_back(writer: Connection, rows: Sequence[Sequence[object]]) -> None:
    """What was to be released wasn't: these (route, topic id, partition, tid) are as before.
    Others than those in quarantine aren't touched."""
    writer.executemany(
        "UPDATE incoming SET state = 'quarantined', name = x'', device = 0, inode = 0,"
        " (reason, ended_at) = (SELECT reason, entered_at FROM quarantine q"
        " WHERE q.id = incoming.id)"
        f" WHERE {_ROW} AND state = 'publishing' AND id IN (SELECT id FROM quarantine)",
        rows,
    )


def leave(writer: Connection, rows: Sequence[Sequence[object]]) -> None:
    """These (route, topic id, partition, tid) are published."""
    writer.executemany(f"DELETE FROM quarantine WHERE {_BESIDE}", rows)


def purge(writer: Connection, ids: Iterable[int]) -> tuple[int, int]:
    """Delete entries, save those that are being released; how many, and the bytes of contents.

    Contents are removed after that.
    """
    count = size = 0
    for number in ids:
        for held, length in writer.execute(
            "DELETE FROM quarantine WHERE id = ? AND id NOT IN"
            " (SELECT id FROM incoming WHERE id = ? AND state = 'publishing')"
            " RETURNING held, size",
            (number, number),
        ).fetchall():
            count, size = count + 1, size + held * length
    return count, size


def entries(reader: Connection, route: str | None, limit: int) -> list[Entry]:
    """The newest entries (of a route), the newest first."""
    return _entries(
        reader, "(:route IS NULL OR q.route = :route)", {"route": route, "limit": limit}
    )


def find(reader: Connection, tid: bytes, route: str | None) -> list[Entry]:
    """The entries of a tid, or of those that end so; a few of them."""
    return _entries(
        reader,
        "substr(i.tid, -length(:tid)) = :tid AND (:route IS NULL OR q.route = :route)",
        {"tid": tid, "route": route, "limit": 3},
    )


def _entries(reader: Connection, where: str, values: Mapping[str, object]) -> list[Entry]:
    rows = reader.execute(f"{_ENTRY} WHERE {where} ORDER BY q.id DESC LIMIT :limit", values)
    return [Entry(*row) for row in bounded(rows, _PATH)]


def older(reader: Connection, before: float, route: str | None, limit: int) -> list[int]:
    """The ids of entries that were made before (epoch seconds)."""
    rows = reader.execute(
        "SELECT id FROM quarantine WHERE entered_at < ? AND (? IS NULL OR route = ?)"
        " ORDER BY id LIMIT ?",
        (before, route, route, limit),
    )
    return [number for (number,) in rows]


def held(reader: Connection, route: str) -> set[tuple[bytes, int]]:
    """Tid and partition of all of a route whose content is held."""
    rows = reader.execute(
        "SELECT i.tid, i.partition FROM quarantine q JOIN incoming i ON i.id = q.id"
        " WHERE q.held AND q.route = ?",
        (route,),
    )
    return set(rows.fetchall())


def has_ended(reader: Connection, route: str, tid: bytes, partition: int) -> bool:
    """Whether the ledger knows of this transfer at all."""
    row = reader.execute(
        "SELECT 1 FROM incoming WHERE tid = ? AND route = ? AND partition = ?",
        (tid, route, partition),
    ).fetchone()
    return row is not None


def used(reader: Connection, routes: Collection[str] | None = None) -> int:
    """The bytes of all contents, or of those of routes."""
    return sum(
        size
        for route, size in reader.execute(
            "SELECT route, sum(size) FROM quarantine WHERE held GROUP BY route"
        )
        if routes is None or route in routes
    )


def counts(reader: Connection) -> dict[str, int]:
    """How many entries each route has."""
    return dict(reader.execute("SELECT route, count(*) FROM quarantine GROUP BY route").fetchall())


def published_as(reader: Connection, number: int) -> bytes | None:
    """The name of what was released; None if it wasn't."""
    row = reader.execute(
        "SELECT name FROM incoming WHERE id = ? AND state = 'published'", (number,)
    ).fetchone()
    return row[0] if row else None
