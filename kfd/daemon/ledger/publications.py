"""Files on their way to their names: operations on ``incoming`` and ``incoming_path``, with the
receipts that go with them.

Before a rename there is an intent, a row in the state ``publishing``. It ends published, or is
withdrawn, and the file is read again; what can't be published gets a row that says why.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection

from kfd.daemon.ledger import bulk, catalogue, quarantine, receipts, scattered, tally
from kfd.daemon.ledger.incoming import by_partition
from kfd.daemon.ledger.quarantine import Newcomer
from kfd.daemon.ledger.receipts import Told
from kfd.daemon.ledger.tally import Ended
from kfd.transfer import Spread
from kfd.wire import Begin

NO_META: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Intent:
    """A rename that is about to happen, or was when the daemon was killed."""

    route: str
    topic: str
    topic_id: str
    partition: int
    tid: bytes
    origin: str
    path: bytes
    generation: int
    size: int
    mtime_ns: int
    name: bytes
    device: int
    inode: int
    held: bool = False  # it is a release from quarantine


@dataclass(frozen=True, slots=True)
class Received:
    """A transfer that was put together (or refused) here: what one row of ``incoming`` says."""

    route: str
    topic_id: str
    partition: int
    first_offset: int
    tid: bytes
    begin: Begin
    digest: bytes | None
    name: bytes  # relative to the route's directory; empty where nothing was published
    mtime_ns: int  # of the file, as its file system has rounded it
    device: int = 0
    inode: int = 0
    # the route's own metadata, above the sender's
    constants: Mapping[str, str] = field(default_factory=lambda: NO_META)
    spread: Spread | None = None  # over partitions, if its records are

    def intent(self) -> Intent:
        """To give the file its name."""
        begin = self.begin
        return Intent(
            *(self.route, begin.topic, self.topic_id, self.partition, self.tid, begin.origin),
            *(begin.path, begin.generation, begin.size, self.mtime_ns, self.name),
            *(self.device, self.inode),
        )


_INSERT = (
    "INSERT INTO incoming (route, topic, topic_id, tid, partition, first_offset, origin, path,"
    " generation, size, mtime_ns, digest, meta, state, name, device, inode, reason, ended_at)"
    " VALUES {rows}"
)
_KEY = "route = ? AND topic_id = ? AND partition = ? AND tid = ?"
_UPSERT_PATH = (
    "INSERT INTO incoming_path VALUES {rows} ON CONFLICT DO UPDATE SET"
    " generation = excluded.generation, name = excluded.name, device = excluded.device,"
    " inode = excluded.inode, size = excluded.size, mtime_ns = excluded.mtime_ns"
    " WHERE excluded.generation > generation"
)


def intend(writer: Connection, batch: Sequence[Received]) -> None:
    """Before the renames: which inode is to get which name."""
    bulk.execute(writer, _INSERT, [_row(one, "publishing", "", None) for one in batch])
    _note_spreads(writer, batch)


def rename_intent(writer: Connection, one: Received) -> None:
    """Before a rename to another name than the one intended first."""
    writer.execute(f"UPDATE incoming SET name = ? WHERE {_KEY}", (one.name, *_key(one)))


def withdraw(writer: Connection, batch: Iterable[Received | Intent]) -> None:
    """The renames of these did not happen; they will be read again, or stay in quarantine."""
    keys = [_key(one) for one in batch]
    if keys:
        quarantine.put_back(writer, keys)
        writer.executemany(f"DELETE FROM incoming WHERE {_KEY} AND state = 'publishing'", keys)


def conclude(
    writer: Connection, published: Sequence[Received], skipped: Sequence[Received]
) -> None:
    """After the renames are durable: ``published`` are; of ``skipped`` no rename was tried."""
    withdraw(writer, skipped)
    _publish(writer, [one.intent() for one in published])
    told = [_told(one, "published", None, "") for one in published if one.begin.instance]
    receipts.enqueue(writer, told)


def intents(reader: Connection, route: str) -> list[Intent]:
    """Renames that an earlier life of the daemon may or may not have done."""
    rows = reader.execute(
        "SELECT route, topic, topic_id, partition, tid, origin, path, generation, size, mtime_ns,"
        " name, device, inode, id IN (SELECT id FROM quarantine)"
        " FROM incoming WHERE state = 'publishing' AND route = ?",
        (route,),
    )
    return [Intent(*row) for row in rows]


def settle(
    writer: Connection, route: str, published: Sequence[Intent], void: Sequence[Intent]
) -> None:
    """The outcome of :func:`intents`: what was published after all, and what is read again."""
    withdraw(writer, void)
    _publish(writer, published)
    quarantine.leave(writer, [_key(one) for one in published if one.held])
    for (topic_id, partition), tids in _places(published).items():
        nobodys = scattered.tids(writer, route, topic_id, tids)  # no sender waits for receipts
        told = [tid for tid in tids if tid not in nobodys]
        receipts.repeat(writer, route, topic_id, partition, told)


def reject(
    writer: Connection,
    batch: Iterable[tuple[Received, str, str]],
    keep: int | None = None,
) -> list[bool]:
    """These ended unpublished: (transfer, state, reason); the state is ``quarantined``,
    ``superseded`` or ``expired``. For each, whether its content is to be held in quarantine.

    ``keep``: they are whole, and what quarantine holds may have so many bytes; None: they aren't.
    """
    now = time.time()
    held = []
    for one, state, reason in batch:
        withdraw(writer, [one])
        row = _row(one, state, reason, now)
        rows = bulk.execute(writer, _INSERT + " ON CONFLICT DO NOTHING RETURNING id", [row])
        if rows:
            tally.count(writer, "download", [_ended(one, state)], now)
            _note_spreads(writer, [one])
            if one.begin.instance:
                receipts.enqueue(writer, [_told(one, state, _newest(writer, one), reason)])
        if rows and state == "quarantined":
            new = _newcomer(one, rows[0][0], reason)
            held.append(quarantine.enter(writer, new, whole=keep is not None, limit=keep or 0))
        else:
            held.append(False)
    return held


def _note_spreads(writer: Connection, batch: Sequence[Received]) -> None:
    rows = [
        scattered.Row(one.route, one.topic_id, one.tid, one.begin, one.spread)
        for one in batch
        if one.spread is not None
    ]
    if rows:
        scattered.note(writer, rows)


def _newcomer(one: Received, number: int, reason: str) -> Newcomer:
    begin = one.begin
    return Newcomer(
        *(number, one.route, begin.origin, begin.path, begin.size, begin.mtime_ns, begin.mode),
        *(one.digest, reason),
    )


def _publish(writer: Connection, done: Sequence[Intent]) -> None:
    """These have their names, durably."""
    now = time.time()
    tally.count(
        writer,
        "download",
        [Ended(one.route, one.topic, "published", one.size, one.name or one.path) for one in done],
        now,
    )
    _mark_published(writer, done, now)
    paths = [
        (
            *(one.route, one.topic_id, one.origin, one.path, one.generation, one.name),
            *(one.device, one.inode, one.size, one.mtime_ns),
        )
        for one in done
    ]
    bulk.execute(writer, _UPSERT_PATH, paths)


def _mark_published(writer: Connection, done: Sequence[Intent], now: float) -> None:
    """All of one route; a statement for each of its partitions."""
    for place, tids in _places(done).items():
        bulk.select(
            writer,
            "UPDATE incoming SET state = 'published', ended_at = ?"
            " WHERE route = ? AND topic_id = ? AND partition = ? AND tid IN {rows}",
            (now, done[0].route, *place),
            tids,
        )
        catalogue.published(writer, done[0].route, *place, tids)


def _places(done: Iterable[Intent]) -> dict[tuple[str, int], list[bytes]]:
    return by_partition((one.topic_id, one.partition, one.tid) for one in done)


def _key(one: Received | Intent) -> tuple[object, ...]:
    return one.route, one.topic_id, one.partition, one.tid


def _row(one: Received, state: str, reason: str, now: float | None) -> tuple[object, ...]:
    begin = one.begin
    return (
        *(one.route, begin.topic, one.topic_id, one.tid, one.partition, one.first_offset),
        *(begin.origin, begin.path, begin.generation, begin.size, one.mtime_ns, one.digest),
        *(
            json.dumps({**begin.meta, **one.constants}),
            state,
            one.name,
            one.device,
            one.inode,
            reason,
            now,
        ),
    )


def _newest(writer: Connection, one: Received) -> int | None:
    """The generation of the newest version of a file that was published, as far as is known."""
    row = writer.execute(
        "SELECT generation FROM incoming_path"
        " WHERE route = ? AND topic_id = ? AND origin = ? AND path = ?",
        (one.route, one.topic_id, one.begin.origin, one.begin.path),
    ).fetchone()
    return row[0] if row else None


def _told(one: Received, state: str, newest: int | None, reason: str) -> Told:
    """What the sender of a transfer that ends here is to be told."""
    receipt = receipts.ended(one.tid, state, one.digest, one.begin.generation, newest, reason)
    return Told(one.begin.topic, one.begin.instance, receipt)


def _ended(one: Received, state: str) -> Ended:
    return Ended(one.route, one.begin.topic, state, one.begin.size, one.name or one.begin.path)
