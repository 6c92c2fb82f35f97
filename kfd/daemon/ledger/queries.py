"""What people ask of the ledger: transfers by id, the newest ones, and counts by state.

Everything here reads, in the caller's thread, on its own connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from kfd.control import Direction, ListParameters, State, Transfer
from kfd.daemon.ledger import searching
from kfd.daemon.ledger.answersize import bounded
from kfd.errors import NoSuchTransferError, UsageError
from kfd.paths import to_json

_TAIL = 4  # bytes of a tid that its short form (8 hex digits) shows
_HALVES = 16  # rows of a tid, or of its tail, that are looked at

_UPLOAD = (
    "SELECT tid, 'upload', route, topic, :origin, path, size, state,"
    " CASE WHEN state IN ('in_kafka', 'delivered') THEN size"
    "      ELSE min(size, acked * coalesce(chunk_size, 0)) END,"
    " reason, fix, queued_at, ended_at, successor, format = 'kfd' FROM outgoing"
)
_DOWNLOAD = (
    "SELECT tid, 'download', route, topic, origin, path, size,"
    " CASE state WHEN 'publishing' THEN 'receiving' ELSE state END, size,"
    " reason, '', NULL, ended_at, NULL, TRUE FROM incoming"
)
_PATH = 5  # in both
_UPLOAD_STATES = frozenset(
    {State.QUEUED, State.SENDING, State.IN_KAFKA, State.DELIVERED, State.FAILED, State.CANCELLED}
)


def _transfer(row: Any) -> Transfer:  # a row of _UPLOAD or _DOWNLOAD: typed by the schema
    (tid, direction, route, topic, origin, path, size, state, done, *rest) = row
    reason, fix, queued_at, ended_at, successor, receipts = rest
    text, encoded = to_json(path)
    return Transfer(
        tid=tid.hex(),
        direction=Direction(direction),
        route=route,
        topic=topic,
        origin=origin,
        path=text,
        path_base64=encoded,
        size=size,
        state=State(state),
        done=done,
        reason=reason,
        fix=fix,
        queued_at=queued_at,
        ended_at=ended_at,
        successor=successor and successor.hex(),
        receipts=bool(receipts),
    )


def find(reader: Connection, origin: str, tid: str) -> Transfer:
    """The transfer with this id, or whose id ends so. Where this host both sent and received it,
    the sending.

    Raises :class:`UsageError` for what is no id or a tail that several transfers share, and
    :class:`NoSuchTransferError`.
    """
    key = _parse(tid)
    rows = _of_tid(reader, origin, key, _UPLOAD, "outgoing")
    if not rows or len(key) == _TAIL:
        rows += _of_tid(reader, origin, key, _DOWNLOAD, "incoming")
    if not rows:
        raise no_such(tid)
    return _of_one(rows, tid)[0]


def halves(reader: Connection, origin: str, tid: str) -> list[Transfer]:
    """As :func:`find`, all of it: the sending, then what each route has received; maybe nothing."""
    key = _parse(tid)
    rows = _of_tid(reader, origin, key, _UPLOAD, "outgoing")
    rows += _of_tid(reader, origin, key, _DOWNLOAD, "incoming")
    found = _of_one(rows, tid)
    return list({(one.direction, one.route): one for one in found}.values())


def no_such(tid: str) -> NoSuchTransferError:
    """For an id that no transfer has."""
    return NoSuchTransferError(f"no transfer has the id {tid}", fix="kfdctl list")


def _of_one(rows: list[tuple[Any, ...]], tid: str) -> list[Transfer]:
    """Rows that must be of one transfer."""
    if len({row[0] for row in rows}) > 1:
        raise UsageError(f"several transfers have an id that ends in {tid}", fix="give more digits")
    return [_transfer(row) for row in rows]


def _of_tid(
    reader: Connection, origin: str, key: bytes, select: str, table: str
) -> list[tuple[Any, ...]]:
    """The rows of a tid, or of its tail: for that the index of tids is gone through, which
    is quick enough for a question by hand, and spares each new file an index of its own."""
    which = "tid" if len(key) != _TAIL else "substr(tid, 13)"
    return reader.execute(
        f"{select} WHERE id IN (SELECT id FROM {table} WHERE {which} = :key"
        " LIMIT :most) ORDER BY id",
        {"origin": origin, "key": key, "most": _HALVES},
    ).fetchall()


def _parse(tid: str) -> bytes:
    try:
        key = bytes.fromhex(tid)
    except ValueError:
        key = b""
    if len(key) not in (_TAIL, 16):
        raise UsageError(
            f"{tid!r} is no transfer id", fix="give its 32 hex digits, or the last 8 of them"
        )
    return key


def newest(reader: Connection, origin: str, wanted: ListParameters) -> list[Transfer]:
    """The newest of the transfers that are wanted, of both directions, the newest first; all that
    there are if :func:`searching.looks_at_all`."""
    found: list[tuple[object, ...]] = []
    searching.teach(reader)
    values = {"origin": origin, "limit": wanted.limit, **searching.values(wanted)}
    for table, select in (("outgoing", _UPLOAD), ("incoming", _DOWNLOAD)):
        if wanted.state is not None and (wanted.state in _UPLOAD_STATES) is not (
            table == "outgoing"
        ):
            continue
        rows = reader.execute(
            f"{select} WHERE id IN (SELECT id FROM {searching.rows(table, wanted)}"
            " ORDER BY id DESC LIMIT :limit) ORDER BY id DESC",
            values,
        )
        found += bounded(rows, _PATH)
    transfers = [_transfer(row) for row in found]
    transfers.sort(key=lambda one: one.queued_at or one.ended_at or float("inf"), reverse=True)
    return transfers[: wanted.limit]


@dataclass(frozen=True, slots=True)
class Tally:
    """Transfers of one route and state: how many, their bytes, and the last that came to it."""

    direction: str
    route: str
    topic: str
    state: str
    count: int
    size: int
    last: bytes
    last_at: float | None


# Each reads nothing but the index of its state.
_UNFINISHED = " UNION ALL ".join(
    f"SELECT 'upload', route, topic, '{state}', count(*), sum(size), x'', NULL"
    f" FROM outgoing WHERE state = '{state}' GROUP BY route, topic"
    for state in ("queued", "sending")
)


def tallies(reader: Connection) -> list[Tally]:
    """The counts of all routes that ever moved something."""
    rows = reader.execute(f"SELECT * FROM tally UNION ALL {_UNFINISHED}")
    return [Tally(*row) for row in rows]
