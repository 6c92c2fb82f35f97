"""What happened to transfers, in the order in which it did, from the times that their rows hold.

Nothing is written for this: a row says when it was queued, taken to be sent, in Kafka, and ended.
So events cost the way of the data nothing, outlive restarts, and are forgotten with their rows.
A follower keeps a place in each of three streams (new rows, and those that ended, of both
directions), and reads them on from there; what it holds doesn't grow with what it has read.

Everything here reads, in the caller's thread, on its own connection.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from sqlite3 import Connection
from typing import Any, NamedTuple

from kfd.control import Direction, State
from kfd.daemon.ledger import bulk
from kfd.daemon.ledger.answersize import bounded


class Event(NamedTuple):
    """A transfer came to a state. Sorts by time; of one moment, in the order of the way."""

    at: float  # epoch seconds
    step: int
    id: int
    state: State
    direction: Direction
    tid: bytes
    route: str
    topic: str
    path: bytes
    size: int  # bytes
    reason: str


_PATH = Event._fields.index("path")
_UPLOAD = (
    "SELECT id, tid, route, topic, path, size, state, reason, queued_at, begun_at, acked_at,"
    " ended_at, chunk_size IS NOT NULL AND acked >= max(1, (size + chunk_size - 1) / chunk_size)"
    " FROM outgoing"
)
_DOWNLOAD = "SELECT id, tid, route, topic, path, size, state, reason, ended_at FROM incoming"
_AFTER = (
    " WHERE ended_at >= :at AND (ended_at > :at OR id > :id) ORDER BY ended_at, id LIMIT :limit"
)
_QUEUED, _SENDING, _IN_KAFKA, _ENDED = range(4)
_JITTER = 1.0  # seconds that a clock may go back without having been set back


class _Row(NamedTuple):
    """What is read of an outgoing transfer."""

    id: int
    tid: bytes
    route: str
    topic: str
    path: bytes
    size: int
    state: str
    reason: str
    queued_at: float
    begun_at: float | None
    acked_at: float | None
    ended_at: float | None
    whole: int  # all of it was acknowledged

    @property
    def at(self) -> float:
        """Its place in the stream of what ended."""
        return self.ended_at or 0.0

    @property
    def in_kafka_at(self) -> float | None:
        """When all of it was acknowledged, where it has come further since."""
        further = self.whole and self.state not in ("queued", "sending", "in_kafka")
        return self.acked_at if further and self.acked_at != self.ended_at else None

    def event(self, at: float, step: int, state: State) -> Event:
        return Event(
            at=at,
            step=step,
            id=self.id,
            state=state,
            direction=Direction.UPLOAD,
            tid=self.tid,
            route=self.route,
            topic=self.topic,
            path=self.path,
            size=self.size,
            reason=self.reason if step == _ENDED else "",
        )

    def events(self) -> Iterator[Event]:
        """All that has happened to it."""
        yield self.event(self.queued_at, _QUEUED, State.QUEUED)
        if self.begun_at is not None:
            yield self.event(self.begun_at, _SENDING, State.SENDING)
        if self.in_kafka_at is not None:
            yield self.event(self.in_kafka_at, _IN_KAFKA, State.IN_KAFKA)
        if self.ended_at is not None:
            yield self.event(self.ended_at, _ENDED, State(self.state))


def _uploads(reader: Connection, rest: str, values: dict[str, Any]) -> Iterator[_Row]:
    return (_Row(*row) for row in reader.execute(_UPLOAD + rest, values))


def _downloads(reader: Connection, rest: str, values: dict[str, Any]) -> Iterator[Event]:
    return (
        Event(
            *(ended_at, _ENDED, number, State(state), Direction.DOWNLOAD),
            *(tid, route, topic, path, size, reason),
        )
        for number, tid, route, topic, path, size, state, reason, ended_at in reader.execute(
            _DOWNLOAD + rest, values
        )
    )


@contextmanager
def _one_view(reader: Connection) -> Iterator[None]:
    """All reads within see the ledger as it was at the first of them."""
    reader.execute("BEGIN")
    try:
        yield
    finally:
        reader.execute("COMMIT")


def latest(reader: Connection, limit: int, since: float = 0.0) -> list[Event]:
    """The last ``limit`` events, none before ``since`` (epoch seconds), the oldest first.

    Raises :class:`KfdError` where their names are too long for one answer.
    """
    values = {"limit": limit}
    ended = " WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT :limit"
    rows = {
        row.id: row
        for rest in (
            " ORDER BY id DESC LIMIT :limit",
            " INDEXED BY outgoing_sending WHERE state = 'sending'",  # bounded by the feed
            ended,
        )
        for row in bounded(_uploads(reader, rest, values), _Row._fields.index("path"))
    }
    events = [event for row in rows.values() for event in row.events()]
    events += bounded(_downloads(reader, ended, values), _PATH)
    told = sorted(event for event in events if event.at >= since)[-limit:]
    return list(bounded(told, _PATH))


class Follower:
    """Reads on from where the events were when it was made.

    One that is behind by more than a read may miss that a file was being sent and in Kafka, if it
    has been delivered meanwhile; it misses nothing else.
    """

    def __init__(self, reader: Connection) -> None:
        with _one_view(reader):
            (self._last,) = reader.execute("SELECT coalesce(max(id), 0) FROM outgoing").fetchone()
            self._sent = _end_of(reader, "outgoing")
            self._received = _end_of(reader, "incoming")
            self._told = _sending(reader)  # ids of transfers of which it was told that they began

    def read(self, reader: Connection, limit: int) -> list[Event]:
        """The next events, in order: those of up to ``limit`` rows of each stream."""
        self._mind_the_clock()
        with _one_view(reader):
            new = list(_uploads(
                reader, " WHERE id > :id ORDER BY id LIMIT :limit",
                {"id": self._last, "limit": limit},
            ))  # fmt: skip
            sent = list(_uploads(reader, _AFTER, _after(self._sent, limit)))
            received = list(_downloads(reader, _AFTER, _after(self._received, limit)))
            begun = _begun(reader, _sending(reader) - self._told)
        # what comes after the end of a stream that wasn't read to its end has to wait
        ends = [rows[-1].at for rows in (sent, received) if len(rows) == limit]
        ends += [row.queued_at for row in new[limit - 1 :]]
        horizon = min(ends, default=math.inf)
        return sorted(
            [
                *self._queued(row for row in new if row.queued_at <= horizon),
                *self._begun(row for row in begun if (row.begun_at or 0) <= horizon),
                *self._ended(row for row in sent if row.at <= horizon),
                *self._arrived(event for event in received if event.at <= horizon),
            ]
        )

    def _queued(self, rows: Iterable[_Row]) -> Iterator[Event]:
        for row in rows:
            self._last = row.id
            yield row.event(row.queued_at, _QUEUED, State.QUEUED)

    def _begun(self, rows: Iterable[_Row]) -> Iterator[Event]:
        for row in rows:
            self._told.add(row.id)
            if row.begun_at is not None:
                yield row.event(row.begun_at, _SENDING, State.SENDING)

    def _ended(self, rows: Iterable[_Row]) -> Iterator[Event]:
        before = self._sent
        for row in rows:
            self._sent = (row.at, row.id)
            steps = [event for event in row.events() if event.step != _QUEUED]
            if row.in_kafka_at is not None and (row.in_kafka_at, row.id) <= before:
                steps = steps[-1:]  # the others have been told when it came into Kafka
            elif row.id in self._told:
                steps = [event for event in steps if event.step != _SENDING]
            self._told.discard(row.id)
            yield from steps

    def _arrived(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._received = (event.at, event.id)
            yield event

    def _mind_the_clock(self) -> None:
        """If the clock was set back, read on from there; a little may be told twice."""
        now = time.time()
        if now < max(self._sent[0], self._received[0]) - _JITTER:
            self._sent = self._received = (now - _JITTER, 0)


def _end_of(reader: Connection, table: str) -> tuple[float, int]:
    """Where the stream of what ended ends: time, and id."""
    row = reader.execute(
        f"SELECT ended_at, id FROM {table} WHERE ended_at IS NOT NULL"
        " ORDER BY ended_at DESC, id DESC LIMIT 1"
    ).fetchone()
    return row or (0.0, 0)


def _after(place: tuple[float, int], limit: int) -> dict[str, Any]:
    return {"at": place[0], "id": place[1], "limit": limit}


def _sending(reader: Connection) -> set[int]:
    """The ids of what is being sent; bounded by the feed."""
    rows = reader.execute(
        "SELECT id FROM outgoing INDEXED BY outgoing_sending WHERE state = 'sending'"
    )
    return {number for (number,) in rows}


def _begun(reader: Connection, numbers: set[int]) -> list[_Row]:
    rows = bulk.select(reader, f"{_UPLOAD} WHERE id IN {bulk.PLACE}", (), sorted(numbers))
    return [_Row(*row) for row in rows]
