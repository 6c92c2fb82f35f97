"""What people ask of the ledger: transfers by id, the newest ones, and counts by state.

Everything here reads, in the caller's thread, on its own connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from kfd.control import Direction, State, Transfer
from kfd.errors import NoSuchTransferError, UsageError
from kfd.paths import to_json

_TAIL = 4  # bytes of a tid that its short form (8 hex digits) shows

_UPLOAD = (
    "SELECT tid, 'upload', route, topic, :origin, path, size, state,"
    " CASE WHEN state IN ('in_kafka', 'delivered') THEN size"
    "      ELSE min(size, acked * coalesce(chunk_size, 0)) END,"
    " reason, fix, queued_at, ended_at, successor FROM outgoing"
)
_DOWNLOAD = (
    "SELECT tid, 'download', route, topic, origin, path, size,"
    " CASE state WHEN 'publishing' THEN 'receiving' ELSE state END, size,"
    " reason, '', NULL, ended_at, NULL FROM incoming"
)
_UPLOAD_STATES = frozenset(
    {State.QUEUED, State.SENDING, State.IN_KAFKA, State.DELIVERED, State.FAILED, State.CANCELLED}
)


def _transfer(row: Any) -> Transfer:  # a row of _UPLOAD or _DOWNLOAD: typed by the schema
    (tid, direction, route, topic, origin, path, size, state, done, *rest) = row
    reason, fix, queued_at, ended_at, successor = rest
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
        raise NoSuchTransferError(f"no transfer has the id {tid}", fix="kfdctl list")
    if len({row[0] for row in rows}) > 1:
        raise UsageError(f"several transfers have an id that ends in {tid}", fix="give more digits")
    return _transfer(rows[0])


def _of_tid(
    reader: Connection, origin: str, key: bytes, select: str, table: str
) -> list[tuple[Any, ...]]:
    """Up to three rows of a tid, or of its tail: for that the index of tids is gone through, which
    is quick enough for a question by hand, and spares each new file an index of its own."""
    which = "tid" if len(key) != _TAIL else "substr(tid, 13)"
    return reader.execute(
        f"{select} WHERE id IN (SELECT id FROM {table} WHERE {which} = :key LIMIT 3)",
        {"origin": origin, "key": key},
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


MAX_LOOKED_AT = 200_000  # rows: a question must not read years of history

# An index of several states is used only where the statement names them all.
_GIVEN_UP = "outgoing INDEXED BY outgoing_given_up WHERE state IN ('failed', 'cancelled')"
_REFUSED = (
    "incoming INDEXED BY incoming_refused WHERE state IN ('quarantined', 'expired', 'superseded')"
)

# The states that have an index, in its words. What is being published has not been received until
# then. All others are looked for among the newest rows.
_INDEXED: Mapping[State | None, str] = {
    State.QUEUED: "outgoing INDEXED BY outgoing_queued WHERE state = 'queued'",
    State.SENDING: "outgoing INDEXED BY outgoing_sending WHERE state = 'sending'",
    State.IN_KAFKA: "outgoing INDEXED BY outgoing_in_kafka WHERE state = 'in_kafka'",
    State.FAILED: f"{_GIVEN_UP} AND state = 'failed'",
    State.CANCELLED: f"{_GIVEN_UP} AND state = 'cancelled'",
    State.RECEIVING: "incoming INDEXED BY incoming_publishing WHERE state = 'publishing'",
    State.QUARANTINED: f"{_REFUSED} AND state = 'quarantined'",
    State.EXPIRED: f"{_REFUSED} AND state = 'expired'",
    State.SUPERSEDED: f"{_REFUSED} AND state = 'superseded'",
}


def newest(
    reader: Connection, origin: str, state: State | None, route: str | None, limit: int
) -> list[Transfer]:
    """The newest transfers of both directions, the newest first.

    Where no index helps, only the newest :data:`MAX_LOOKED_AT` rows of each direction are looked
    at.
    """
    rows: list[tuple[object, ...]] = []
    for table, select in (("outgoing", _UPLOAD), ("incoming", _DOWNLOAD)):
        if state is not None and (state in _UPLOAD_STATES) is not (table == "outgoing"):
            continue
        rows += reader.execute(
            f"{select} WHERE id IN (SELECT id FROM {_where(table, state)}"
            " AND (:route IS NULL OR route = :route) ORDER BY id DESC LIMIT :limit)"
            " ORDER BY id DESC",
            {"origin": origin, "route": route, "limit": limit},
        ).fetchall()
    transfers = [_transfer(row) for row in rows]
    transfers.sort(key=lambda one: one.queued_at or one.ended_at or float("inf"), reverse=True)
    return transfers[:limit]


def _where(table: str, state: State | None) -> str:
    """Where to look for transfers in a state."""
    if state in _INDEXED:
        return _INDEXED[state]
    recent = f"{table} WHERE id > (SELECT coalesce(max(id), 0) - {MAX_LOOKED_AT} FROM {table})"
    return recent if state is None else f"{recent} AND state = '{state.value}'"


def looks_at_all(reader: Connection, state: State | None) -> bool:
    """Whether :func:`newest` looks at all that there is."""
    if state in _INDEXED:
        return True
    return all(
        reader.execute(
            f"SELECT coalesce(max(id) - min(id), 0) < {MAX_LOOKED_AT} FROM {table}"
        ).fetchone()[0]
        for table in ("outgoing", "incoming")
    )


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
