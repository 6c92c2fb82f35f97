"""Which transfers a list is of: conditions on the ledger's rows, and where to look for them.

Where no index helps, only the newest :data:`MAX_LOOKED_AT` rows of each direction are looked at:
a question must not read years of history.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from sqlite3 import Connection

from kfd.control import ListParameters, State
from kfd.paths import escape

MAX_LOOKED_AT = 200_000  # rows
SHOWN = "shown"  # the function that gives a path as people see it

# An index of several states is used only where the statement names them all.
_GIVEN_UP = "outgoing INDEXED BY outgoing_given_up WHERE state IN ('failed', 'cancelled')"
_REFUSED = (
    "incoming INDEXED BY incoming_refused WHERE state IN ('quarantined', 'expired', 'superseded')"
)

# The states that have an index, in its words. What is being published has not been received until
# then. All others are looked for by their time, or among the newest rows.
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
_RECENT = f"{{table}} WHERE id > (SELECT coalesce(max(id), 0) - {MAX_LOOKED_AT} FROM {{table}})"
_ENDED = (
    "SELECT id FROM {table} INDEXED BY {table}_ended"
    " WHERE ended_at IS NOT NULL AND ended_at >= :since AND ended_at <= :until"
    f" ORDER BY ended_at DESC LIMIT {MAX_LOOKED_AT}"
)
_UNENDED: Mapping[str, str] = {
    "outgoing": " UNION SELECT id FROM outgoing WHERE state = 'queued'"
    " UNION SELECT id FROM outgoing WHERE state = 'sending'",
    "incoming": " UNION SELECT id FROM incoming WHERE state = 'publishing'",
}
_AT: Mapping[str, str] = {
    "outgoing": "coalesce(ended_at, queued_at)",
    "incoming": "coalesce(ended_at, :now)",
}


def teach(reader: Connection) -> None:
    """Give a connection what :func:`rows` asks of it."""
    reader.create_function(SHOWN, 1, escape, deterministic=True)


def rows(table: str, wanted: ListParameters) -> str:
    """``FROM`` what and ``WHERE``, for the rows of a table that are wanted; with :func:`values`.

    A name is also looked for as it is shown; only one with a backslash is shown as another.
    """
    return " AND ".join([_candidates(table, wanted), *_conditions(table, wanted)])


def values(wanted: ListParameters) -> dict[str, object]:
    """The values of what :func:`rows` asks for."""
    # a class of characters is negated by ^ there, and by ! in shells
    name = None if wanted.name is None else wanted.name.replace("[!", "[^")
    return {
        "route": wanted.route,
        "name": name,
        "below": f"*/{name}",
        "since": wanted.since or 0.0,
        "until": wanted.until or 1e12,
        "now": time.time(),
        **{f"key{at}": key for at, key in enumerate(wanted.meta or {})},
        **{f"value{at}": value for at, value in enumerate((wanted.meta or {}).values())},
    }


def looks_at_all(reader: Connection, wanted: ListParameters) -> bool:
    """Whether these rows are looked for among all that there are."""
    if wanted.state in _INDEXED:
        return True
    if _has_time(wanted):
        counted = f"SELECT count(*) < {MAX_LOOKED_AT} FROM ({_ENDED})"
    else:
        counted = f"SELECT coalesce(max(id) - min(id), 0) < {MAX_LOOKED_AT} FROM {{table}}"
    return all(
        reader.execute(counted.format(table=table), values(wanted)).fetchone()[0]
        for table in ("outgoing", "incoming")
    )


def _candidates(table: str, wanted: ListParameters) -> str:
    """Where to look."""
    if wanted.state in _INDEXED:
        return _INDEXED[wanted.state]
    if _has_time(wanted):
        ended = _ENDED.format(table=table)
        where = f"{table} WHERE id IN (SELECT id FROM ({ended}){_UNENDED[table]})"
    else:
        where = _RECENT.format(table=table)
    return where if wanted.state is None else f"{where} AND state = '{wanted.state.value}'"


def _has_time(wanted: ListParameters) -> bool:
    return wanted.since is not None or wanted.until is not None


def _conditions(table: str, wanted: ListParameters) -> Iterator[str]:
    if wanted.route is not None:
        yield "route = :route"
    if wanted.name is not None:
        text = "CAST(path AS TEXT)"
        texts = [text, f"{SHOWN}(path)"] if "\\" in wanted.name else [text]
        names = [":name"] if "/" in wanted.name else [":name", ":below"]
        yield f"({' OR '.join(f'{one} GLOB {name}' for one in texts for name in names)})"
    if wanted.since is not None:
        yield f"{_AT[table]} >= :since"
    if wanted.until is not None:
        yield f"{_AT[table]} <= :until"
    for at in range(len(wanted.meta or {})):
        yield (
            "EXISTS (SELECT 1 FROM json_each(meta) AS m"
            f" WHERE m.key = :key{at} AND m.value = :value{at})"
        )
